"""Parsing of the command line, with every mistake a ConfigError that names argument, value and fix.

absl and ml_collections answer most mistakes with a traceback, or (a config file that does not
exist) with nothing until the configuration is first read. So a launcher that has a `--config`
flag gets its file and its overrides checked here first; absl then only has values to refuse.
"""

import re
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import config_dict, config_flags

from experiments.cli.config_files import run_file
from experiments.cli.former_configs import present_name, present_words
from experiments.cli.suggestions import explain, explain_stray, offer_configs, offer_fields
from experiments.cli.words import Word, last_value, read_words, show
from vdm.errors import ConfigError
from vdm.runs.config import flatten
from vdm.runs.former_fields import FORMER_NAMES

FLAGS = flags.FLAGS


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
        raise ConfigError(explain(error, words, flag_names)) from error
    if stray:
        raise ConfigError(explain_stray(stray[0]))
    # Last: only now do the flags hold the overridden values.
    if default is not None:
        _check_tuples(default, FLAGS["config"], words)


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
        raise ConfigError(f"{show(first)}: no configuration given; {offer_configs()}")

    # ml_collections applies an override to the configuration that it has read by then.
    if early := [i for i in overrides if i < places[0]]:
        fix = f"put --config={words[places[0]].value} before it"
        raise ConfigError(f"{show(words[early[0]])}: an override before its file; {fix}")

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
        raise ConfigError(f"--config={path}: no such Python file; {offer_configs(file)}")
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
        raise ConfigError(f"{show(word)}: a group of fields; set one of them, such as {some}")
    if field not in fields and field in FORMER_NAMES:
        present = FORMER_NAMES[field]
        raise ConfigError(f"{show(word)}: this field is now --config.{present}={word.value}")
    if field not in fields:
        raise ConfigError(f"{show(word)}: no such field; {offer_fields(field, list(fields))}")

    # Only these types are read from text; a field of None has no type at all.
    group, _, leaf = field.rpartition(".")
    for name in filter(None, group.split(".")):
        config = config[name]
    kind = config.get_type(leaf)
    if kind not in (bool, int, float, str, tuple):
        fix = "set it in the configuration file"
        raise ConfigError(f"{show(word)}: a field of type {kind.__name__} has no override; {fix}")


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
            shown = show(Word(name, last_value(words, name)))
            raise ConfigError(f"{shown}: expected a tuple of {names} such as {example}")
