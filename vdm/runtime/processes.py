"""Several processes that run one program: what only the first does, and what all must agree on.

All functions but `is_first` are collective: every process must call them, in the same order.
"""

import hashlib
from collections.abc import Callable
from typing import TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

from vdm.errors import ConfigError, VdmError

Result = TypeVar("Result")


class ElsewhereError(VdmError):
    """A failure of another process, whose own output says why; `exit_code` is the other's."""

    def __init__(self, index: int, exit_code: int):
        super().__init__(f"process {index} of {jax.process_count()} failed; its output says why")
        self.exit_code = exit_code


def is_first() -> bool:
    """Return whether this process is the one that writes files and prints."""
    return jax.process_index() == 0


def together(work: Callable[[], Result]) -> Result:
    """Call `work`, and raise in every process if it failed in one.

    Without it the others would wait forever for the failed process in their next exchange. `work`
    itself must exchange nothing: the process that fails would not take part.

    Raises:
      ElsewhereError: it failed in another process only.
    """
    if jax.process_count() == 1:
        return work()

    # The exception is kept until all exit codes are exchanged, and raised only then.
    result, error = None, None
    try:
        result = work()
    except Exception as exception:
        error = exception
    exchange(0 if error is None else getattr(error, "exit_code", 1))
    if error is not None:
        raise error
    return result  # type: ignore[return-value]


def exchange(code: int) -> None:
    """Tell all processes this one's exit code; one that fails itself only tells.

    Raises:
      ElsewhereError: `code` is 0 and another process has failed.
    """
    codes = multihost_utils.process_allgather(np.int32(code))
    for index in np.flatnonzero(codes) if code == 0 else ():
        raise ElsewhereError(int(index), int(codes[index]))


def first_only(work: Callable[[], object]) -> None:
    """Call `work` in the first process alone; the others wait, and raise if it failed."""
    together(lambda: work() if is_first() else None)


def check_same(name: str, text: str) -> None:
    """Raise ConfigError in every process unless `text` is the same in all.

    Args:
      name: name of the compared value, for the message.
      text: this process's value, such as a configuration as JSON.
    """
    if jax.process_count() == 1:
        return
    # A hash has a fixed size, as an exchange of arrays requires.
    digest = np.frombuffer(hashlib.sha256(text.encode()).digest(), np.uint8)
    digests = multihost_utils.process_allgather(digest)
    differing = [str(i) for i, row in enumerate(digests) if not np.array_equal(row, digests[0])]
    if differing:
        raise ConfigError(
            f"{name}: process {', '.join(differing)} has other than process 0 (here: {text[:16]}); "
            "give all processes the same"
        )


def from_first(flag: bool) -> bool:
    """Return the first process's `flag`, in every process.

    Decisions that depend on files need it, because another process may see a file earlier or later.
    """
    if jax.process_count() == 1:
        return flag
    return bool(multihost_utils.broadcast_one_to_all(np.int32(flag)))
