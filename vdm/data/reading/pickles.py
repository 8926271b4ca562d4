"""Reading pickles from strangers: arrays, numbers, strings, lists, tuples, dictionaries, nothing else.

A pickle is a program for a stack machine. Python's machine calls what the file names, with the
arguments and the state that the file holds, and no list of harmless names makes that safe. The machine
here knows the instructions of pickled arrays (protocols 0 to 4) and calls nothing: names become tokens
(`vdm.data.reading.pickled_arrays`). Time and memory are bounded by the size of the file.
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


def load_arrays_pickle(content: bytes, where: str) -> Any:
    """A pickle of arrays, numbers, strings, lists, tuples and dictionaries; DataError for all else.

    The arrays are views of bytes, so that they cannot be written to.
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
    """The stack above the last mark, the stacks below each mark, and the memo."""

    def __init__(self, content: bytes, where: str):
        self.content, self.where, self.place = content, where, 0
        self.stack: list[Any] = []
        self.below: list[list[Any]] = []
        self.memo: dict[int, Any] = {}
        self.encodable = len(content)

    def run(self) -> Any:
        """Follows the instructions up to the last one, and returns what they made."""
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
        """The next `num` bytes."""
        taken = self.content[self.place : self.place + num]
        if len(taken) < num:
            raise EOFError("the pickle ends early")
        self.place += num
        return taken

    def number(self, size: int, signed: bool = False) -> int:
        return int.from_bytes(self.take(size), "little", signed=signed)

    def line(self, max_bytes: int = _MAX_LINE) -> bytes:
        """The bytes up to the next end of a line."""
        end = self.content.index(b"\n", self.place, self.place + max_bytes)
        return self.take(end + 1 - self.place)[:-1]

    def whole_line(self) -> bytes:
        return self.line(len(self.content))

    def top(self, kind: type) -> Any:
        """The topmost thing, which must be exactly a `kind`."""
        if type(self.stack[-1]) is not kind:
            raise ValueError(f"a {type(self.stack[-1]).__name__} in place of a {kind.__name__}")
        return self.stack[-1]

    def pop(self, kind: type) -> Any:
        self.top(kind)
        return self.stack.pop()

    def pop_last(self, num: int) -> tuple:
        return tuple([self.stack.pop() for _ in range(num)][::-1])

    def mark(self) -> None:
        self.below.append(self.stack)
        self.stack = []

    def pop_to_mark(self) -> list[Any]:
        items, self.stack = self.stack, self.below.pop()
        return items

    def put(self, key: int) -> None:
        # Keys of free choice could all be given the same hash.
        if not 0 <= key < _MAX_INSTRUCTIONS:
            raise ValueError(f"place {key} in the memo")
        self.memo[key] = self.stack[-1]

    def get(self, key: int) -> Any:
        if key not in self.memo:
            raise ValueError(f"nothing at place {key} of the memo")
        found = self.memo[key]
        return found.values if type(found) is Array and found.values is not None else found

    def name(self, module: str, name: str) -> Name:
        if (module, name) not in NAMES:
            raise DataError(
                f"{self.where}: the pickle names {module}.{name}; only arrays are read, "
                "since anything else could run a program: do not trust this file"
            )
        return NAMES[module, name]

    def popped_name(self) -> Name:
        module, name = self.pop_last(2)
        if type(module) is not str or type(name) is not str:
            raise ValueError("a name that is not a string")
        return self.name(module, name)

    def reduce(self) -> Any:
        arguments, name = self.pop(tuple), self.pop(Name)
        result = call(name, arguments)
        # Each text is encoded once, not again and again into ever more memory.
        self.encodable -= len(result) if type(result) is bytes else 0
        if self.encodable < 0:
            raise ValueError("more bytes than the file has")
        return result

    def build(self) -> Any:
        state = self.pop(tuple)
        return set_state(self.stack.pop(), state)


def _integer_line(machine: _Machine) -> int | bool:
    line = machine.line()
    return line == b"01" if line in (b"00", b"01") else int(line)


