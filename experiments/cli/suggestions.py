"""Answers to mistakes on the command line: the reason, and a suggestion of what was meant."""

import difflib
import re
from collections.abc import Sequence

from absl import flags

from experiments.cli.config_files import list_configs
from experiments.cli.shared_flags import SHARED_FLAGS
from experiments.cli.words import Word, last_value, show

FLAGS = flags.FLAGS
_EXPECTED = {
    "int": "expected an integer",
    "float": "expected a number",
    "bool": "expected true or false",
}


def explain(error: flags.Error, words: list[Word], flag_names: Sequence[str]) -> str:
    """Return one line for a mistake that absl found, from the words of its own message."""
    if isinstance(error, flags.UnrecognizedFlagError):
        word = Word(error.flagname, last_value(words, error.flagname))
        return f"{show(word)}: no such flag; {offer_flags(word.name, flag_names)}"
    if match := re.match(r"Missing value for flag --?(\S+)", str(error)):
        return f"--{match[1]}=: no value given; write --{match[1]}=VALUE"
    if match := re.match(r"flag --([^=]+)=(.*?): (.*)", str(error), re.DOTALL):
        name, value, reason = match.groups()
        value = "" if value == "None" else value  # absl's word for a flag that was not given
        return f"{show(Word(name, value))}: {_expectation(name, reason)}"
    return str(error)


def _expectation(name: str, reason: str) -> str:
    """Return what the value of a flag must be; absl's own `reason` where it says that well enough."""
    if "must have a value other than None" in reason:
        return f"required; give --{name}=VALUE"
    parser = FLAGS[name].parser if name in FLAGS else None
    if choices := getattr(parser, "enum_values", None):
        return f"choose one of {', '.join(choices)}"
    kind = parser.flag_type() if parser else ""
    is_type_error = "literal" in reason or "convert" in reason or "Non-boolean" in reason
    return _EXPECTED.get(kind, reason) if is_type_error else reason


def explain_stray(word: str) -> str:
    """Return one line for a word that belongs to no flag."""
    fix = f"did you mean --config={word}?" if word.endswith(".py") else "write --flag=value"
    return f"argument={word}: launchers take flags only; {fix}"


def offer_configs(file: str = "") -> str:
    """Return the configurations to choose from, the one most like `file` first."""
    configs = list_configs()
    if not configs:
        return "configs/ holds no .py file; write one"
    close = difflib.get_close_matches(file, configs, n=1)
    hint = f"did you mean {close[0]}? " if close else ""
    return f"{hint}choose one of {', '.join(configs)}"


def offer_fields(field: str, fields: list[str]) -> str:
    """Return the fields that may be meant: first those of the same name in other groups."""
    leaf = field.rpartition(".")[2]
    close = [name for name in fields if name.rpartition(".")[2] == leaf]
    close += [name for name in difflib.get_close_matches(field, fields) if name not in close]
    if close:
        return f"did you mean {' or '.join('--config.' + name for name in close[:3])}?"
    return f"the groups are {', '.join(sorted({name.partition('.')[0] for name in fields}))}"


def offer_flags(name: str, flag_names: Sequence[str]) -> str:
    """Return the flag most like an unknown one, or all to choose from."""
    known = [*flag_names, *SHARED_FLAGS]
    if close := difflib.get_close_matches(name.partition(".")[0].removeprefix("no"), known, n=1):
        return f"did you mean --{close[0]}?"
    return f"choose one of {', '.join('--' + flag for flag in known)}"
