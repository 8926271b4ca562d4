"""Errors a user can cause or meet, each with the exit code that launchers end with.

Launchers print the message of a VdmError as one line, without a traceback. Each class also derives
from the standard exception of its kind, so that callers of the library can catch it without
knowing vdm.
"""

from collections.abc import Iterable, Mapping


class VdmError(Exception):
    """Base of every error whose message is meant for the user, as one line."""

    exit_code = 1


class ConfigError(VdmError, ValueError):
    """A wrong option, name or configuration value."""

    exit_code = 2


class DataError(VdmError, ValueError):
    """A missing, malformed or unsuitable data file."""

    exit_code = 3


class NonFiniteError(VdmError, ArithmeticError):
    """A loss, a gradient or a parameter that is nan or infinite."""

    exit_code = 4


class CheckpointError(VdmError, RuntimeError):
    """A missing checkpoint, or one that cannot be trusted."""

    exit_code = 5


class DiskError(VdmError, OSError):
    """A folder that cannot be written, or a full disk."""

    exit_code = 6


class Preempted(VdmError):
    """A run that was stopped by a signal; its state was saved and can be resumed."""

    exit_code = 75


def choose(name: str, value: str, choices: dict, kind: str):
    """Return `choices[value]`.

    Args:
      name: the argument's full name, such as "schedule.name".
      value: the name that the user gave.
      choices: {name: entry}.
      kind: what an entry is, such as "schedule".

    Raises:
      ConfigError: no such entry; the message lists the choices.
    """
    if value not in choices:
        listed = ", ".join(sorted(choices))
        raise ConfigError(f"{name}={value!r}: no such {kind}; choose one of {listed}")
    return choices[value]


def check_options(prefix: str, options: Mapping, known: Iterable[str]) -> None:
    """Refuse the first of `options` that is not among `known`.

    Args:
      prefix: where a configuration holds the options, such as "schedule.linear".
      options: {option: value} as the user gave them.
      known: names of the options that exist.

    Raises:
      ConfigError: an unknown option; the message lists those that exist.
    """
    known = list(known)
    for option, value in options.items():
        if option not in known:
            listed = f"choose from {', '.join(known)}" if known else "it has none"
            raise ConfigError(f"{prefix}.{option}={value!r}: no such option; {listed}")
