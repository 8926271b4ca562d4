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
import textwrap
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NoReturn

# Imported for its flag --verbosity.
import absl.logging  # noqa: F401
from absl import flags

from experiments.cli import listing, parsing
from experiments.cli.config_files import list_configs
from experiments.cli.stdout import outlive_readers
from vdm.errors import ConfigError, DiskError, NonFiniteError, VdmError
from vdm.runs.config import flatten

FLAGS = flags.FLAGS
_HELP = {"--help", "-help", "-h", "-?", "--helpfull", "--helpshort"}
_LIST = {"--list", "-list", "--list=true"}
_DISK_ERRNOS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}
_LEVELS = {-3: "CRITICAL", -2: "ERROR", -1: "WARNING", 0: "INFO", 1: "DEBUG"}
_VERBOSITY_HELP = (
    "Least serious messages logged: -2 errors, -1 warnings, 0 progress, 1 debug. (default: 0)"
)
_WIDTH = 100


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
    _define_shared_flags()
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


def usage(doc: str | None, flag_names: Sequence[str], distributed: bool = False) -> str:
    """Return the text of `--help`: the docstring and the flags; absl's dozens stay unlisted.

    Args:
      doc: the launcher's docstring.
      flag_names: names of the launcher's own flags.
      distributed: whether the launcher takes the flags of several processes.
    """
    lines = [(doc or "").strip(), "", "Flags:"]
    lines += [_flag_usage(name) for name in flag_names]
    if "config" in flag_names:
        lines.append("  --config.FIELD=VALUE: Override one field; given after --config.")
        lines.append(f"Configurations: {', '.join(list_configs()) or 'none in configs/'}")
    shared = [n for n in parsing.SHARED_FLAGS if distributed or n not in parsing.DISTRIBUTED_FLAGS]
    lines += ["", "Flags of every launcher:", *map(_flag_usage, shared)]
    return "\n".join(lines)


def _flag_usage(name: str) -> str:
    """The flag's sentence with its choices and its default, wrapped to the width of a terminal."""
    flag = FLAGS[name]
    if name == "verbosity":
        text = _VERBOSITY_HELP  # absl's own text and default are not those of a launcher
    else:
        text = flag.help.partition("; repeat this option")[0]  # absl's, on flags given many times
        choices = getattr(flag.parser, "enum_values", None)
        text = text.removeprefix(f"<{'|'.join(choices)}>: ") if choices else text
        text += f" One of {', '.join(choices)}." if choices else ""
        if flag.default not in (None, "", []) and name != "config":
            default = ",".join(flag.default) if isinstance(flag.default, list) else flag.default
            text += f" (default: {default})"
    words = f"--{name}: {' '.join(text.split())}"
    # Hyphens and long words stay whole, so that a flag, a path or a choice can be copied.
    return textwrap.fill(
        words,
        _WIDTH,
        initial_indent="  ",
        subsequent_indent="      ",
        break_long_words=False,
        break_on_hyphens=False,
    )


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


def _define_shared_flags() -> None:
    # Here, not at import: a module that only imports this one must not gain flags.
    if "debug" not in FLAGS:
        text = "Print the whole traceback of an error, and stop at the first NaN."
        flags.DEFINE_bool("debug", False, text, module_name=__name__)
        _define_distributed_flags()


def _define_distributed_flags() -> None:
    text = (
        "Run as one of several processes that share the work; SLURM, Open MPI, GKE and TPU pods say "
        "which one, elsewhere the three flags that follow do."
    )
    flags.DEFINE_bool("distributed", False, text, module_name=__name__)
    told = "Default: as the cluster says."
    text = f"Address HOST:PORT at which process 0 is reached. {told}"
    flags.DEFINE_string("coordinator", None, text, module_name=__name__)
    for name, text in (
        ("num_processes", f"Number of processes. {told}"),
        ("process_id", f"Number of this process, from 0. {told}"),
    ):
        flags.DEFINE_integer(name, None, text, lower_bound=0, module_name=__name__)
    text = "Seconds that a process waits for the others to join before it gives up."
    flags.DEFINE_integer("join_timeout_seconds", 300, text, lower_bound=1, module_name=__name__)


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
    if FLAGS.debug:
        os.environ["JAX_DEBUG_NANS"] = "true"
        if "jax" in sys.modules:  # too late for the environment
            sys.modules["jax"].config.update("jax_debug_nans", True)
