"""Parsing of the command line, with every mistake a ConfigError that names argument, value and fix.

absl and ml_collections answer most mistakes with a traceback, or (a config file that does not
exist) with nothing until the configuration is first read. So a launcher that has a `--config`
flag gets its file and its overrides checked here first; absl then only has values to refuse.
"""

import difflib
import re
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from absl import flags
from ml_collections import config_dict, config_flags

from experiments.cli.config_files import list_configs, run_file
from experiments.cli.former_configs import present_name, present_words
from vdm.errors import ConfigError
from vdm.runs.config import flatten
from vdm.runs.former_fields import FORMER_NAMES

FLAGS = flags.FLAGS
DISTRIBUTED_FLAGS = (
    "distributed",
    "coordinator",
    "num_processes",
    "process_id",
    "join_timeout_seconds",
)
"""Flags of several processes, which every launcher has and some refuse."""

SHARED_FLAGS = ("debug", "verbosity", *DISTRIBUTED_FLAGS)
"""Flags that every launcher has."""

_EXPECTED = {
    "int": "expected an integer",
    "float": "expected a number",
    "bool": "expected true or false",
}


class Word(NamedTuple):
    """One flag on the command line, `--name=value` or `--name value`.

    Attributes:
      name: without dashes, such as "config.train.num_steps".
      value: "" where none is given.
    """

    name: str
    value: str


def parse(argv: Sequence[str], flag_names: Sequence[str]) -> None:
    """Fill `flags.FLAGS` from the command line.

    Args:
      argv: the command line, program first.
      flag_names: names of the launcher's own flags, offered when an unknown one is given.

    Raises:
      ConfigError: for any mistake, as one line.
    """
    if "config" in flag_names:
        argv = present_words(argv)
    # The configuration first: absl would read it only when it is used, and then with a traceback.
    words = read_words(argv[1:])
    default = _check_config(words) if "config" in flag_names else None

    # absl otherwise stops at the first positional and drops every flag behind it.
    FLAGS.set_gnu_getopt(True)
    try:
        stray = FLAGS(list(argv))[1:]
    except flags.Error as error:
        raise ConfigError(_explain(error, words, flag_names)) from error
    if stray:
        raise ConfigError(_explain_stray(stray[0]))
    # Last: only now do the flags hold the overridden values.
    if default is not None:
        _check_tuples(default, FLAGS["config"], words)


def read_words(argv: Sequence[str]) -> list[Word]:
    """Return the flags among the words of a command line, in order; those after `--` are none."""
    words = []
    for word, after in zip(argv, [*argv[1:], "--"], strict=False):
        if word == "--":
            break
        if match := re.fullmatch(r"--?([A-Za-z][^=\s]*)(?:=(.*))?", word, re.DOTALL):
            # `--name value`: the value is the next word, unless that is a flag itself.
            following = "" if after.startswith("--") else after
            words.append(Word(match[1], following if match[2] is None else match[2]))
    return words


def name_flags(message: str, flag_names: Sequence[str]) -> str:
    """Return a message of the library, which names arguments, with those that are flags as flags.

    Args:
      message: such as "step=best: ..., or another workdir", which names --step and --workdir then.
      flag_names: names of the launcher's own flags.
    """
    names = "|".join(map(re.escape, flag_names))
    # Neither within a word, a path, a dotted field or an option of a bound (ode:solver=), nor where
    # the dashes are there already.
    pattern = rf"(?<![\w.:\-/])(another )?({names})(?(1)\b|(?==))"
    return re.sub(pattern, r"\1--\2", message) if flag_names else message


def _check_config(words: list[Word]) -> config_dict.ConfigDict:
    """The configuration without its overrides, once file and overrides are known to be good.

    Raises:
      ConfigError: no file or two, an override before its file, or one of a field that does not exist.
    """
    places = [i for i, word in enumerate(words) if word.name == "config"]
    overrides = [i for i, word in enumerate(words) if _field(word.name)]
    if len(places) > 1:
        shown = " ".join(f"--config={words[i].value}" for i in places)
        raise ConfigError(f"{shown}: given {len(places)} times; keep one")
    if not places or not words[places[0]].value:
        first = words[overrides[0]] if overrides and not places else Word("config", "")
        raise ConfigError(f"{_show(first)}: no configuration given; {_offer_configs()}")

    # ml_collections applies an override to the configuration that it has read by then.
    if early := [i for i in overrides if i < places[0]]:
        fix = f"put --config={words[places[0]].value} before it"
        raise ConfigError(f"{_show(words[early[0]])}: an override before its file; {fix}")

    config = load_config(words[places[0]].value)
    for i in overrides:
        check_field(config, words[i])
    return config


def load_config(path: str) -> config_dict.ConfigDict:
    """Return what `get_config()` of a configuration file returns.

    Args:
      path: FILE.py, or FILE.py:VARIANT, which `get_config` is then given; a former name is told its new
        one and read as that.

    Raises:
      ConfigError: no such file or variant, or its code raises, or it returns no ConfigDict.
    """
    path = present_name(path)
    file, *arguments = path.split(":", 1)
    if not Path(file).is_file() or not file.endswith(".py"):
        raise ConfigError(f"--config={path}: no such Python file; {_offer_configs(file)}")
    # Any exception: the file is the user's own code, and a line of it is named.
    try:
        config = run_file(file, *arguments)
    except ConfigError:
        raise
    except Exception as error:
        line = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{Path(line.filename).name}:{line.lineno}"
        reason = f"{type(error).__name__}: {error}"
        raise ConfigError(f"--config={path}: {reason} (at {where}); fix the file") from error
    if not isinstance(config, config_dict.ConfigDict):
        kind = type(config).__name__
        raise ConfigError(f"--config={path}: get_config() gave {kind}; return a ConfigDict")
    return config


