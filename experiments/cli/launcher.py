"""Wrapper around every launcher: help, parsing, logging, errors as one line, exit codes.

A launcher defines its flags at module level and hands over:

    _CONFIG = config_flags.DEFINE_config_file("config")
    _DRY_RUN = flags.DEFINE_bool("dry_run", False, "Build everything, train nothing.")

    def main():
        from vdm import ...  # here, so that --help and mistakes answer without importing JAX

    if __name__ == "__main__":
        launcher.run(main, doc=__doc__)

Exit codes: 0 done, 1 unforeseen, 2 usage or configuration, 3 data, 4 non-finite, 5 checkpoint,
6 disk, 75 pre-empted and resumable, 130 interrupted for the second time.
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

from experiments.cli import agreement, failed_saves, listing, parsing
from experiments.cli.distributed import explain_loss, is_connected, join, leave
from experiments.cli.shared_flags import define_shared_flags
from experiments.cli.stdout import outlive_readers
from experiments.cli.usage import usage
from experiments.cli.utf8 import use_utf8
from vdm.errors import ConfigError, DiskError, NonFiniteError, Preempted, VdmError
from vdm.runs.config import flatten
from vdm.runtime.files import FULL_ERRNOS
from vdm.runtime.interruption import Early, Interrupted, raised_by_signals

FLAGS = flags.FLAGS
_HELP = {"--help", "-help", "-h", "-?", "--helpfull", "--helpshort"}
_LIST = {"--list", "-list", "--list=true"}
_ABORTED = 130
_DISK_ERRNOS = FULL_ERRNOS | {errno.EROFS}
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
    # First of all: importing JAX and preparing data take from seconds to hours.
    with raised_by_signals() as early:
        owns_process = argv is None
        if argv is None:
            argv = sys.argv
            use_utf8()
            outlive_readers()  # only where the process is the launcher's own
            early.leave = lambda: _leave_imports(early)
        # Read from the words, because parsing itself may be what fails.
        debug = any(word in ("--debug", "-debug", "--debug=true") for word in argv[1:])
        flag_names: list[str] = []
        try:
            define_shared_flags()
            flag_names += own_flags(argv[0])
            code = _run(main, doc, argv, flag_names, distributed)
        except (Exception, KeyboardInterrupt) as error:
            early.caught = True
            if debug:
                traceback.print_exc()
            message, code = describe(error, early)
            message, code, is_alone = _among_several(error, message, code)
            message = parsing.name_flags(message, flag_names)
            print(f"error: {' '.join(message.split())}", file=sys.stderr)
            # Aborted within a save, Orbax's threads never end, and Python would wait for them.
            if is_alone or (code == _ABORTED and owns_process):
                leave(code)
    sys.exit(code or 0)


def _leave_imports(early: Early) -> NoReturn:
    """End the process for a signal that came before anything was begun."""
    # Written and left without Python's own clean-up, which would need what is half imported.
    message = f"error: {_stopped(early.signal or '', 'nothing was written')}\n"
    os.write(2, message.encode())
    os._exit(Preempted.exit_code)


def _run(
    main: Callable[[], int | None],
    doc: str | None,
    argv: Sequence[str],
    flag_names: Sequence[str],
    distributed: bool,
) -> int | None:
    """Return the exit code of `main()`, or of the question that the command line asks instead.

    Args:
      main, doc, argv, distributed: see `run`.
      flag_names: names of the launcher's own flags.
    """
    if _HELP & set(argv[1:]):
        print(usage(doc, flag_names, distributed))
        return 0
    if "list" in flag_names and _LIST & set(argv[1:]) and Path("configs").is_dir():
        print(listing.format_configs())
        return 0
    _check_folder()
    parsing.parse(argv, flag_names)
    _set_up()
    _join(flag_names, distributed)
    return main()


def own_flags(program: str) -> list[str]:
    """Return the names of the flags that the launcher itself defined or asked for."""
    return [flag.name for flag in FLAGS.get_key_flags_for_module(program)]


def describe(error: BaseException, early: Early | None = None) -> tuple[str, int]:
    """Return the message and the exit code for an exception that reached the launcher.

    Args:
      error: the exception.
      early: the signal that came before the work began; an import or a library may have turned its
        exception into one of its own.
    """
    if early is not None and early.signal and not early.over:
        # Whatever it was turned into on its way, unless Ctrl-C came a second time.
        if type(error) is not KeyboardInterrupt:
            return _stopped(early.signal, "nothing was written"), Preempted.exit_code
    if isinstance(error, VdmError):
        return str(error), error.exit_code
    if isinstance(error, Interrupted):
        return _stopped(error.signal, "nothing unfinished was written"), Preempted.exit_code
    if isinstance(error, KeyboardInterrupt):
        return "interrupted", _ABORTED
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


def _among_several(error: BaseException, message: str, code: int) -> tuple[str, int, bool]:
    """Return the message, the exit code, and whether other processes have no part in this end.

    Errors of ours reach every process. One of JAX's comes of another process that is gone, or is this
    process's own, of which the others know nothing.

    Args:
      error: the exception.
      message, code: what `describe` says of it.
    """
    if isinstance(error, VdmError) or not is_connected():
        return message, code, False
    if isinstance(error, Exception) and (lost := explain_loss(str(error).partition("\n")[0])):
        return lost, Preempted.exit_code, True
    return message, code, True


def _stopped(name: str, written: str) -> str:
    return f"stopped by {name}; {written}; start it again with the same command"


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
    if "workdir" in flag_names and not _workdir(flag_names):
        raise ConfigError("--workdir: needed with --distributed, a folder that all processes share")

    # Imported here: JAX is not to be imported before this.
    from experiments.cli.signals import forward_to_jax

    join(
        FLAGS.coordinator,
        FLAGS.num_processes,
        FLAGS.process_id,
        {**_settings(flag_names), **agreement.gather(_workdir(flag_names))},
        FLAGS.join_timeout_seconds,
    )
    forward_to_jax()


def _workdir(flag_names: Sequence[str]) -> str | None:
    """Return the work folder of a launcher that has that flag."""
    return FLAGS["workdir"].value if "workdir" in flag_names else None


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
