"""Recognize what `.metadata` says of each piece, all opcodes of an object in one match.

A checkpoint of a thousand ranks has a hundred thousand pieces, and a pickle of 40 opcodes for
each of them. Four classes make up nearly all of these; what their opcodes would build one by
one is built together, in a fifth of the time. Anything written in another way is left to the
machine, which reads it as what it says.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

from reinit_cli.checkpoints.formats.torch.pickles.opcodes import decoded
from reinit_cli.checkpoints.formats.torch.pickles.records import Global
from reinit_cli.checkpoints.formats.torch.pickles.state import UNSTORED, State

METADATA = "torch.distributed.checkpoint.metadata"
FILESYSTEM = "torch.distributed.checkpoint.filesystem"

Size = tuple[int, ...]

_Class = tuple[str, str]
"""The module of a class, and its name."""

_Made = TypeVar("_Made")


# Named tuples: a folder may have a hundred thousand, and dataclasses take four times as long.
class Chunk(NamedTuple):
    """A box of a tensor: where it starts in each dimension, and how long it is there."""

    offsets: Size
    sizes: Size


class Index(NamedTuple):
    """The name of what lies in a place: a tensor's piece by where it starts, or an object."""

    fqn: str
    offset: Size | None


class Storing(NamedTuple):
    """A place: a file, the first byte, and the number of bytes."""

    file: str
    offset: int
    nbytes: int
    transforms: tuple[str, ...] = ()


class Properties(NamedTuple):
    """What is known of a tensor besides its size."""

    dtype: str


class Lone(NamedTuple):
    """A tensor that is one box."""

    dtype: str
    shape: Size
    chunk: Chunk


_GET = rb"(h.|j....)"
_PLAIN_GET = rb"(?:h.|j....)"
_INTEGER = (
    rb"(?:K.|M..|J...[\0-\x7f]|\x8a\x05.{4}[\0-\x7f]|\x8a\x06.{5}[\0-\x7f]|\x8a\x07.{6}[\0-\x7f])"
)
_TEXT = rb"(" + _PLAIN_GET + rb"|\x8c.[^\x94]{0,255}\x94)"
"""A text that is recalled, or written and stored."""

_DIMS = rb"((?:%b){1,3}[\x85-\x87]|\((?:%b){4,16}t|\))" % (_INTEGER, _INTEGER)
_SIZE = _GET + _DIMS + rb"(\x94?)\x85\x94R\x94"
"""torch.Size, called with a tuple; the empty one is not stored."""

_STATE = rb"\x94\}\x94\("
_END = rb"ub"

_CHUNK = re.compile(_STATE + _GET + _SIZE + _GET + _SIZE + _END, re.DOTALL)
_INDEX = re.compile(
    _STATE
    + _GET
    + _TEXT
    + _GET
    + rb"(%b|N)" % _INTEGER
    + _GET
    + rb"(?:%b|%b)" % (_SIZE, _GET)
    + _END,
    re.DOTALL,
)
_STORING = re.compile(
    _STATE + _GET + _TEXT + _GET + rb"(%b)" % _INTEGER + _GET + rb"(%b)" % _INTEGER + _END,
    re.DOTALL,
)
_PROPERTIES = re.compile(rb"\x94\(%b%b\x89%b\x89t\x94b" % (_GET, _GET, _GET), re.DOTALL)

_CLASS = _GET + rb"\)\x81"
_TENSOR = re.compile(
    _STATE
    + _GET
    + _CLASS
    + rb"\x94\(%b%b\x89%b\x89t\x94b" % (_GET, _GET, _GET)
    + _GET
    + _SIZE
    + _GET
    + rb"\]\x94"
    + _CLASS
    + _STATE
    + _GET
    + _SIZE
    + _GET
    + _SIZE
    + _END
    + rb"aub",
    re.DOTALL,
)
_NEXT = re.compile(_CLASS, re.DOTALL)

_MOST_AT_ONCE = 1000
"""How many objects are made before the machine looks at what is spent."""

_LONGEST = 1_000
"""No phrase takes more bytes."""

_WIDTHS = {b"K"[0]: 1, b"M"[0]: 2, b"J"[0]: 4}
_LONG, _MARKED, _TUPLE, _EMPTY, _WRITTEN = 0x8A, b"("[0], b"t"[0], b")"[0], 0x8C
_TUPLE1 = 0x85

_OF_SIZE = (("torch", "Size"),)
_OF_CHUNK = ("offsets", "sizes")
_OF_INDEX = ("fqn", "index", "offset")
_OF_STORING = ("relative_path", "offset", "length")
_OF_TENSOR = (
    *("properties", (METADATA, "TensorProperties"), "size", "chunks"),
    (METADATA, "ChunkStorageMetadata"),
)
"""What the recalls of a phrase stand for, in order."""

