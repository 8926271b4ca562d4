"""Help text of a launcher: its docstring, its own flags, then those of every launcher."""

import textwrap
from collections.abc import Sequence

from absl import flags

from experiments.cli.config_files import list_configs
from experiments.cli.shared_flags import DISTRIBUTED_FLAGS, SHARED_FLAGS

FLAGS = flags.FLAGS
_VERBOSITY_HELP = (
    "Least serious messages logged: -2 errors, -1 warnings, 0 progress, 1 debug. (default: 0)"
)
_WIDTH = 100


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
    shared = [n for n in SHARED_FLAGS if distributed or n not in DISTRIBUTED_FLAGS]
    lines += ["", "Flags of every launcher:", *map(_flag_usage, shared)]
    return "\n".join(lines)


def _flag_usage(name: str) -> str:
    """Return the flag's sentence with choices and default, wrapped to the width of a terminal."""
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
