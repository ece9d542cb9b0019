"""A reader of pickles that builds plain containers, tensors and records, and runs nothing.

A pickle is a program for a small stack machine whose names are usually imported and called. Here each step is carried
out by this module, and each name is looked up in a closed list. The time is bounded by the number of steps, and the
memory by the size of the file.
"""

import pickletools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Any

from ganzoo.errors import WeightsError

MOST_STEPS = 1_000_000
"""Steps of one file. The largest published networks take some tens of thousands."""
LITERALS = frozenset({
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT",
    "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8",
    "STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8",
})  # fmt: skip
"""Steps that push their argument."""
CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
KEYS = (str, int, float, bytes, type(None))
"""The types of keys in a dictionary: hashing them takes no recursion."""


@dataclass(eq=False)
class Record:
    """An object as its pickle describes it. Nothing of its class is imported.

    Attributes:
        name: the dotted name of the class or function.
        arguments: what it would have been called with.
        state: what its attributes would have been set from.
    """

    name: str
    arguments: tuple[Any, ...] = ()
    state: Any = None


@dataclass(eq=False)
class _Name(Record):
    """A name that a pickle asked for, and that is on the list."""

    build: Callable[..., Any] | None = None


class Steps:
    """The number of steps that a file may still take, in all of its pickles together."""

    def __init__(self, left: int = MOST_STEPS) -> None:
        self.left = left

    def take(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise WeightsError(f"takes more than {MOST_STEPS:,} steps to read, as no network does")


def read_pickle(
    file: IO[bytes],
    names: Mapping[str, Callable[..., Any] | None],
    persistent: Callable[[Any], Any] | None = None,
    steps: Steps | None = None,
) -> Any:
    """Read one pickle.

    Args:
        file: an open file, which is left behind the pickle.
        names: the closed list of names: what builds the value when the pickle calls it, or None for a `Record`.
        persistent: a function that gives the value of a persistent id; None: there are none.
        steps: the steps left, if the pickle is part of a file.

    Returns:
        The value: numbers, strings, bytes, None, lists, tuples, dictionaries, records, and what `names` build. A set is
        a record named "set".

    Raises:
        WeightsError: a name is not on the list, or the pickle is damaged. The message begins with a verb, for the name
            of the file to be put before it.
    """
    machine = _Machine(names, persistent)
    steps = steps or Steps()
    try:
        for opcode, argument, _ in pickletools.genops(file):
            steps.take()
            machine.step(opcode.name, argument)
        (value,) = machine.stack
    except (ValueError, IndexError, KeyError, TypeError, AttributeError, OverflowError, RuntimeError) as error:
        raise WeightsError(f"is damaged or no checkpoint ({type(error).__name__} while reading it)") from error
    return value


class _Machine:
    """The stack machine of pickles. Its methods raise any error of Python at a malformed program."""

    def __init__(self, names: Mapping[str, Callable[..., Any] | None], persistent: Callable[[Any], Any] | None) -> None:
        self.names, self.persistent = names, persistent
        self.stack: list[Any] = []
        self.below: list[list[Any]] = []
        self.memo: dict[int, Any] = {}

    def step(self, name: str, argument: Any) -> None:
        stack = self.stack
        if name in LITERALS:
            stack.append(argument)
        elif name in CONSTANTS:
            stack.append(CONSTANTS[name])
        elif name in _CONTAINERS:
            _CONTAINERS[name](self)
        elif name == "MARK":
            self.below.append(stack)
            self.stack = []
        elif name in ("PUT", "BINPUT", "LONG_BINPUT"):
            self.memo[argument] = stack[-1]
        elif name == "MEMOIZE":
            self.memo[len(self.memo)] = stack[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(self.memo[argument])
        elif name == "GLOBAL":
            stack.append(self.find(*argument.split(" ", 1)))
        elif name == "STACK_GLOBAL":
            qualified = stack.pop()
            stack.append(self.find(stack.pop(), qualified))
        elif name in ("REDUCE", "NEWOBJ"):
            arguments = stack.pop()
            stack.append(self.call(stack.pop(), arguments))
        elif name == "BUILD":
            state = stack.pop()
            if isinstance(stack[-1], Record):
                stack[-1].state = state
            elif not isinstance(stack[-1], dict):  # whose attributes, such as a state dict's _metadata, are not needed
                raise WeightsError(f"sets the state of a {type(stack[-1]).__name__}")
        elif name == "BINPERSID" and self.persistent is not None:
            stack.append(self.persistent(stack.pop()))
        elif name == "POP":
            stack.pop()
        elif name == "POP_MARK":
            self.marked()
        elif name == "DUP":
            stack.append(stack[-1])
        elif name not in ("PROTO", "FRAME", "STOP"):
            raise WeightsError(f"uses {name}, which no checkpoint needs; nothing in it was executed")

    def marked(self) -> list[Any]:
        """The values above the last mark, which are taken off the stack with it."""
        values, self.stack = self.stack, self.below.pop()
        return values

    def find(self, module: Any, qualified: Any) -> _Name:
        name = f"{module}.{qualified}"
        if name not in self.names:
            raise WeightsError(f"holds more than tensors ({shorten(name)}); it was not executed")
        return _Name(name, build=self.names[name])

    def call(self, target: Any, arguments: Any) -> Any:
        if not isinstance(target, _Name) or not isinstance(arguments, tuple):
            raise WeightsError(f"calls a {type(target).__name__}; it was not executed")
        return Record(target.name, arguments) if target.build is None else target.build(*arguments)


def shorten(text: str, most: int = 80) -> str:
    """A text from a file, for a message: printable and not too long."""
    printable = "".join(c if c.isprintable() else "?" for c in text[: most + 1])
    return printable if len(printable) <= most else f"{printable[: most - 3]}..."


def _set_items(target: Any, pairs: Sequence[Any]) -> None:
    if not isinstance(target, dict):
        raise WeightsError(f"sets items of a {type(target).__name__}")
    for key, value in zip(pairs[::2], pairs[1::2], strict=True):
        if not isinstance(key, KEYS) or (isinstance(key, int) and key.bit_length() > 64):
            raise WeightsError(f"has a {type(key).__name__} as the key of a dictionary: keys are strings and numbers")
        target[key] = value


def _extend(target: Any, values: Sequence[Any]) -> None:
    if isinstance(target, Record) and target.name == "set":
        target.state += values
    elif isinstance(target, list):
        target += values
    else:
        raise WeightsError(f"appends to a {type(target).__name__}")


def _append(machine: _Machine) -> None:
    value = machine.stack.pop()
    _extend(machine.stack[-1], [value])


def _appends(machine: _Machine) -> None:
    values = machine.marked()
    _extend(machine.stack[-1], values)


def _set_item(machine: _Machine) -> None:
    value = machine.stack.pop()
    key = machine.stack.pop()
    _set_items(machine.stack[-1], [key, value])


def _set_all(machine: _Machine) -> None:
    values = machine.marked()
    _set_items(machine.stack[-1], values)


def _tuple(count: int) -> Callable[[_Machine], None]:
    def build(machine: _Machine) -> None:
        values = tuple(machine.stack[-count:])
        if len(values) < count:
            raise IndexError
        machine.stack[-count:] = [values]

    return build


def _whole(build: Callable[[list[Any]], Any]) -> Callable[[_Machine], None]:
    """A step that builds a value of all that lies above the last mark."""

    def push(machine: _Machine) -> None:
        values = machine.marked()  # another stack from here on
        machine.stack.append(build(values))

    return push


def _dictionary(values: list[Any]) -> dict[Any, Any]:
    dictionary: dict[Any, Any] = {}
    _set_items(dictionary, values)
    return dictionary


def _set(values: list[Any]) -> Record:
    return Record("set", state=values)


_CONTAINERS: dict[str, Callable[[_Machine], None]] = {
    "EMPTY_LIST": lambda machine: machine.stack.append([]),
    "EMPTY_TUPLE": lambda machine: machine.stack.append(()),
    "EMPTY_DICT": lambda machine: machine.stack.append({}),
    "EMPTY_SET": lambda machine: machine.stack.append(_set([])),
    "FROZENSET": _whole(_set),
    "LIST": _whole(list),
    "TUPLE": _whole(tuple),
    "DICT": _whole(_dictionary),
    "TUPLE1": _tuple(1),
    "TUPLE2": _tuple(2),
    "TUPLE3": _tuple(3),
    "APPEND": _append,
    "APPENDS": _appends,
    "ADDITEMS": _appends,
    "SETITEM": _set_item,
    "SETITEMS": _set_all,
}