PHRASE_NBYTES = 250
"""What the record of a phrase takes."""


def new_or_phrase(state: State) -> None:
    """Make a new object: with all that is set on it where that is written as usual."""
    stack = state.stack
    is_usual = not (state.scattered or state.holes) and len(stack) > 1 and stack[-1] == ()
    if is_usual and not (state.marks and state.marks[-1] > len(stack) - 2):
        phrase = _PHRASES.get(_name_of(stack[-2]))
        made = _phrase(state, phrase) if phrase is not None else None
        if made is not None:
            stack[-2:] = [made]
            _make_more(state)
            return
    state.new()


def _make_more(state: State) -> None:
    """Make the objects that follow, as those of a list or of a dictionary do."""
    for _ in range(_MOST_AT_ONCE):
        if state.at + 2 * _LONGEST > len(state.window):
            state.refill(2 * _LONGEST)
        found = _NEXT.match(state.window, state.at)
        if found is None:
            break
        state.at = found.end()
        written = found[1]
        phrase = state.known.get(written) or _phrase_of(state, written)
        made = _phrase(state, phrase) if phrase is not None else None
        if made is None:
            state.at = found.start()
            break
        state.stack.append(made)


def _phrase_of(state: State, written: bytes) -> Callable[[State], Any] | None:
    """Return what recognizes an object of the class that is recalled."""
    phrase = _PHRASES.get(_name_of(_recalled(state, written)))
    if phrase is not None:
        _note(state, written, phrase)
    return phrase


def _name_of(class_: Any) -> _Class | None:
    return (class_.module, class_.name) if type(class_) is Global else None


def _phrase(state: State, phrase: Callable[[State], Any]) -> Any:
    """Return the object of a class that is written next; None where it is not as usual."""
    if state.at + _LONGEST > len(state.window):
        state.refill(_LONGEST)
    made = phrase(state)
    if made is not None:
        state.taken += PHRASE_NBYTES
    return made


def _note(state: State, written: Any, found: Any) -> None:
    """Note what recalls stand for, where nothing is stored over any more."""
    if state.has_gaps and len(state.known) < _MOST_KNOWN:
        state.known[written] = found


_MOST_KNOWN = 1_000
"""More ways to write the same names than any pickler has."""


def _are(state: State, written: tuple[bytes, ...], names: tuple[str | _Class, ...]) -> bool:
    """Whether recalls stand for texts and classes."""
    if state.known.get(written) is names:
        return True
    found = (_recalled(state, each) for each in written)
    if tuple(each if type(each) is str else _name_of(each) for each in found) != names:
        return False
    _note(state, written, names)
    return True


def _recalled(state: State, written: bytes) -> Any:
    """Return what is recalled; what is not there is left to the machine to refuse."""
    index = written[1] if len(written) == 2 else int.from_bytes(written[1:], "little")
    return state.memo[index] if index < len(state.memo) else UNSTORED


def _text(state: State, written: bytes) -> tuple[Any, tuple[str, ...]]:
    """Return a text, and what it adds to the memo; None where it is not written as usual."""
    if written[0] != _WRITTEN:
        found = _recalled(state, written)
        return (found if type(found) is str else None), ()
    if written[1] != len(written) - 3:
        return None, ()
    text = decoded(written[2:-1])
    return text, (text,)


def _integers(written: bytes) -> Size:
    """Return the integers at the start of what is written."""
    values = []
    at = 0
    while at < len(written):
        code = written[at]
        if code in _WIDTHS:
            start, after = at + 1, at + 1 + _WIDTHS[code]
        elif code == _LONG:
            start, after = at + 2, at + 2 + written[at + 1]
        else:
            break
        values.append(int.from_bytes(written[start:after], "little"))
        at = after
    return tuple(values)


def _size(state: State, named: bytes, written: bytes) -> Size | None:
    """Return a torch.Size; None where it is not one, or would leave integers over."""
    if not _are(state, (named,), _OF_SIZE):
        return None
    if written not in state.sizes:
        found = _integers(written.removeprefix(b"("))
        closing = _TUPLE1 + len(found) - 1 if found else _EMPTY
        closing = _TUPLE if written[0] == _MARKED else closing
        state.sizes[written] = found if written[-1] == closing else None
    return state.sizes[written]


def _stored_size(size: Size, put: bytes) -> tuple[Any, ...]:
    """Return what a size adds to the memo: its tuple unless that is empty, the call, itself.

    What nobody recalls but a stranger is left out, and refused where it is recalled.
    """
    return (*((UNSTORED,) if put else ()), UNSTORED, size)