def _field(name: str) -> str | None:
    """`train.steps` from `config.train.steps` or `noconfig.train.steps`, a switch off; else None."""
    match = re.fullmatch(r"(?:no)?config\.(.+)", name)
    return match[1] if match else None


def check_field(config: config_dict.ConfigDict, word: Word) -> None:
    """Raise ConfigError unless `word` names a field that can be overridden.

    Args:
      config: the configuration.
      word: such as --config.train.num_steps=10.
    """
    field = _field(word.name) or ""
    fields = flatten(config)
    inside = [name for name in fields if name.startswith(field + ".")]
    if inside:
        some = ", ".join(f"--config.{name}" for name in inside[:4])
        raise ConfigError(f"{_show(word)}: a group of fields; set one of them, such as {some}")
    if field not in fields and field in FORMER_NAMES:
        present = FORMER_NAMES[field]
        raise ConfigError(f"{_show(word)}: this field is now --config.{present}={word.value}")
    if field not in fields:
        raise ConfigError(f"{_show(word)}: no such field; {_offer_fields(field, list(fields))}")

    # Only these types are read from text; a field of None has no type at all.
    group, _, leaf = field.rpartition(".")
    for name in filter(None, group.split(".")):
        config = config[name]
    kind = config.get_type(leaf)
    if kind not in (bool, int, float, str, tuple):
        fix = "set it in the configuration file"
        raise ConfigError(f"{_show(word)}: a field of type {kind.__name__} has no override; {fix}")


def _check_tuples(default: config_dict.ConfigDict, flag: Any, words: list[Word]) -> None:
    """ConfigError for elements of other types than the default's; ml_collections takes any."""
    before = flatten(default)
    for field, value in config_flags.get_override_values(flag).items():
        if not isinstance(value, tuple) or not before[field]:
            continue
        kinds = {type(element) for element in before[field]}
        # 1 is as good as 1.0, but 1.5 is no size.
        allowed = kinds | {int} if float in kinds else kinds
        if not all(type(element) in allowed for element in value):
            names = " or ".join(sorted(kind.__name__ for kind in kinds))
            name = f"config.{field}"
            example = ",".join(str(element) for element in before[field])
            shown = _show(Word(name, _value(words, name)))
            raise ConfigError(f"{shown}: expected a tuple of {names} such as {example}")


def _explain(error: flags.Error, words: list[Word], flag_names: Sequence[str]) -> str:
    """One line for a mistake that absl found, from the words of its own message."""
    if isinstance(error, flags.UnrecognizedFlagError):
        word = Word(error.flagname, _value(words, error.flagname))
        return f"{_show(word)}: no such flag; {_offer_flags(word.name, flag_names)}"
    if match := re.match(r"Missing value for flag --?(\S+)", str(error)):
        return f"--{match[1]}=: no value given; write --{match[1]}=VALUE"
    if match := re.match(r"flag --([^=]+)=(.*?): (.*)", str(error), re.DOTALL):
        name, value, reason = match.groups()
        return f"{_show(Word(name, value))}: {_expectation(name, reason)}"
    return str(error)


def _expectation(name: str, reason: str) -> str:
    """What the flag's value must be; absl's own `reason` where it says that well enough."""
    if "must have a value other than None" in reason:
        return f"required; give --{name}=VALUE"
    parser = FLAGS[name].parser if name in FLAGS else None
    if choices := getattr(parser, "enum_values", None):
        return f"choose one of {', '.join(choices)}"
    kind = parser.flag_type() if parser else ""
    is_type_error = "literal" in reason or "convert" in reason or "Non-boolean" in reason
    return _EXPECTED.get(kind, reason) if is_type_error else reason


def _explain_stray(word: str) -> str:
    fix = f"did you mean --config={word}?" if word.endswith(".py") else "write --flag=value"
    return f"argument={word}: launchers take flags only; {fix}"


def _offer_configs(file: str = "") -> str:
    configs = list_configs()
    if not configs:
        return "configs/ holds no .py file; write one"
    close = difflib.get_close_matches(file, configs, n=1)
    hint = f"did you mean {close[0]}? " if close else ""
    return f"{hint}choose one of {', '.join(configs)}"


def _offer_fields(field: str, fields: list[str]) -> str:
    """The fields that may be meant: those of the same name in other groups, then similar ones."""
    leaf = field.rpartition(".")[2]
    close = [name for name in fields if name.rpartition(".")[2] == leaf]
    close += [name for name in difflib.get_close_matches(field, fields) if name not in close]
    if close:
        return f"did you mean {' or '.join('--config.' + name for name in close[:3])}?"
    return f"the groups are {', '.join(sorted({name.partition('.')[0] for name in fields}))}"


def _offer_flags(name: str, flag_names: Sequence[str]) -> str:
    known = [*flag_names, *SHARED_FLAGS]
    if close := difflib.get_close_matches(name.partition(".")[0].removeprefix("no"), known, n=1):
        return f"did you mean --{close[0]}?"
    return f"choose one of {', '.join('--' + flag for flag in known)}"


def _value(words: list[Word], name: str) -> str:
    """The last value given to a flag, which is the one that counts."""
    return next((word.value for word in reversed(words) if word.name == name), "")


def _show(word: Word) -> str:
    return f"--{word.name}={word.value}"
