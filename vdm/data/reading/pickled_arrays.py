"""The parts of a pickled array: tokens for numpy's names, and arrays made from checked parts.

Nothing of numpy is called by name or given a state from the file: a state of numpy's own dtype can
make it read eight bytes of an array as a pointer.
"""

import dataclasses
import enum
import math
import re
from collections.abc import Callable, Collection
from typing import Any

import numpy as np

_MAX_AXES = 32
"""Most axes of an array that every version of numpy accepts."""
_DTYPE = re.compile(r"[<>=|]?(b1|[iu][1248]|f[248])")
"""Names of dtypes of numbers: booleans, integers and floats of fixed size."""


class Name(enum.Enum):
    """A name that may stand in the file, as a token that cannot be called."""

    RECONSTRUCT = enum.auto()
    NDARRAY = enum.auto()
    DTYPE = enum.auto()
    ENCODE = enum.auto()


NAMES = {
    ("numpy.core.multiarray", "_reconstruct"): Name.RECONSTRUCT,
    ("numpy._core.multiarray", "_reconstruct"): Name.RECONSTRUCT,
    ("numpy", "ndarray"): Name.NDARRAY,
    ("numpy", "dtype"): Name.DTYPE,
    ("_codecs", "encode"): Name.ENCODE,
}
"""Every (module, name) that pickled arrays refer to; numpy 2 renamed its module."""


@dataclasses.dataclass(eq=False)
class Dtype:
    """A dtype of numbers.

    Attributes:
      code: kind and size, such as "u1".
      order: byte order, "<", ">", "=" or "|".
    """

    code: str
    order: str = "="


@dataclasses.dataclass(eq=False)
class Array:
    """An array that is being read.

    Attributes:
      values: its values once the state has been read; None before.
    """

    values: np.ndarray | None = None


def call(name: Name, arguments: tuple) -> Any:
    """Return the stand-in for numpy's function `name` applied to the arguments; numpy is not called.

    Args:
      name: token of the function, from NAMES.
      arguments: its arguments, from the file.

    Raises:
      ValueError: a name that is no function, or arguments that no pickled array has.
    """
    if name not in _CALLS:
        raise ValueError(f"a call of {name.name.lower()}")
    return _CALLS[name](*arguments)


def set_state(target: Any, state: tuple) -> Any:
    """Apply a pickle's BUILD state to a `Dtype` or `Array`; return the dtype, or the array's values.

    Args:
      target: the `Dtype` or `Array` that `call` made.
      state: the arguments that numpy's __setstate__ would take, from the file.

    Raises:
      ValueError: another type of target, or a state that no array of numbers has.
    """
    if type(target) not in _STATES:
        raise ValueError(f"a state for a {type(target).__name__}")
    return _STATES[type(target)](target, *state)


def check_plain(result: Any, most: int) -> None:
    """Raise ValueError for values other than arrays and plain ones, or for lists in a cycle.

    Args:
      result: the value that the pickle made.
      most: largest number of values that it may contain, each counted once per reference.

    Raises:
      ValueError: another type, or more values than `most`.
    """
    todo, num_things = [result], 1

    # A loop, not a recursion, which a deeply nested list would overflow; the count ends cycles.
    while todo:
        thing = todo.pop()
        if type(thing) in _CHILDREN:
            children = _CHILDREN[type(thing)](thing)
            num_things += len(children)
            if num_things > most:
                raise ValueError("lists that refer to each other more often than they may")
            todo.extend(children)
        elif type(thing) not in _PLAIN:
            raise ValueError(f"a {type(thing).__name__} that is part of no array")


def _reconstruct(subtype: Any, shape: Any, code: Any) -> Array:
    """Return an array without values, as every pickled array starts."""
    if subtype is not Name.NDARRAY or shape != (0,) or code not in ("b", b"b"):
        raise ValueError("an array that does not start out empty")
    return Array()


def _dtype(name: Any, align: Any, copy: Any) -> Dtype:
    """Return the dtype of a name such as "u1"."""
    match = _DTYPE.fullmatch(_text(name))
    if match is None:
        raise ValueError(f"an array of dtype {_text(name)[:20]!r}, which is no dtype of numbers")
    return Dtype(match[1])


def _encode(text: Any, encoding: Any) -> bytes:
    """Return bytes from text, as which Python 3 writes them for Python 2."""
    if type(text) is not str or encoding != "latin1":
        raise ValueError("bytes that are not given as text in latin1")
    return text.encode("latin1")


def _set_order(dtype: Dtype, version: Any, order: Any, *rest: Any) -> Dtype:
    """Set a dtype's byte order, and refuse every other part of a state."""
    if version != 3 or _text(order) not in ("<", ">", "=", "|"):
        raise ValueError("a dtype of an unknown version or byte order")
    if rest != (None, None, None, -1, -1, 0):
        raise ValueError("a dtype with fields, a size or flags of its own")
    dtype.order = _text(order)
    return dtype


def _fill(array: Array, version: Any, shape: Any, dtype: Any, fortran: Any, data: Any):
    """Return an array's values, from a state whose parts fit each other.

    Args:
      array: the array, still without values.
      version: version of the state, 1.
      shape: its shape.
      dtype: its Dtype.
      fortran: whether the first axis varies fastest.
      data: its bytes.
    """
    kinds = (type(version), type(shape), type(dtype), type(data))
    if kinds != (int, tuple, Dtype, bytes) or version != 1 or type(fortran) not in (bool, int):
        raise ValueError("an array with an unknown state")
    if len(shape) > _MAX_AXES or any(type(size) is not int or size < 0 for size in shape):
        raise ValueError("an array of an impossible shape")

    # The number of bytes is compared first, so that the array cannot reach beyond them.
    numbers = np.dtype(dtype.order.replace("|", "=") + dtype.code)
    if math.prod(shape) * numbers.itemsize != len(data):
        raise ValueError(f"an array whose shape is not that of its {len(data)} bytes")
    # A view: a copy could be asked for again and again.
    array.values = np.ndarray(shape, numbers, data, order="F" if fortran else "C")
    return array.values


def _text(value: Any) -> str:
    """Return a string; Python 2 wrote bytes where Python 3 reads text."""
    if type(value) not in (str, bytes):
        raise ValueError(f"a {type(value).__name__} in place of a string")
    return value.decode("latin1") if type(value) is bytes else value


_CALLS: dict[Name, Callable[..., Any]] = {
    Name.RECONSTRUCT: _reconstruct,
    Name.DTYPE: _dtype,
    Name.ENCODE: _encode,
}
_STATES: dict[type, Callable[..., Any]] = {Dtype: _set_order, Array: _fill}
_CHILDREN: dict[type, Callable[[Any], Collection]] = {list: list, tuple: tuple, dict: dict.values}
_PLAIN = {np.ndarray, int, float, bool, str, bytes, type(None)}