def _box(state: State, groups: tuple[bytes, ...]) -> tuple[Chunk, tuple[Any, ...]] | None:
    """Return a chunk, and what it adds to the memo."""
    first, named, offsets, put, second, of_sizes, sizes, put_sizes = groups
    start, length = _size(state, named, offsets), _size(state, of_sizes, sizes)
    if start is None or length is None or not _are(state, (first, second), _OF_CHUNK):
        return None
    if bool(put) != bool(start) or bool(put_sizes) != bool(length):
        return None
    # Tensors of one shape have the same boxes: a network has few shapes.
    written = offsets, sizes
    chunk = state.known.get(written)
    if chunk is None:
        chunk = Chunk(start, length)
        _note(state, written, chunk)
    return chunk, (
        *(chunk, UNSTORED),
        *_stored_size(start, put),
        *_stored_size(length, put_sizes),
    )


def _chunk(state: State) -> Chunk | None:
    found = _CHUNK.match(state.window, state.at)
    box = _box(state, found.groups()) if found is not None else None
    if found is None or box is None:
        return None
    return _ended(state, found, *box)


def _tensor(state: State) -> Lone | None:
    found = _TENSOR.match(state.window, state.at)
    if found is None:
        return None
    groups = found.groups()
    first, properties, *of_dtype, second, named, dims, put, third, class_, _ = groups[:12]
    dtype, shape = _dtype(state, of_dtype), _size(state, named, dims)
    box = _box(state, groups[11:])
    if dtype is None or shape is None or box is None or bool(put) != bool(shape):
        return None
    if not _are(state, (first, properties, second, third, class_), _OF_TENSOR):
        return None
    chunk, stored = box
    before = UNSTORED, UNSTORED, Properties(dtype), UNSTORED, *_stored_size(shape, put), UNSTORED
    return _ended(state, found, Lone(dtype, shape, chunk), (*before, *stored))


def _dtype(state: State, groups: list[bytes]) -> str | None:
    """Return the dtype of properties, with a layout and a form of memory that are there."""
    written = tuple(groups)
    known = state.known.get(written)
    if type(known) is str:
        return known
    dtype, layout, memory = (_recalled(state, each) for each in groups)
    is_there = layout is not UNSTORED and memory is not UNSTORED
    if type(dtype) is not Global or dtype.module != "torch" or not is_there:
        return None
    _note(state, written, dtype.name)
    return dtype.name


def _index(state: State) -> Index | None:
    found = _INDEX.match(state.window, state.at)
    if found is None:
        return None
    first, text, second, _, third, named, dims, put, recalled = found.groups()
    fqn, stored = _text(state, text)
    if fqn is None or not _are(state, (first, second, third), _OF_INDEX):
        return None
    if recalled is not None:
        offset = _recalled(state, recalled)
        sized: tuple[Any, ...] = ()
    else:
        offset = _size(state, named, dims)
        if offset is None or bool(put) != bool(offset):
            return None
        sized = _stored_size(offset, put)
    if type(offset) is not tuple:
        return None
    index = Index(fqn, offset)
    return _ended(state, found, index, (index, UNSTORED, *stored, *sized))


def _storing(state: State) -> Storing | None:
    found = _STORING.match(state.window, state.at)
    if found is None:
        return None
    first, path, second, offset, third, length = found.groups()
    file, stored = _text(state, path)
    if file is None or not _are(state, (first, second, third), _OF_STORING):
        return None
    storing = Storing(file, _integers(offset)[0], _integers(length)[0])
    return _ended(state, found, storing, (storing, UNSTORED, *stored))


def _properties(state: State) -> Properties | None:
    found = _PROPERTIES.match(state.window, state.at)
    dtype = _dtype(state, list(found.groups())) if found is not None else None
    if found is None or dtype is None:
        return None
    properties = Properties(dtype)
    return _ended(state, found, properties, (properties, UNSTORED))


def _ended(state: State, found: re.Match[bytes], made: _Made, stored: tuple[Any, ...]) -> _Made:
    """Store what a phrase stores, and go on after it."""
    state.memo += stored
    state.has_gaps = True
    state.at = found.end()
    return made


_PHRASES: Mapping[_Class | None, Callable[[State], Any]] = {
    (METADATA, "ChunkStorageMetadata"): _chunk,
    (METADATA, "MetadataIndex"): _index,
    (FILESYSTEM, "_StorageInfo"): _storing,
    (METADATA, "TensorProperties"): _properties,
    (METADATA, "TensorStorageMetadata"): _tensor,
}