def _quoted_line(machine: _Machine) -> bytes:
    line = machine.whole_line()
    if len(line) < 2 or line[:1] not in (b"'", b'"') or line[-1:] != line[:1]:
        raise ValueError("a string without its quotes")
    return codecs.escape_decode(line[1:-1])[0]  # type: ignore[attr-defined]


def _utf8(machine: _Machine, size: int) -> str:
    return machine.take(machine.number(size)).decode("utf-8", "surrogatepass")


def _version(machine: _Machine) -> None:
    if (version := machine.number(1)) > 5:
        raise ValueError(f"protocol {version}")


def _read_ahead(machine: _Machine) -> None:
    machine.take(8)


def _extend(machine: _Machine, items: Iterable[Any]) -> None:
    machine.top(list).extend(items)


def _set_items(machine: _Machine, items: Sequence[Any]) -> None:
    # Other keys are refused: the hash of a tuple of tuples may overflow the process's stack.
    if any(type(key) not in (str, bytes) for key in items[::2]):
        raise ValueError("a dictionary whose keys are not strings")
    machine.top(dict).update(zip(items[::2], items[1::2], strict=True))


def _dictionary(machine: _Machine) -> None:
    items = machine.pop_to_mark()
    machine.stack.append({})
    _set_items(machine, items)


_VALUES: dict[bytes, Callable[[_Machine], Any]] = {
    b"N": lambda m: None,
    b"\x88": lambda m: True,
    b"\x89": lambda m: False,
    b"I": _integer_line,
    b"L": lambda m: int(m.line().removesuffix(b"L")),
    b"F": lambda m: float(m.line()),
    b"K": lambda m: m.number(1),
    b"M": lambda m: m.number(2),
    b"J": lambda m: m.number(4, signed=True),
    b"\x8a": lambda m: m.number(m.number(1), signed=True),
    b"G": lambda m: struct.unpack(">d", m.take(8))[0],
    b"S": _quoted_line,
    b"U": lambda m: m.take(m.number(1)),
    b"T": lambda m: m.take(m.number(4)),
    b"C": lambda m: m.take(m.number(1)),
    b"B": lambda m: m.take(m.number(4)),
    b"V": lambda m: m.whole_line().decode("raw-unicode-escape"),
    b"\x8c": lambda m: _utf8(m, 1),
    b"X": lambda m: _utf8(m, 4),
    b"]": lambda m: [],
    b")": lambda m: (),
    b"}": lambda m: {},
    b"l": _Machine.pop_to_mark,
    b"t": lambda m: tuple(m.pop_to_mark()),
    b"\x85": lambda m: m.pop_last(1),
    b"\x86": lambda m: m.pop_last(2),
    b"\x87": lambda m: m.pop_last(3),
    b"g": lambda m: m.get(int(m.line())),
    b"h": lambda m: m.get(m.number(1)),
    b"j": lambda m: m.get(m.number(4)),
    b"c": lambda m: m.name(m.line().decode(), m.line().decode()),
    b"\x93": _Machine.popped_name,
    b"R": _Machine.reduce,
    b"b": _Machine.build,
}
"""Instructions that put a value on the stack."""

_ACTIONS: dict[bytes, Callable[[_Machine], None]] = {
    b"\x80": _version,
    b"\x95": _read_ahead,
    b"(": _Machine.mark,
    b"p": lambda m: m.put(int(m.line())),
    b"q": lambda m: m.put(m.number(1)),
    b"r": lambda m: m.put(m.number(4)),
    b"\x94": lambda m: m.put(len(m.memo)),
    b"d": _dictionary,
    b"a": lambda m: _extend(m, m.pop_last(1)),
    b"e": lambda m: _extend(m, m.pop_to_mark()),
    b"s": lambda m: _set_items(m, m.pop_last(2)),
    b"u": lambda m: _set_items(m, m.pop_to_mark()),
}
"""Instructions that only change what is there."""
