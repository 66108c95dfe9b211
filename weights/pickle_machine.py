"""A pickle interpreter that can build plain data and nothing else.

Python's own unpickler looks names up and calls what it finds. This one is an
allow-list twice over: it knows the opcodes that `torch.save` and Lightning
emit, and every global is an inert `Global`. Calling one gives either what the
caller's table of builders says or an inert `Stub` that remembers its name,
arguments, state and items. Nothing is imported, opened or executed.

Work is bounded: `MAX_STEPS` opcodes and copied elements (a few seconds and
less than a gigabyte at worst), however the pickle refers to itself.
"""

import dataclasses
import struct
from collections.abc import Callable, Mapping
from typing import Any

MAX_STEPS = 2_000_000
MAX_NAME = 256
_MAX_LONG = 255
_PLAIN_KEYS = (str, bytes, int, float, type(None))


class PickleError(ValueError):
  """A pickle that is malformed, or uses what plain data never needs."""


@dataclasses.dataclass(frozen=True, eq=False)
class Global:
  """The name of a class or function; the thing itself is never looked up."""

  name: str


@dataclasses.dataclass(eq=False, repr=False)
class Stub:
  """What stands in for an object that is not rebuilt."""

  name: str
  args: tuple = ()
  state: Any = None
  items: list = dataclasses.field(default_factory=list)

  def __repr__(self) -> str:
    return f"Stub({self.name})"


class Machine:
  """Runs one pickle.

  Args:
    builders: For each allowed global, what calling it gives. A builder takes
      the machine and the arguments, and charges for what it copies.
    persistent: Takes the machine and a persistent id, gives the object.
  """

  def __init__(
    self,
    builders: Mapping[str, Callable],
    persistent: Callable[["Machine", Any], Any],
  ):
    self.builders = builders
    self.persistent = persistent
    self.stubs: set[str] = set()
    self.steps = 0

  def charge(self, amount: int) -> None:
    """Counts work that grows with the data; too much of it is an error."""
    self.steps += amount
    if self.steps > MAX_STEPS:
      raise PickleError(f"the pickle takes more than {MAX_STEPS} steps")

  def call(self, function: Any, args: Any) -> Any:
    """Applies a global: a builder's result, or a stub."""
    if not isinstance(args, tuple):
      raise PickleError(f"arguments are {kind(args)}, not a tuple")
    if isinstance(function, Global):
      builder = self.builders.get(function.name)
      if builder is not None:
        return builder(self, *args)
      self.stubs.add(function.name)
      return Stub(function.name, args)
    if isinstance(function, Stub):
      return Stub(function.name, args)
    raise PickleError(f"the pickle calls {kind(function)}")

  def run(self, data: memoryview, start: int = 0) -> tuple[Any, int]:
    """Runs the pickle at `data[start:]`; returns its value and its end.

    Raises:
      PickleError: Whatever is wrong with it.
    """
    self._data, self._at = data, start
    self._stack, self._marks, self._memo = [], [], {}
    try:
      while True:
        code = self._data[self._at]
        self._at += 1
        self.charge(1)
        if code == _STOP:
          return self._stack.pop(), self._at
        _OPCODES[code](self)
    except PickleError as error:
      raise PickleError(f"{error} (byte {self._at})") from error
    except KeyError as error:
      raise PickleError(
        f"opcode or memo entry {error} at byte {self._at} is not known"
      ) from error
    except (
      IndexError,
      TypeError,
      ValueError,
      OverflowError,
      RecursionError,
    ) as error:
      raise PickleError(
        f"malformed pickle at byte {self._at}: {type(error).__name__}"
      ) from error

  def _take(self, count: int) -> bytes:
    end = self._at + count
    if count < 0 or end > len(self._data):
      raise PickleError(f"{count} bytes are asked for, the pickle is truncated")
    raw = bytes(self._data[self._at : end])
    self._at = end
    return raw

  def _number(self, form: str) -> int:
    return struct.unpack(form, self._take(struct.calcsize(form)))[0]

  def _line(self) -> str:
    limit = min(len(self._data), self._at + MAX_NAME + 1)
    raw = bytes(self._data[self._at : limit])
    end = raw.find(b"\n")
    if end < 0:
      raise PickleError(f"a name is longer than {MAX_NAME} bytes")
    self._at += end + 1
    return raw[:end].decode("utf-8")

  def _pop_mark(self) -> list:
    mark = self._marks.pop()
    if mark > len(self._stack):
      raise PickleError("a mark is above the stack")
    items = self._stack[mark:]
    del self._stack[mark:]
    return items

  def _extend(self, target: Any, items: list) -> None:
    if isinstance(target, Stub):
      target.items.extend(items)
    elif isinstance(target, list):
      target.extend(items)
    else:
      raise PickleError(f"items are appended to {kind(target)}")

  def _fill(self, target: Any, items: list) -> None:
    if len(items) % 2:
      raise PickleError("a key without a value")
    if isinstance(target, Stub):
      target.items.extend(zip(items[::2], items[1::2]))
    elif isinstance(target, dict):
      put(target, zip(items[::2], items[1::2]))
    else:
      raise PickleError(f"items are set in {kind(target)}")

  def _name(self, module: Any, name: Any) -> Global:
    if not isinstance(module, str) or not isinstance(name, str):
      raise PickleError("the name of a global is not text")
    if len(module) + len(name) > MAX_NAME:
      raise PickleError(f"a global's name is longer than {MAX_NAME}")
    return Global(f"{module}.{name}")


