"""Pickles from unknown sources, of which only arrays and plain values are read.

A pickle is a program for a stack machine. Python's machine calls what the file names, with the
arguments and the state that the file holds, and no list of harmless names makes that safe. The
machine here knows the instructions of pickled arrays (protocols 0 to 4) and calls nothing: names
become tokens (`vdm.data.reading.pickled_arrays`). Time and memory are bounded by the size of the
file.

Instructions are commented with their names in Python's module `pickletools`, which explains them.
"""

import codecs
import struct
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from vdm.data.reading.archives import describe
from vdm.data.reading.pickle_machine import MAX_INSTRUCTIONS, Machine
from vdm.data.reading.pickled_arrays import check_plain
from vdm.errors import DataError


def load_arrays_pickle(content: bytes, where: str) -> Any:
    """Return the value of a pickle of arrays, numbers, strings, lists, tuples and dictionaries.

    The arrays are views of bytes, so that they cannot be written to.

    Raises:
      DataError: anything else, or a pickle that is cut or damaged.
    """
    try:
        return _run(Machine(content, where))
    except DataError:
        raise
    # A damaged pickle may be wrong in nearly any way.
    except Exception as error:
        raise DataError(
            f"{where}: {describe(error)}; it is cut or damaged, or no pickle of arrays"
        ) from None


def _run(machine: Machine) -> Any:
    """Follow the instructions up to the last one, and return the value that they made."""
    for num_done in range(MAX_INSTRUCTIONS):
        code = machine.take(1)
        if code in _VALUES:
            value = _VALUES[code](machine)  # which may put another stack in place
            machine.stack.append(value)
        elif code in _ACTIONS:
            _ACTIONS[code](machine)
        elif code == b".":
            (result,) = machine.stack
            check_plain(result, num_done)
            return result
        else:
            raise ValueError(f"instruction {code!r}, which no pickle of arrays has")
    raise ValueError(f"more than {MAX_INSTRUCTIONS} instructions")


def _integer_line(machine: Machine) -> int | bool:
    """Return an integer in decimal, or a boolean, which protocol 0 writes as 00 or 01."""
    line = machine.line()
    return line == b"01" if line in (b"00", b"01") else int(line)


def _quoted_line(machine: Machine) -> bytes:
    """Return a string of protocol 0, in quotes and with escapes."""
    line = machine.whole_line()
    if len(line) < 2 or line[:1] not in (b"'", b'"') or line[-1:] != line[:1]:
        raise ValueError("a string without its quotes")
    return codecs.escape_decode(line[1:-1])[0]  # type: ignore[attr-defined]


def _utf8(machine: Machine, size: int) -> str:
    """Return a string that comes after its length in bytes, an integer of `size` bytes."""
    return machine.take(machine.number(size)).decode("utf-8", "surrogatepass")


def _version(machine: Machine) -> None:
    """Refuse a protocol that is not known."""
    if (version := machine.number(1)) > 5:
        raise ValueError(f"protocol {version}")


def _read_ahead(machine: Machine) -> None:
    """Skip the length of a frame, which only helps reading ahead."""
    machine.take(8)


def _extend(machine: Machine, items: Iterable[Any]) -> None:
    """Append values to the list on top of the stack."""
    machine.top(list).extend(items)


def _set_items(machine: Machine, items: Sequence[Any]) -> None:
    """Set items of the dictionary on top of the stack, from keys and values in turn."""
    # Other keys are refused: the hash of a tuple of tuples may overflow the process's stack.
    if any(type(key) not in (str, bytes) for key in items[::2]):
        raise ValueError("a dictionary whose keys are not strings")
    machine.top(dict).update(zip(items[::2], items[1::2], strict=True))


def _dictionary(machine: Machine) -> None:
    """Push a dictionary made of the values above the mark."""
    items = machine.pop_to_mark()
    machine.stack.append({})
    _set_items(machine, items)


_VALUES: dict[bytes, Callable[[Machine], Any]] = {
    b"N": lambda m: None,  # NONE
    b"\x88": lambda m: True,  # NEWTRUE
    b"\x89": lambda m: False,  # NEWFALSE
    b"I": _integer_line,  # INT
    b"L": lambda m: int(m.line().removesuffix(b"L")),  # LONG
    b"F": lambda m: float(m.line()),  # FLOAT
    b"K": lambda m: m.number(1),  # BININT1
    b"M": lambda m: m.number(2),  # BININT2
    b"J": lambda m: m.number(4, signed=True),  # BININT
    b"\x8a": lambda m: m.number(m.number(1), signed=True),  # LONG1
    b"G": lambda m: struct.unpack(">d", m.take(8))[0],  # BINFLOAT
    b"S": _quoted_line,  # STRING
    b"U": lambda m: m.take(m.number(1)),  # SHORT_BINSTRING
    b"T": lambda m: m.take(m.number(4)),  # BINSTRING
    b"C": lambda m: m.take(m.number(1)),  # SHORT_BINBYTES
    b"B": lambda m: m.take(m.number(4)),  # BINBYTES
    b"V": lambda m: m.whole_line().decode("raw-unicode-escape"),  # UNICODE
    b"\x8c": lambda m: _utf8(m, 1),  # SHORT_BINUNICODE
    b"X": lambda m: _utf8(m, 4),  # BINUNICODE
    b"]": lambda m: [],  # EMPTY_LIST
    b")": lambda m: (),  # EMPTY_TUPLE
    b"}": lambda m: {},  # EMPTY_DICT
    b"l": Machine.pop_to_mark,  # LIST
    b"t": lambda m: tuple(m.pop_to_mark()),  # TUPLE
    b"\x85": lambda m: m.pop_last(1),  # TUPLE1
    b"\x86": lambda m: m.pop_last(2),  # TUPLE2
    b"\x87": lambda m: m.pop_last(3),  # TUPLE3
    b"g": lambda m: m.get(int(m.line())),  # GET
    b"h": lambda m: m.get(m.number(1)),  # BINGET
    b"j": lambda m: m.get(m.number(4)),  # LONG_BINGET
    b"c": lambda m: m.name(m.line().decode(), m.line().decode()),  # GLOBAL
    b"\x93": Machine.popped_name,  # STACK_GLOBAL
    b"R": Machine.reduce,  # REDUCE
    b"b": Machine.build,  # BUILD
}
"""Instructions that push a value."""

_ACTIONS: dict[bytes, Callable[[Machine], None]] = {
    b"\x80": _version,  # PROTO
    b"\x95": _read_ahead,  # FRAME
    b"(": Machine.mark,  # MARK
    b"p": lambda m: m.put(int(m.line())),  # PUT
    b"q": lambda m: m.put(m.number(1)),  # BINPUT
    b"r": lambda m: m.put(m.number(4)),  # LONG_BINPUT
    b"\x94": lambda m: m.put(len(m.memo)),  # MEMOIZE
    b"d": _dictionary,  # DICT
    b"a": lambda m: _extend(m, m.pop_last(1)),  # APPEND
    b"e": lambda m: _extend(m, m.pop_to_mark()),  # APPENDS
    b"s": lambda m: _set_items(m, m.pop_last(2)),  # SETITEM
    b"u": lambda m: _set_items(m, m.pop_to_mark()),  # SETITEMS
}
"""Instructions that only change what is there."""
