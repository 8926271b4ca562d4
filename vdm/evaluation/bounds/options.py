"""The text of a bound, NAME[@T][:option=value]..., taken apart and given types.

An option is a field of the bound's class that holds an integer, a number or a word; T is written
behind @. A mistake names the bound, the option and the choices.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from vdm.errors import ConfigError
from vdm.evaluation.bounds.base import Bound

KINDS: dict[Any, str] = {int: "an integer", float: "a number", str: "a word"}
T = "num_timesteps"


def options_of(kind: type[Bound]) -> dict[str, Any]:
    """{option: its type} of a bound, T left out."""
    fields = dataclasses.fields(kind)
    return {f.name: f.type for f in fields if f.type in KINDS and f.name != T}


def read(text: str, bounds: Mapping[str, type[Bound]]) -> tuple[str, dict[str, Any]]:
    """(name, the options that the text gives), with T among them where it is given.

    Args:
      text: NAME[@T][:option=value]...
      bounds: {name: class} of all that there are.
    """
    head, *words = text.split(":")
    name, at, steps = head.partition("@")
    if name not in bounds:
        raise ConfigError(
            f"bound={text}: no such bound; choose of {', '.join(bounds)}, "
            "as NAME[@T][:option=value]"
        )
    if at and not steps.isdecimal():
        raise ConfigError(f"bound={text}: T must be an integer, such as {name}@100")
    found: dict[str, Any] = {T: int(steps)} if at else {}
    for word in words:
        option, equals, value = word.partition("=")
        if not equals:
            raise ConfigError(f"bound={text}: write {option or 'an option'} as option=value")
        if option in found:
            raise ConfigError(f"bound={text}: {option} is given twice; keep one")
        found[option] = _convert(name, option, value, bounds)
    return name, found


def check(name: str, given: Mapping[str, Any], bounds: Mapping[str, type[Bound]]) -> None:
    """ConfigError for the first of the options `given` to bound `name` that it does not have."""
    own = options_of(bounds[name])
    for option, value in given.items():
        if option not in (*own, T):
            raise ConfigError(
                f"bound={name}:{option}={value}: bound {name} has no option {option!r}; "
                + _choices(option, own, bounds)
            )


def _choices(option: str, own: Mapping[str, Any], bounds: Mapping[str, type[Bound]]) -> str:
    listed = f"choose of {', '.join(own)}" if own else "it has none"
    owners = [other for other, kind in bounds.items() if option in options_of(kind)]
    if owners:
        listed += f" ({option} belongs to {', '.join(owners)})"
    elif option in ("T", "timesteps", T):
        listed += "; T is written NAME@T"
    return listed


def _convert(name: str, option: str, value: str, bounds: Mapping[str, type[Bound]]) -> Any:
    own = options_of(bounds[name])
    if option not in own:
        # T is refused here: it has one place, behind @.
        given = {option: value} if option != T else {"timesteps": value}
        check(name, given, bounds)
    kind = own[option]
    try:
        return kind(value)
    except ValueError:
        raise ConfigError(f"bound={name}:{option}={value}: expected {KINDS[kind]}") from None
