"""Parsing of a bound's text, NAME[@T][:option=value]..., into its name and typed options.

An option is a field of the bound's class whose type is int, float or str; T is written behind @. Every
error names the bound, the option and the choices.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from vdm.errors import ConfigError
from vdm.evaluation.bounds.base import Bound

KINDS: dict[Any, str] = {int: "an integer", float: "a number", str: "a word"}
"""{type of an option: its name in messages}; fields of other types are no options."""
T = "num_timesteps"
"""The field that is written behind @."""


def options_of(kind: type[Bound]) -> dict[str, Any]:
    """Return {option: int, float or str} for the fields of a bound's class; T is left out."""
    fields = dataclasses.fields(kind)
    return {f.name: f.type for f in fields if f.type in KINDS and f.name != T}


def read(text: str, bounds: Mapping[str, type[Bound]]) -> tuple[str, dict[str, Any]]:
    """Return (name, the options that the text gives), T included if given.

    Args:
      text: NAME[@T][:option=value]...
      bounds: {name: class} of all bounds.

    Raises:
      ConfigError: no such bound or option, a value of another type, or an option given twice.
    """
    head, *words = text.split(":")
    name, at, steps = head.partition("@")
    if name not in bounds:
        raise ConfigError(
            f"bound={text}: no such bound; choose one of {', '.join(bounds)}, "
            "as NAME[@T][:option=value]"
        )
    if at and not steps.isdecimal():
        raise ConfigError(f"bound={text}: T must be an integer, such as {name}@100")

    # T is kept as an option so that a second T is refused like any option that is given twice.
    options: dict[str, Any] = {T: int(steps)} if at else {}
    for word in words:
        option, equals, value = word.partition("=")
        if not equals:
            raise ConfigError(f"bound={text}: write {option or 'an option'} as option=value")
        if option in options:
            raise ConfigError(f"bound={text}: {option} is given twice; keep one")
        options[option] = _convert(head, option, value, bounds)
    return name, options


def check(head: str, given: Mapping[str, Any], bounds: Mapping[str, type[Bound]]) -> None:
    """Raise a ConfigError for the first option in `given` that the bound does not have.

    Args:
      head: name of the bound, with "@T" where that was typed.
      given: {option: value}.
      bounds: {name: class} of all bounds; the message says whose option it is.
    """
    name = head.partition("@")[0]
    available = options_of(bounds[name])
    for option, value in given.items():
        if option not in (*available, T):
            raise ConfigError(
                f"bound={head}:{option}={value}: bound {name} has no option {option!r}; "
                + _choices(option, available, bounds)
            )


def _choices(option: str, available: Mapping[str, Any], bounds: Mapping[str, type[Bound]]) -> str:
    """Return the end of the message for an unknown option: the choices, or the bounds that have it."""
    listed = f"choose one of {', '.join(available)}" if available else "it has none"
    owners = [other for other, kind in bounds.items() if option in options_of(kind)]
    if owners:
        listed += f" ({option} belongs to {', '.join(owners)})"
    elif option in ("T", "timesteps", T):
        listed += "; T is written NAME@T"
    return listed


def _convert(head: str, option: str, value: str, bounds: Mapping[str, type[Bound]]) -> Any:
    """Return the text `value` as the type of the option.

    Args:
      head: name of the bound, with "@T" where that was typed.
      option: name of an option of that bound; any other is refused.
      value: the text behind "=".
      bounds: {name: class} of all bounds.
    """
    available = options_of(bounds[head.partition("@")[0]])
    if option not in available:
        # T as an option is refused too, under another name, for which `_choices` explains @T.
        given = {option: value} if option != T else {"timesteps": value}
        check(head, given, bounds)
    kind = available[option]
    try:
        return kind(value)
    except ValueError:
        raise ConfigError(f"bound={head}:{option}={value}: expected {KINDS[kind]}") from None
