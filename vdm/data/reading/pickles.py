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
from vdm.data.reading.pickled_arrays import NAMES, Array, Name, call, check_plain, set_state
from vdm.errors import DataError

# The largest published batch, CIFAR-100's train, has about 300,000.
_MAX_INSTRUCTIONS = 2**20
_MAX_LINE = 1000
"""Longest line of a protocol 0 instruction, in bytes; strings may be longer."""


def load_arrays_pickle(content: bytes, where: str) -> Any:
    """Return the value of a pickle of arrays, numbers, strings, lists, tuples and dictionaries.

    The arrays are views of bytes, so that they cannot be written to.

    Raises:
      DataError: anything else, or a pickle that is cut or damaged.
    """
    try:
        return _Machine(content, where).run()
    except DataError:
        raise
    # A damaged pickle may be wrong in nearly any way.
    except Exception as error:
        raise DataError(
            f"{where}: {describe(error)}; it is cut or damaged, or no pickle of arrays"
        ) from None


class _Machine:
    """The stack machine of pickles, reduced to instructions without calls.

    Attributes:
      content: the pickle.
      where: name of the file in messages.
      place: position of the next byte.
      stack: the stack above the last mark.
      below: the stacks below each mark.
      memo: values that later instructions refer to by number.
      encodable: bytes that calls of `_codecs.encode` may still give.
    """

    def __init__(self, content: bytes, where: str):
        self.content, self.where, self.place = content, where, 0
        self.stack: list[Any] = []
        self.below: list[list[Any]] = []
        self.memo: dict[int, Any] = {}
        self.encodable = len(content)

    def run(self) -> Any:
        """Follow the instructions up to the last one, and return the value that they made."""
        for num_done in range(_MAX_INSTRUCTIONS):
            code = self.take(1)
            if code in _VALUES:
                value = _VALUES[code](self)  # which may put another stack in place
                self.stack.append(value)
            elif code in _ACTIONS:
                _ACTIONS[code](self)
            elif code == b".":
                (result,) = self.stack
                check_plain(result, num_done)
                return result
            else:
                raise ValueError(f"instruction {code!r}, which no pickle of arrays has")
        raise ValueError(f"more than {_MAX_INSTRUCTIONS} instructions")

    def take(self, num: int) -> bytes:
        """Return the next `num` bytes."""
        taken = self.content[self.place : self.place + num]
        if len(taken) < num:
            raise EOFError("the pickle ends early")
        self.place += num
        return taken

    def number(self, size: int, signed: bool = False) -> int:
        """Return the next `size` bytes as a little-endian integer."""
        return int.from_bytes(self.take(size), "little", signed=signed)

    def line(self, max_bytes: int = _MAX_LINE) -> bytes:
        """Return the bytes up to the next end of a line."""
        end = self.content.index(b"\n", self.place, self.place + max_bytes)
        return self.take(end + 1 - self.place)[:-1]

    def whole_line(self) -> bytes:
        """Return a line of any length, for strings."""
        return self.line(len(self.content))

    def top(self, kind: type) -> Any:
        """Return the topmost value, which must be exactly a `kind`."""
        # Not isinstance: a subclass could have methods of its own.
        if type(self.stack[-1]) is not kind:
            raise ValueError(f"a {type(self.stack[-1]).__name__} in place of a {kind.__name__}")
        return self.stack[-1]

    def pop(self, kind: type) -> Any:
        """Remove and return the topmost value, which must be exactly a `kind`."""
        self.top(kind)
        return self.stack.pop()

    def pop_last(self, num: int) -> tuple:
        """Remove and return the last `num` values, in the order in which they were pushed."""
        return tuple([self.stack.pop() for _ in range(num)][::-1])

    def mark(self) -> None:
        """Set a mark: a new stack above the one there is."""
        self.below.append(self.stack)
        self.stack = []

    def pop_to_mark(self) -> list[Any]:
        """Remove the last mark, and return the values above it."""
        items, self.stack = self.stack, self.below.pop()
        return items

    def put(self, key: int) -> None:
        """Store the topmost value in the memo."""
        # Keys of free choice could all be given the same hash.
        if not 0 <= key < _MAX_INSTRUCTIONS:
            raise ValueError(f"place {key} in the memo")
        self.memo[key] = self.stack[-1]

    def get(self, key: int) -> Any:
        """Return a value of the memo, for an array its values."""
        if key not in self.memo:
            raise ValueError(f"nothing at place {key} of the memo")
        value = self.memo[key]
        return value.values if type(value) is Array and value.values is not None else value

    def name(self, module: str, name: str) -> Name:
        """Return the token of a name, or refuse a pickle that could run a program."""
        if (module, name) not in NAMES:
            raise DataError(
                f"{self.where}: the pickle names {module}.{name}; only arrays are read, "
                "since anything else could run a program: do not trust this file"
            )
        return NAMES[module, name]

    def popped_name(self) -> Name:
        """Return the token of a name whose two parts lie on the stack."""
        module, name = self.pop_last(2)
        if type(module) is not str or type(name) is not str:
            raise ValueError("a name that is not a string")
        return self.name(module, name)

    def reduce(self) -> Any:
        """Return the result of a call whose function and arguments lie on the stack."""
        arguments, name = self.pop(tuple), self.pop(Name)
        result = call(name, arguments)
        # Each text is encoded once, not again and again into ever more memory.
        self.encodable -= len(result) if type(result) is bytes else 0
        if self.encodable < 0:
            raise ValueError("more bytes than the file has")
        return result

    def build(self) -> Any:
        """Return the topmost value completed by a state."""
        state = self.pop(tuple)
        return set_state(self.stack.pop(), state)


