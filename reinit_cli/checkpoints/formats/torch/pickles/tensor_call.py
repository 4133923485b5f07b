"""Recognize the arguments of a tensor as torch.save writes them, all opcodes in one match.

The records are those that the opcodes would build one by one, in a fifth of the time.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from struct import Struct
from typing import NamedTuple

from reinit_cli.checkpoints.formats.torch.pickles.records import Instance, Persistent
from reinit_cli.checkpoints.formats.torch.pickles.state import UNSTORED, State

Span = tuple[int, int]
"""Where the bytes start in the file, and where they end."""

_TUPLE, _TUPLE1 = b"t\x85"

_WIDTHS = {b"K"[0]: 1, b"M"[0]: 2, b"J"[0]: 4}

_UINT32 = Struct("<I").unpack_from

# The arguments of a tensor as torch.save writes them in protocol 2, from the 256th memo entry
# on: ((tag, class, key, device, numel), offset, size, stride, False, OrderedDict()).
_GET = rb"(h.|j....)"


_PUT = rb"r(....)"


_INTEGER = rb"(?:K.|M..|J...[\0-\x7f])"


_SIZES = rb"(%b{1,3}[\x85-\x87]|\(%b{4,16}t)" % (_INTEGER, _INTEGER) + _PUT


_TENSOR_CALL = re.compile(
    rb"\(\(%b%bX(.)\0\0\0(\d{1,20})%b%b(%b)(N?)t%bQ" % (_GET, _GET, _PUT, _GET, _INTEGER, _PUT)
    + rb"(%b)%b%b\x89%b\)R%bt%bR%b" % (_INTEGER, _SIZES, _SIZES, _GET, _PUT, _PUT, _PUT),
    re.DOTALL,
)


_SEVEN = Struct("<7I").pack


def _index(get: bytes) -> int:
    return get[1] if len(get) == 2 else int(_UINT32(get, 1)[0])


@lru_cache(maxsize=4096)  # most offsets are 0, and most tensors of a file have few sizes
def _integers(written: bytes) -> tuple[int, ...]:
    """Return the integers at the start of what is written."""
    values = []
    at = 0
    while at < len(written) and written[at] in _WIDTHS:
        after = at + 1 + _WIDTHS[written[at]]
        values.append(int.from_bytes(written[at + 1 : after], "little"))
        at = after
    return tuple(values)


def call_as_written(state: State, window: bytes, at: int) -> re.Match[bytes] | None:
    """Call the topmost with the arguments of a tensor, as `torch.save` writes them all.

    What the opcodes would build one by one is built together, in a fifth of the time.

    Returns:
        What is written there; None where that is something else.
    """
    found = _TENSOR_CALL.match(window, at)
    if found is None or state.scattered:
        return None
    (tag, kind, nbytes, name, put_name, device, numel, view, put_id, start, *rest) = found.groups()
    size, put_size, stride, put_stride, hooks, *last_puts = rest
    memo = state.memo
    first = len(memo)
    recalled = [_index(get) for get in (tag, kind, device, hooks)]
    puts = b"".join((put_name, put_id, put_size, put_stride, *last_puts))
    dims, steps = _sizes_of(state, size), _sizes_of(state, stride)
    if nbytes[0] != len(name) or dims is None or steps is None:
        return None
    if state.holes or puts != _SEVEN(*range(first, first + 7)) or max(recalled) >= first:
        first = _place_of(state, puts, recalled)
        if first < 0:
            return None
    tag, kind, device, hooks = (memo[index] for index in recalled)
    text = name.decode()
    # A view's metadata, which is None, is the sixth item before torch 1.6.
    id_ = (tag, kind, text, device, *_integers(numel), *((None,) if view else ()))
    called = Instance(hooks, ())
    args = (Persistent(id_), *_integers(start), dims, steps, False, called)
    state.stack[-1] = tensor = Instance(state.stack[-1], args)
    memo[first : first + 7] = (text, id_, dims, steps, called, args, tensor)
    return found


def _place_of(state: State, puts: bytes, recalled: Sequence[int]) -> int:
    """Return where in the memo a tensor is stored that is not the next; -1 where it cannot be."""
    first = int(_UINT32(puts)[0])
    is_stored = (
        first < _LAST
        and not state.has_gaps  # nothing is stored over then
        and puts == _SEVEN(*range(first, first + 7))
        and max(recalled) < len(state.memo)
        and not any(first <= each < first + 7 for each in recalled)
        and all(state.memo[each] is not UNSTORED for each in recalled)
        and state.makes_room(first, 7)
    )
    return first if is_stored else -1


_LAST = 2**32 - 7


def _sizes_of(state: State, written: bytes) -> tuple[int, ...] | None:
    """Return the tuple that is written so; None where it would leave integers over."""
    if written not in state.sizes:
        sizes = _integers(written.removeprefix(b"("))
        closing = _TUPLE if written[:1] == b"(" else _TUPLE1 + len(sizes) - 1
        state.sizes[written] = sizes if written[-1] == closing else None
    return state.sizes[written]


class CallSpans(NamedTuple):
    """Where the parts of the call of a tensor lie.

    Attributes:
        function: what is called.
        args: each of its arguments.
        id: each item of the persistent id of the storage, which is the first argument.
    """

    function: Span
    args: Sequence[Span]
    id: Sequence[Span]


def call_spans(data: bytes, start: int) -> CallSpans | None:
    """Return where the parts of a tensor lie that `call_as_written` has called.

    Args:
        data: the opcode that recalls the function, the call, and perhaps more.
        start: where the data starts in the file.
    """
    width = 2 if data[:1] == b"h" else 5
    found = _TENSOR_CALL.match(data, width)
    if found is None:
        return None

    def span(first: int, last: int, before: int = 0) -> Span:
        return start + found.start(first) - before, start + found.end(last)

    view = [span(_VIEW, _VIEW)] if found[_VIEW] else []
    at = start + width
    flag = span(_STRIDE, _STRIDE + 1)[1]
    return CallSpans(
        (start, at),
        (
            (at + 1, start + found.start(_OFFSET)),
            span(_OFFSET, _OFFSET),
            span(_SIZE, _SIZE + 1),
            span(_STRIDE, _STRIDE + 1),
            (flag, flag + 1),
            span(_HOOKS, _HOOKS + 1),
        ),
        (span(1, 1), span(2, 2), span(3, 5, 1), span(6, 6), span(7, 7), *view),
    )


def memo_events(found: re.Match[bytes]) -> Iterator[tuple[int, int, int, int]]:
    """Yield what a call that was matched stores in the memo and recalls from it.

    Yields:
        Where the opcode starts and ends, the index, and where the value starts that is
        stored; -1 for what is recalled. Where the function starts, by which the tensor
        starts, is not known here: it has -2.
    """
    for group in _EVENTS:
        start, end = found.span(group)
        if group in _STARTS:
            first, before = _STARTS[group]
            value_start = found.start(first) + before if first >= 0 else -2
            yield start - 1, end, int(_UINT32(found[group])[0]), value_start
        else:
            yield start, end, _index(found[group]), -1


# The groups of the match.
_VIEW, _OFFSET, _SIZE, _STRIDE, _HOOKS = 8, 10, 11, 13, 15

_EVENTS = (1, 2, 5, 6, 9, 12, 14, 15, 16, 17, 18)

# Of what stores: the group with which its value starts, and how far from there.
_STARTS = {5: (3, -1), 9: (0, 1), 12: (11, 0), 14: (13, 0), 16: (15, 0), 17: (0, 0), 18: (-1, 0)}
