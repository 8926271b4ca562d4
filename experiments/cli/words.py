"""Words of a command line that are flags, in the order in which they were given."""

import re
from collections.abc import Sequence
from typing import NamedTuple


class Word(NamedTuple):
    """One flag on the command line, `--name=value` or `--name value`.

    Attributes:
      name: without dashes, such as "config.train.num_steps".
      value: "" where none is given.
    """

    name: str
    value: str


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


def last_value(words: list[Word], name: str) -> str:
    """Return the last value given to a flag, which is the one that counts."""
    return next((word.value for word in reversed(words) if word.name == name), "")


def show(word: Word) -> str:
    """Return a flag as it is written on the command line."""
    return f"--{word.name}={word.value}"
