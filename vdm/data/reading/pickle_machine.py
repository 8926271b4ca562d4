"""The stack machine of pickles: the position in the file, the stacks and the memo.

`vdm.data.reading.pickles` has the instructions that it follows.
"""

from typing import Any

from vdm.data.reading.pickled_arrays import NAMES, Array, Name, call, set_state
from vdm.errors import DataError

# The largest published batch, CIFAR-100's train, has about 300,000.
MAX_INSTRUCTIONS = 2**20
"""Largest number of instructions followed, and of values in the memo."""
_MAX_LINE = 1000
"""Longest line of a protocol 0 instruction, in bytes; strings may be longer."""


class Machine:
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
        if not 0 <= key < MAX_INSTRUCTIONS:
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