def kind(value: Any) -> str:
  """Names a value's type in a few characters, for messages."""
  if isinstance(value, Global | Stub):
    return f"{type(value).__name__} {value.name}"
  return f"a value of type {type(value).__name__}"


def put(target: dict, pairs: Any) -> None:
  """Sets items whose keys are cheap to hash: nested ones can cost 2^n."""
  for key, value in pairs:
    flat = key if type(key) is tuple else (key,)
    if not all(isinstance(k, (*_PLAIN_KEYS, Global, Stub)) for k in flat):
      raise PickleError(f"a key is {kind(key)}, not plain")
    target[key] = value


def _build(machine: Machine) -> None:
  state = machine._stack.pop()
  target = machine._stack[-1]
  if isinstance(target, Stub):
    target.state = state
  elif not isinstance(target, dict):
    raise PickleError(f"state is set on {kind(target)}")


def _long(machine: Machine, count: int) -> None:
  if not 0 <= count <= _MAX_LONG:
    raise PickleError(f"an integer of {count} bytes")
  raw = machine._take(count)
  machine._stack.append(int.from_bytes(raw, "little", signed=True))


def _text_or_bytes(raw: bytes) -> str | bytes:
  """Decodes a string of Python 2, which may be either."""
  try:
    return raw.decode("utf-8")
  except UnicodeDecodeError:
    return raw


def _push(make: Callable[[Machine], Any]) -> Callable[[Machine], None]:
  def opcode(machine: Machine) -> None:
    machine._stack.append(make(machine))

  return opcode


def _tuple(count: int) -> Callable[[Machine], None]:
  def opcode(machine: Machine) -> None:
    if len(machine._stack) < count:
      raise PickleError("a tuple is longer than the stack")
    items = tuple(machine._stack[-count:])
    machine._stack[-count:] = [items]

  return opcode


def _memoize(form: str) -> Callable[[Machine], None]:
  def opcode(machine: Machine) -> None:
    machine._memo[machine._number(form)] = machine._stack[-1]

  return opcode


def _get(form: str) -> Callable[[Machine], None]:
  return _push(lambda m: m._memo[m._number(form)])


def _set_item(machine: Machine) -> None:
  value, key = machine._stack.pop(), machine._stack.pop()
  machine._fill(machine._stack[-1], [key, value])


def _append(machine: Machine) -> None:
  value = machine._stack.pop()
  machine._extend(machine._stack[-1], [value])


def _set_items(machine: Machine) -> None:
  items = machine._pop_mark()
  machine._fill(machine._stack[-1], items)


def _appends(machine: Machine) -> None:
  items = machine._pop_mark()
  machine._extend(machine._stack[-1], items)


def _dict_from_mark(machine: Machine) -> dict:
  items: dict = {}
  machine._fill(items, machine._pop_mark())
  return items


def _reduce(machine: Machine) -> None:
  args, function = machine._stack.pop(), machine._stack.pop()
  machine._stack.append(machine.call(function, args))


