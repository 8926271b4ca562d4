"""Wrapper around every launcher: help, parsing, logging, errors as one line, exit codes.

A launcher defines its flags at module level and hands over:

    _CONFIG = config_flags.DEFINE_config_file("config")
    _DRY_RUN = flags.DEFINE_bool("dry_run", False, "Build everything, train nothing.")

    def main():
        from vdm import ...  # here, so that --help and mistakes answer without importing JAX

    if __name__ == "__main__":
        launcher.run(main, doc=__doc__)

Exit codes: 0 done, 1 unforeseen, 2 usage or configuration, 3 data, 4 non-finite, 5 checkpoint,
6 disk, 75 pre-empted and resumable, 130 interrupted.
"""

import errno
import logging
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NoReturn

# Imported for its flag --verbosity.
import absl.logging  # noqa: F401
from absl import flags

from experiments.cli import failed_saves, listing, parsing
from experiments.cli.shared_flags import define_shared_flags
from experiments.cli.stdout import outlive_readers
from experiments.cli.usage import usage
from vdm.errors import ConfigError, DiskError, NonFiniteError, VdmError
from vdm.runs.config import flatten

FLAGS = flags.FLAGS
_HELP = {"--help", "-help", "-h", "-?", "--helpfull", "--helpshort"}
_LIST = {"--list", "-list", "--list=true"}
_DISK_ERRNOS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}
_LEVELS = {-3: "CRITICAL", -2: "ERROR", -1: "WARNING", 0: "INFO", 1: "DEBUG"}


def run(
    main: Callable[[], int | None],
    doc: str | None,
    argv: Sequence[str] | None = None,
    distributed: bool = False,
) -> NoReturn:
    """Parse the command line, call `main()`, and end the process with its exit code.

    Args:
      main: does the work; returns None (exit code 0) or an exit code.
      doc: the launcher's docstring, shown by `--help`.
      argv: the command line, program first; None reads `sys.argv`.
      distributed: whether `main` may run in several processes.

    Raises:
      SystemExit: always, with the exit code.
    """
    if argv is None:
        argv = sys.argv
        outlive_readers()  # only where the process is the launcher's own
    define_shared_flags()
    flag_names = own_flags(argv[0])
    if _HELP & set(argv[1:]):
        print(usage(doc, flag_names, distributed))
        sys.exit(0)
    if "list" in flag_names and _LIST & set(argv[1:]) and Path("configs").is_dir():
        print(listing.format_configs())
        sys.exit(0)

    # Read from the words, because parsing itself may be what fails.
    debug = any(word in ("--debug", "-debug", "--debug=true") for word in argv[1:])
    try:
        _check_folder()
        parsing.parse(argv, flag_names)
        _set_up()
        _join(flag_names, distributed)
        code = main()
    except (Exception, KeyboardInterrupt) as error:
        if debug:
            traceback.print_exc()
        message, code = describe(error)
        message = parsing.name_flags(message, flag_names)
        print(f"error: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(code or 0)


def own_flags(program: str) -> list[str]:
    """Return the names of the flags that the launcher itself defined or asked for."""
    return [flag.name for flag in FLAGS.get_key_flags_for_module(program)]


def describe(error: BaseException) -> tuple[str, int]:
    """Return the message and the exit code for an exception that reached the launcher."""
    if isinstance(error, VdmError):
        return str(error), error.exit_code
    if isinstance(error, KeyboardInterrupt):
        return "interrupted", 130
    # Before memory: TensorStore calls both exhausted.
    if _is_disk(error):
        return f"{error}; free some space or choose another folder", DiskError.exit_code
    if _is_out_of_memory(error):
        reason = str(error).strip().partition("\n")[0] or "out of memory"
        fix = "lower it, for example --config.train.batch_size=N"
        return f"config.train.batch_size: does not fit in memory ({reason}); {fix}", 2
    message = f"{type(error).__name__}: {error}"
    if isinstance(error, FloatingPointError):
        return message, NonFiniteError.exit_code
    return f"{message}; run again with --debug for the traceback", 1


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """The exception, then those that it was raised from or while handling."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _is_disk(error: BaseException) -> bool:
    # TensorStore gives a full disk as RESOURCE_EXHAUSTED too, without an errno.
    return any(
        (isinstance(e, OSError) and e.errno in _DISK_ERRNOS) or "No space left on device" in str(e)
        for e in _causes(error)
    )


def _is_out_of_memory(error: BaseException) -> bool:
    return isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error)


def _join(flag_names: Sequence[str], possible: bool) -> None:
    """With --distributed, wait for the other processes, which must have been given the same flags.

    Args:
      flag_names: names of the launcher's own flags.
      possible: whether the launcher can run in several processes.
    """
    if not FLAGS.distributed:
        if FLAGS.num_processes is not None or FLAGS.process_id is not None or FLAGS.coordinator:
            given = "--coordinator, --num_processes and --process_id"
            raise ConfigError(f"{given} are for several processes; add --distributed")
        return
    if not possible:
        raise ConfigError("--distributed: this launcher runs in one process; leave it out")
    if "workdir" in flag_names and not FLAGS["workdir"].value:
        raise ConfigError("--workdir: needed with --distributed, a folder that all processes share")

    # Imported here: JAX is not to be imported by those who run in one process.
    from experiments.cli.distributed import join

    join(
        FLAGS.coordinator,
        FLAGS.num_processes,
        FLAGS.process_id,
        _settings(flag_names),
        FLAGS.join_timeout_seconds,
    )


def _settings(flag_names: Sequence[str]) -> dict[str, str]:
    """The values of the launcher's own flags and of every field of its configuration."""
    settings = {f"--{name}": str(FLAGS[name].value) for name in flag_names if name != "config"}
    if "config" in flag_names:
        fields = flatten(FLAGS["config"].value)
        settings |= {f"--config.{name}": repr(value) for name, value in fields.items()}
    return settings


def _check_folder() -> None:
    """ConfigError outside the repository's root, to which paths of configurations are relative."""
    if not Path("configs").is_dir():
        root = Path(__file__).resolve().parents[2]
        message = f"cwd={Path.cwd()}: has no configs/ folder; start from the repository root: "
        raise ConfigError(message + f"cd {root}")


def _set_up() -> None:
    """Apply --verbosity and --debug."""
    flag = FLAGS["verbosity"]
    # absl's default is -1 where nobody sets it, which would hide the progress.
    verbosity = 0 if flag.using_default_value else int(flag.value or 0)
    level = _LEVELS[min(max(verbosity, -3), 1)]
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    for name in ("vdm", "experiments", "__main__"):
        logging.getLogger(name).setLevel(level)
    # Orbax and JAX log each step of each save: theirs only from --verbosity=1 on.
    others = level if level != "INFO" else "ERROR"
    for name in ("absl", "jax", "orbax"):
        logging.getLogger(name).setLevel(others)
    if level != "DEBUG" and not FLAGS.debug:
        failed_saves.report_once()
    if FLAGS.debug:
        os.environ["JAX_DEBUG_NANS"] = "true"
        if "jax" in sys.modules:  # too late for the environment
            sys.modules["jax"].config.update("jax_debug_nans", True)