def _integer_line(machine: _Machine) -> int | bool:
    """Return an integer in decimal, or a boolean, which protocol 0 writes as 00 or 01."""
    line = machine.line()
    return line == b"01" if line in (b"00", b"01") else int(line)


def _quoted_line(machine: _Machine) -> bytes:
    """Return a string of protocol 0, in quotes and with escapes."""
    line = machine.whole_line()
    if len(line) < 2 or line[:1] not in (b"'", b'"') or line[-1:] != line[:1]:
        raise ValueError("a string without its quotes")
    return codecs.escape_decode(line[1:-1])[0]  # type: ignore[attr-defined]


def _utf8(machine: _Machine, size: int) -> str:
    """Return a string that comes after its length in bytes, an integer of `size` bytes."""
    return machine.take(machine.number(size)).decode("utf-8", "surrogatepass")


def _version(machine: _Machine) -> None:
    """Refuse a protocol that is not known."""
    if (version := machine.number(1)) > 5:
        raise ValueError(f"protocol {version}")


def _read_ahead(machine: _Machine) -> None:
    """Skip the length of a frame, which only helps reading ahead."""
    machine.take(8)


def _extend(machine: _Machine, items: Iterable[Any]) -> None:
    """Append values to the list on top of the stack."""
    machine.top(list).extend(items)


def _set_items(machine: _Machine, items: Sequence[Any]) -> None:
    """Set items of the dictionary on top of the stack, from keys and values in turn."""
    # Other keys are refused: the hash of a tuple of tuples may overflow the process's stack.
    if any(type(key) not in (str, bytes) for key in items[::2]):
        raise ValueError("a dictionary whose keys are not strings")
    machine.top(dict).update(zip(items[::2], items[1::2], strict=True))


def _dictionary(machine: _Machine) -> None:
    """Push a dictionary made of the values above the mark."""
    items = machine.pop_to_mark()
    machine.stack.append({})
    _set_items(machine, items)


_VALUES: dict[bytes, Callable[[_Machine], Any]] = {
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
    b"l": _Machine.pop_to_mark,  # LIST
    b"t": lambda m: tuple(m.pop_to_mark()),  # TUPLE
    b"\x85": lambda m: m.pop_last(1),  # TUPLE1
    b"\x86": lambda m: m.pop_last(2),  # TUPLE2
    b"\x87": lambda m: m.pop_last(3),  # TUPLE3
    b"g": lambda m: m.get(int(m.line())),  # GET
    b"h": lambda m: m.get(m.number(1)),  # BINGET
    b"j": lambda m: m.get(m.number(4)),  # LONG_BINGET
    b"c": lambda m: m.name(m.line().decode(), m.line().decode()),  # GLOBAL
    b"\x93": _Machine.popped_name,  # STACK_GLOBAL
    b"R": _Machine.reduce,  # REDUCE
    b"b": _Machine.build,  # BUILD
}
"""Instructions that push a value."""

_ACTIONS: dict[bytes, Callable[[_Machine], None]] = {
    b"\x80": _version,  # PROTO
    b"\x95": _read_ahead,  # FRAME
    b"(": _Machine.mark,  # MARK
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