def _new_with_keywords(machine: Machine) -> None:
  keywords, args = machine._stack.pop(), machine._stack.pop()
  function = machine._stack.pop()
  if not isinstance(keywords, dict) or keywords:
    function = Global(function.name) if isinstance(function, Stub) else function
    if not isinstance(function, Global):
      raise PickleError(f"the pickle calls {kind(function)}")
    machine.stubs.add(function.name)
    machine._stack.append(Stub(function.name, (args, keywords)))
    return
  machine._stack.append(machine.call(function, args))


def _stack_global(machine: Machine) -> None:
  name, module = machine._stack.pop(), machine._stack.pop()
  machine._stack.append(machine._name(module, name))


def _pop(machine: Machine) -> None:
  if machine._marks and machine._marks[-1] == len(machine._stack):
    machine._marks.pop()
  else:
    machine._stack.pop()


def _set_from_mark(machine: Machine) -> frozenset:
  items: dict = {}
  put(items, ((item, None) for item in machine._pop_mark()))
  return frozenset(items)


def _empty_set(machine: Machine) -> Stub:
  return Stub("builtins.set")


def _protocol(machine: Machine) -> None:
  version = machine._number("<B")
  if not 2 <= version <= 5:
    raise PickleError(f"pickle protocol {version} is not 2, 3, 4 or 5")


_STOP = ord(".")
_OPCODES: dict[int, Callable[[Machine], None]] = {
  0x80: _protocol,
  0x95: lambda m: m._number("<Q") and None,
  ord("("): lambda m: m._marks.append(len(m._stack)),
  ord("0"): _pop,
  ord("1"): lambda m: m._pop_mark() and None,
  ord("2"): _push(lambda m: m._stack[-1]),
  ord("N"): _push(lambda m: None),
  0x88: _push(lambda m: True),
  0x89: _push(lambda m: False),
  ord("K"): _push(lambda m: m._number("<B")),
  ord("M"): _push(lambda m: m._number("<H")),
  ord("J"): _push(lambda m: m._number("<i")),
  ord("G"): _push(lambda m: m._number(">d")),
  0x8A: lambda m: _long(m, m._number("<B")),
  0x8B: lambda m: _long(m, m._number("<i")),
  ord("X"): _push(lambda m: m._take(m._number("<I")).decode("utf-8")),
  0x8C: _push(lambda m: m._take(m._number("<B")).decode("utf-8")),
  0x8D: _push(lambda m: m._take(m._number("<Q")).decode("utf-8")),
  ord("U"): _push(lambda m: _text_or_bytes(m._take(m._number("<B")))),
  ord("T"): _push(lambda m: _text_or_bytes(m._take(m._number("<i")))),
  ord("C"): _push(lambda m: m._take(m._number("<B"))),
  ord("B"): _push(lambda m: m._take(m._number("<I"))),
  0x8E: _push(lambda m: m._take(m._number("<Q"))),
  ord("]"): _push(lambda m: []),
  ord("}"): _push(lambda m: {}),
  ord(")"): _push(lambda m: ()),
  0x8F: _push(_empty_set),
  0x91: _push(_set_from_mark),
  0x90: _appends,
  ord("t"): _push(lambda m: tuple(m._pop_mark())),
  0x85: _tuple(1),
  0x86: _tuple(2),
  0x87: _tuple(3),
  ord("l"): _push(lambda m: m._pop_mark()),
  ord("d"): _push(_dict_from_mark),
  ord("a"): _append,
  ord("e"): _appends,
  ord("s"): _set_item,
  ord("u"): _set_items,
  ord("q"): _memoize("<B"),
  ord("r"): _memoize("<I"),
  0x94: lambda m: m._memo.__setitem__(len(m._memo), m._stack[-1]),
  ord("h"): _get("<B"),
  ord("j"): _get("<I"),
  ord("c"): _push(lambda m: m._name(m._line(), m._line())),
  0x93: _stack_global,
  ord("Q"): lambda m: m._stack.append(m.persistent(m, m._stack.pop())),
  ord("R"): _reduce,
  0x81: _reduce,
  0x92: _new_with_keywords,
  ord("b"): _build,
}
