"""The wrapper around every launcher: usage, parsing, logging, errors as one line, exit codes.

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

from experiments.cli import listing, parsing
from experiments.cli.config_files import list_configs
from experiments.cli.stdout import outlive_readers
from vdm.errors import ConfigError, DiskError, NonFiniteError, VdmError
from vdm.runs.config import flatten

FLAGS = flags.FLAGS
_HELP = {"--help", "-help", "-h", "-?", "--helpfull", "--helpshort"}
_DISK_ERRNOS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}
_LEVELS = {-3: "CRITICAL", -2: "ERROR", -1: "WARNING", 0: "INFO", 1: "DEBUG"}
_VERBOSITY_HELP = "Least serious messages to log: -2 errors, -1 warnings, 0 progress, 1 debug."


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
      argv: the command line, program first; by default `sys.argv`.
      distributed: whether `main` may run in several processes.
    """
    if argv is None:
        argv = sys.argv
        outlive_readers()  # only where the process is the launcher's own
    _define_shared_flags()
    own = own_flags(argv[0])
    if _HELP & set(argv[1:]):
        print(usage(doc, own))
        sys.exit(0)
    if (
        "list" in own
        and {"--list", "-list", "--list=true"} & set(argv[1:])
        and Path("configs").is_dir()
    ):
        print(listing.format_configs())
        sys.exit(0)
    # Read from the words, because parsing itself may be what fails.
    debug = any(word in ("--debug", "-debug", "--debug=true") for word in argv[1:])
    try:
        _check_folder()
        parsing.parse(argv, own)
        _set_up()
        _join(own, distributed)
        code = main()
    except (Exception, KeyboardInterrupt) as error:
        if debug:
            traceback.print_exc()
        message, code = describe(error)
        message = parsing.name_flags(message, own)
        print(f"error: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(code or 0)


def own_flags(program: str) -> list[str]:
    """Names of the flags that the launcher itself defined."""
    return [flag.name for flag in FLAGS.get_key_flags_for_module(program)]


def usage(doc: str | None, own: Sequence[str]) -> str:
    """The launcher's docstring and its flags; absl's dozens stay unlisted."""
    lines = [(doc or "").strip(), "", "Flags:"]
    for name in [*own, *parsing.SHARED_FLAGS]:
        flag = FLAGS[name]
        has_default = flag.default not in (None, "", []) and name != "config"
        default = f" (default: {flag.default})" if has_default else ""
        text = _VERBOSITY_HELP if name == "verbosity" else flag.help
        default = " (default: 0)" if name == "verbosity" else default
        choices = getattr(flag.parser, "enum_values", None)
        text = text.removeprefix(f"<{'|'.join(choices)}>: ") if choices else text
        text += f" One of {', '.join(choices)}." if choices else ""
        lines.append(f"  --{name}: {' '.join(text.split())}{default}")
    if "config" in own:
        lines.append("  --config.FIELD=VALUE: override one field, after --config.")
        lines.append(f"Configurations: {', '.join(list_configs()) or 'none in configs/'}")
    return "\n".join(lines)


def describe(error: BaseException) -> tuple[str, int]:
    """The message and the exit code for an exception that reached the launcher."""
    if isinstance(error, VdmError):
        return str(error), error.exit_code
    if isinstance(error, KeyboardInterrupt):
        return "interrupted", 130
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
        text = "Show full tracebacks, and stop at the first NaN."
        flags.DEFINE_bool("debug", False, text, module_name=__name__)
        _define_distributed_flags()


def _define_distributed_flags() -> None:
    text = "One of several processes; SLURM, Open MPI, GKE and TPU pods tell which."
    flags.DEFINE_bool("distributed", False, text, module_name=__name__)
    text = "HOST:PORT of process 0, where no cluster tells."
    flags.DEFINE_string("coordinator", None, text, module_name=__name__)
    for name, text in (
        ("num_processes", "How many processes there are, where no cluster tells."),
        ("process_id", "Which one this is, from 0, where no cluster tells."),
    ):
        flags.DEFINE_integer(name, None, text, lower_bound=0, module_name=__name__)
    text = "How long to wait for the other processes."
    flags.DEFINE_integer("join_timeout_seconds", 300, text, lower_bound=1, module_name=__name__)


def _join(own: Sequence[str], possible: bool) -> None:
    """With --distributed: wait for the other processes; they must have been given the same flags."""
    if not FLAGS.distributed:
        if FLAGS.num_processes is not None or FLAGS.process_id is not None or FLAGS.coordinator:
            given = "--coordinator, --num_processes and --process_id"
            raise ConfigError(f"{given} are for several processes; add --distributed")
        return
    if not possible:
        raise ConfigError("--distributed: this launcher runs in one process; leave it out")
    if "workdir" in own and not FLAGS["workdir"].value:
        raise ConfigError("--workdir: needed with --distributed, a folder that all processes share")
    from experiments.cli.distributed import join

    join(
        FLAGS.coordinator,
        FLAGS.num_processes,
        FLAGS.process_id,
        _settings(own),
        FLAGS.join_timeout_seconds,
    )


def _settings(own: Sequence[str]) -> dict[str, str]:
    """The values of the launcher's own flags and of every field of its configuration."""
    found = {f"--{name}": str(FLAGS[name].value) for name in own if name != "config"}
    if "config" in own:
        fields = flatten(FLAGS["config"].value)
        found |= {f"--config.{name}": repr(value) for name, value in fields.items()}
    return found


def _check_folder() -> None:
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
