"""Errors a user can cause or meet, each with the exit code that launchers end with."""

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
    """The loss or the gradients stopped being finite."""

    exit_code = 4


class CheckpointError(VdmError, RuntimeError):
    """No checkpoint, or none that can be trusted."""

    exit_code = 5


class DiskError(VdmError, OSError):
    """A folder that cannot be written, or a full disk."""

    exit_code = 6


class Preempted(VdmError):
    """A signal asked the run to stop; its state was saved and can be resumed."""

    exit_code = 75


def choose(name: str, value: str, choices: dict, kind: str):
    """`choices[value]`, or a ConfigError that names the argument and lists the choices."""
    if value not in choices:
        listed = ", ".join(sorted(choices))
        raise ConfigError(f"{name}={value!r}: no such {kind}; choose one of {listed}")
    return choices[value]


def check_options(prefix: str, options: Mapping, known: Iterable[str]) -> None:
    """ConfigError for the first of `options` that is not among `known`; `prefix` holds them."""
    known = list(known)
    for option, value in options.items():
        if option not in known:
            listed = f"choose from {', '.join(known)}" if known else "it has none"
            raise ConfigError(f"{prefix}.{option}={value!r}: no such option; {listed}")
