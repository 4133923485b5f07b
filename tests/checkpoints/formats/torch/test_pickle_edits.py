"""A part of a pickle is replaced, and `pickle` finds everything else as it was."""

from __future__ import annotations

import contextlib
import io
import pickle
import pickletools
import random
import struct
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reinit_cli.checkpoints.formats.torch.edits.pickle_edits import edited
from reinit_cli.checkpoints.formats.torch.edits.replacements import Replacement
from reinit_cli.checkpoints.formats.torch.edits.span_machine import read_spans
from reinit_cli.checkpoints.formats.torch.edits.spans import Spans
from reinit_cli.checkpoints.formats.torch.pickles.budget import Budget
from reinit_cli.checkpoints.formats.torch.pickles.records import Dict, Instance
from reinit_cli.checkpoints.formats.torch.pickles.tensor_call import Span
from reinit_cli.errors import MalformedFileError, UnsupportedFormatError
from reinit_cli.storage.local import InputFile
from reinit_cli.storage.segments import Copy, Literal, Segment

# --- random objects, whose parts are shared and may hold what holds them --------------------

_PLAIN = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.integers(-300, 70_000),
    st.floats(allow_nan=False),
    st.text(max_size=5),
    st.text(min_size=250, max_size=300),
    st.binary(max_size=5),
)
_KEYS = st.one_of(st.integers(-5, 5), st.text(max_size=3), st.tuples(st.integers(0, 3)))
_KINDS = st.sampled_from(("list", "tuple", "dict", "ordered", "set"))


@st.composite
def _objects(draw: st.DrawFn) -> Any:
    """Draw an object whose parts are made of earlier ones, and of itself."""
    made: list[Any] = draw(st.lists(_PLAIN, min_size=1, max_size=4))
    for kind in draw(st.lists(_KINDS, min_size=1, max_size=6)):
        parts = [made[draw(st.integers(0, len(made) - 1))] for _ in range(draw(st.integers(0, 4)))]
        keys = draw(st.lists(_KEYS, min_size=len(parts), max_size=len(parts), unique=True))
        pairs = zip(keys, parts, strict=True)
        if kind == "set":
            made.append(set(draw(st.lists(_KEYS, max_size=3))))
        elif kind in ("dict", "ordered"):
            made.append({"dict": dict, "ordered": OrderedDict}[kind](pairs))
        else:
            made.append({"list": list, "tuple": tuple}[kind](parts))
    for each in made:
        if isinstance(each, list) and draw(st.booleans()):
            each.append(made[draw(st.integers(0, len(made) - 1))])
        if isinstance(each, dict) and draw(st.booleans()):
            each["more"] = made[draw(st.integers(0, len(made) - 1))]
    return {"first": made[-1], "all": made, "last": made[draw(st.integers(0, len(made) - 1))]}


def _form(top: Any) -> str:
    """Spell an object, with a number for everything that can change."""
    numbers: dict[int, int] = {}

    def spelled(each: Any) -> str:
        if isinstance(each, tuple):
            return f"({', '.join(map(spelled, each))},)"
        if not isinstance(each, (list, dict, set)):
            return repr(each)
        if id(each) in numbers:
            return f"<{numbers[id(each)]}>"
        numbers[id(each)] = len(numbers)
        name = f"{type(each).__name__} {numbers[id(each)]}"
        if isinstance(each, set):
            return f"{name} {sorted(map(repr, each))}"
        items = each.items() if isinstance(each, dict) else enumerate(each)
        return f"{name} {[(spelled(key), spelled(value)) for key, value in items]}"

    return spelled(top)


def _has_tuple_in_itself(top: Any) -> bool:
    """Whether a tuple is a part of itself, which pickle takes apart."""
    above: list[Any] = []

    def found(each: Any) -> bool:
        if not isinstance(each, (list, tuple, dict)):
            return False
        if (outer := next((at for at, of in enumerate(above) if of is each), None)) is not None:
            return any(isinstance(of, tuple) for of in above[outer:])
        above.append(each)
        is_found = any(map(found, each.values() if isinstance(each, dict) else each))
        above.pop()
        return is_found

    return found(top)


# --- how a pickle can be written ------------------------------------------------------------


def _dumped(value: Any, protocol: int) -> bytes:
    return pickle.dumps(value, protocol)


def _optimized(value: Any, protocol: int) -> bytes:
    return pickletools.optimize(pickle.dumps(value, protocol))


def _with_other_indices(numbers: Callable[[int], int], opcode: str) -> Callable[[Any, int], bytes]:
    """Return a way to write pickles whose memo has other indices, in wide opcodes or as text."""

    def written(value: Any, protocol: int) -> bytes:
        data = pickle.dumps(value, min(protocol, 3))
        out = bytearray()
        ops = [*pickletools.genops(data)]
        ends = [at for _, _, at in ops[1:]] + [len(data)]
        for (op, arg, at), end in zip(ops, ends, strict=True):
            name = op.name.removeprefix("LONG_").removeprefix("BIN")
            if name not in ("PUT", "GET"):
                out += data[at:end]
            elif opcode == "text":
                out += f"{'p' if name == 'PUT' else 'g'}{numbers(int(arg))}\n".encode()
            else:
                out += (b"r" if name == "PUT" else b"j") + struct.pack("<I", numbers(int(arg)))
        return bytes(out)

    return written


WRITERS: dict[str, Callable[[Any, int], bytes]] = {
    "pickle": _dumped,
    "few indices": _optimized,
    "wide indices": _with_other_indices(lambda index: index, "wide"),
    "indices out of order": _with_other_indices(lambda index: (index * 7 + 3) % 1009, "wide"),
    "indices from 1000": _with_other_indices(lambda index: 1000 + index, "wide"),
    "indices as text": _with_other_indices(lambda index: 5000 - index, "text"),
}


def _opcodes(value: Any, protocol: int = 3) -> bytes:
    """Write a value without its memo, and without what starts and ends a pickle."""
    out = io.BytesIO()
    pickler = pickle.Pickler(out, protocol)
    pickler.fast = True
    pickler.dump(value)
    return out.getvalue()[2:-1]


# --- what can be replaced -------------------------------------------------------------------


class _Edit(NamedTuple):
    """A part of an object: its bytes, and how Python replaces it."""

    spans: tuple[Span, ...]
    replacement: bytes
    do: Callable[[], None]


def _rename(holder: dict[Any, Any], old: Any, new: Any) -> None:
    items = [(new if key is old else key, value) for key, value in holder.items()]
    holder.clear()
    holder.update(items)


def _parts(
    spans: Spans, record: Any, value: Any, new: Any, seen: set[int] | None = None
) -> Iterator[_Edit]:
    """Yield every part of an object that can be replaced, by a new value, key or nothing."""
    seen = set() if seen is None else seen
    if id(record) in seen or isinstance(record, (str, bytes)):
        return
    seen.add(id(record))
    inner: Sequence[tuple[Any, Any]] = ()
    if isinstance(value, dict):
        assert isinstance(record, (Dict, Instance))
        for (at, key), pair in zip(enumerate([*value]), spans.pairs(record), strict=True):
            assert pair.key[0] < pair.key[1] <= pair.value[0] < pair.value[1]
            yield _Edit((pair.value,), _opcodes(new), _setting(value, key, new))
            yield _Edit((pair.key,), _opcodes("new key"), _renaming(value, key))
            yield _Edit(pair.whole, b"", _dropping(value, key))
            assert record.pairs[2 * at] == key or isinstance(key, tuple)
        inner = list(zip(record.pairs[1::2], value.values(), strict=True))
    elif isinstance(value, (list, tuple)):
        assert len(spans.items(record)) == len(value)
        inner = list(zip(record, value, strict=True))
        if isinstance(value, list):
            for at, span in enumerate(spans.items(record)):
                yield _Edit((span,), _opcodes(new), _setting(value, at, new))
    for part, of in inner:
        if isinstance(part, (Dict, Instance, list, tuple)):
            start, end = spans.of(part)
            assert start < end
            yield from _parts(spans, part, of, new, seen)


def _setting(holder: Any, key: Any, new: Any) -> Callable[[], None]:
    return lambda: holder.__setitem__(key, pickle.loads(pickle.dumps(new)))


def _renaming(holder: Any, key: Any) -> Callable[[], None]:
    return lambda: _rename(holder, key, "new key")


def _dropping(holder: Any, key: Any) -> Callable[[], None]:
    return lambda: holder.__delitem__(key)


def _read(data: bytes) -> Spans:
    with InputFile("x.pkl") as file:
        return read_spans(file, 0, len(data), Budget(file.path))


def _joined(segments: Sequence[Segment]) -> bytes:
    out = b""
    for each in segments:
        assert isinstance(each, (Copy, Literal))
        out += each.data if isinstance(each, Literal) else each.file.read(each.offset, each.nbytes)
    return out


def _edited(data: bytes, replacements: dict[Span, Replacement]) -> bytes:
    Path("x.pkl").write_bytes(data)
    with InputFile("x.pkl") as file:
        spans = read_spans(file, 0, len(data), Budget(file.path))
        return _joined(edited(file, 0, len(data), spans, replacements))


_EXAMPLES = (
    _objects(),
    st.recursive(_PLAIN, lambda inner: st.lists(inner, max_size=2), max_leaves=3),
    st.sampled_from(range(6)),
    st.sampled_from([*WRITERS]),
    st.randoms(use_true_random=False),
)


@settings(max_examples=20, deadline=None)
@given(*_EXAMPLES)
def test_any_part_is_replaced_and_what_it_shares_stays(
    value: Any, new: Any, protocol: int, writer: str, chance: random.Random
) -> None:
    _check_parts(value, new, protocol, writer, chance)


@pytest.mark.slow
@settings(max_examples=400, deadline=None)
@given(*_EXAMPLES)
def test_any_part_of_many_objects_is_replaced_and_what_it_shares_stays(
    value: Any, new: Any, protocol: int, writer: str, chance: random.Random
) -> None:
    _check_parts(value, new, protocol, writer, chance)


def _check_parts(value: Any, new: Any, protocol: int, writer: str, chance: random.Random) -> None:
    data = WRITERS[writer](value, protocol)
    Path("x.pkl").write_bytes(data)
    spans = _read(data)
    count = len([*_parts(spans, spans.top, pickle.loads(data), new)])
    for at in chance.sample(range(count), min(count, 8)):
        expected = pickle.loads(data)
        spans = _read(data)
        part = [*_parts(spans, spans.top, expected, new)][at]

        try:
            found = _edited(data, dict.fromkeys(part.spans, part.replacement))
        except UnsupportedFormatError:
            assert _has_tuple_in_itself(expected)
            continue

        part.do()
        assert _form(pickle.loads(found)) == _form(expected)
        assert _form(pickle._loads(found)) == _form(expected)
        if all(op.name != "MEMOIZE" for op, _, _ in pickletools.genops(data)):
            # An index that counts itself may be stored again, which it takes for a mistake.
            pickletools.dis(found, io.StringIO())


# --- pickles that other programs write ------------------------------------------------------


def _text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


_A, _B = _text("a"), _text("b")

WRITTEN: dict[str, tuple[bytes, Any]] = {
    "no memo": (b"\x80\x02}(" + _A + b"](K\x01K\x02e" + _B + b"K\x03u.", {"a": "new", "b": 3}),
    "single items": (b"}" + _A + b"]K\x01as" + _B + b"K\x03s.", {"a": "new", "b": 3}),
    "a dictionary of marked pairs": (
        b"(" + _A + b"(K\x01l" + _B + b"K\x03d.",
        {"a": "new", "b": 3},
    ),
    "protocol 0": (b"(dp0\nVa\np1\n(lp2\nI1\nasVb\ng2\ns.", {"a": "new", "b": [1]}),
    "pops": (
        b"}K\x050(" + _A + b"K\x070](K\x01e" + _B + b"(K\x09K\x091K\x03u.",
        {"a": "new", "b": 3},
    ),
    "a mark that is popped": (b"}((0" + _A + b"](K\x01e" + _B + b"K\x03u.", {"a": "new", "b": 3}),
    "stored twice": (
        b"}(" + _A + b"]q\x01(K\x01e" + _B + b"(]q\x01K\x02ah\x01tu.",
        {"a": "new", "b": ([2], [2])},
    ),
    "a tuple that holds itself": (
        b"}(" + _A + b"]q\x01h\x01\x85q\x02a0h\x02" + _B + b"h\x02K\x03\x86u.",
        None,
    ),
    "stored under two indices": (
        b"}(" + _A + b"]q\x01q\x02(K\x01e" + _B + b"(h\x02h\x01h\x02tu.",
        {"a": "new", "b": ([1], [1], [1])},
    ),
    "a recalled value under another index": (
        b"](]q\x01}(" + _A + b"h\x01q\x02" + _B + b"(h\x01h\x02tue.",
        [[], {"a": "new", "b": ([], [])}],
    ),
    "a class and its arguments": (
        b"}(" + _A + b"(cfractions\nFraction\nK\x01K\x02oq\x01" + _B + b"h\x01u.",
        {"a": "new", "b": 0.5},
    ),
    "an instance of protocol 0": (
        b"(dVa\n(I1\nI2\nifractions\nFraction\np1\nsVb\ng1\ns.",
        {"a": "new", "b": 0.5},
    ),
    "an unfinished list that is changed": (
        b"}(" + _A + b"]q\x01(K\x01h\x01e" + _B + b"h\x01K\x02au.",
        None,
    ),
    "frames": (
        b"\x80\x04\x95\x10\0\0\0\0\0\0\0}\x94(\x8c\x01a\x94]\x94K\x01a\x8c\x01b\x95\x02\0\0\0\0\0\0\0h\x02u.",
        {"a": "new", "b": [1]},
    ),
}


@pytest.mark.parametrize("name", WRITTEN)
def test_what_other_programs_write_is_replaced(name: str) -> None:
    data, expected = WRITTEN[name]
    Path("x.pkl").write_bytes(data)
    spans = _read(data)
    holder = spans.top if isinstance(spans.top, Dict) else spans.top[-1]

    found = _edited(data, {spans.pairs(holder)[0].value: _text("new")})

    if expected is None:  # what holds itself is not equal to anything
        expected = pickle.loads(data)
        expected["a"] = "new"
    assert _form(pickle.loads(found)) == _form(expected) or pickle.loads(found) == expected
    assert _form(pickle._loads(found)) == _form(pickle.loads(found))


_PAIRS = b"ccollections\nOrderedDict\n(](](" + _A + b"K\x01e](" + _B + b"K\x02eetR."


def test_a_pair_of_a_dictionary_of_python_2_is_dropped_and_its_key_renamed() -> None:
    Path("x.pkl").write_bytes(_PAIRS)
    spans = _read(_PAIRS)
    first, second = spans.pairs(spans.top)

    found = _edited(_PAIRS, {**dict.fromkeys(first.whole, b""), second.key: _text("c")})

    assert pickle.loads(found) == OrderedDict(c=2)


def test_single_pairs_of_a_dictionary_of_python_2_are_dropped() -> None:
    data = b"ccollections\nOrderedDict\n(]](" + _A + b"K\x01ea](" + _B + b"K\x02eatR."
    Path("x.pkl").write_bytes(data)
    spans = _read(data)

    found = _edited(data, dict.fromkeys(spans.pairs(spans.top)[0].whole, b""))

    assert pickle.loads(found) == OrderedDict(b=2)


REFUSED = {
    "pairs that are used again": (
        b"(ccollections\nOrderedDict\n(](](" + _A + b"K\x01eq\x05etRh\x05t.",
        "uses again",
    ),
    "a list of pairs that is used again": (
        b"(](](" + _A + b"K\x01eeq\x05ccollections\nOrderedDict\n(h\x05tRt.",
        "unusual way",
    ),
    "a copied dictionary": (
        b"(ccollections\nOrderedDict\n(}" + _A + b"K\x01stRt.",
        "unusual way",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_dictionary_that_is_made_of_what_others_see_is_refused(name: str) -> None:
    data, problem = REFUSED[name]
    Path("x.pkl").write_bytes(data)
    spans = _read(data)
    holder = next(each for each in spans.top if isinstance(each, Instance))

    with pytest.raises(UnsupportedFormatError, match=problem):
        spans.pairs(holder)


UNCLEAR = {
    "a value that changes another": (
        b"](]q\x01}(" + _A + b"h\x01K\x01a" + _B + b"h\x01ue.",
        "from within another",
    ),
    "a doubled value": (b"]}(" + _A + b"]2" + _B[:0] + b"0" + _B + b"K\x01ua.", "doubles"),
    "a value that is changed after it is made": (
        b"]}(" + _A + b"(]q\x01]q\x02h\x01h\x02a0t" + _B + b"h\x01ua.",
        "from within another",
    ),
    "a memo that counts what is replaced": (
        b"\x80\x04]}(" + _A + b"](]q\x00e" + _B + b"]\x94ua.",
        "counts its memo",
    ),
}


@pytest.mark.parametrize("name", UNCLEAR)
def test_what_cannot_be_replaced_alone_is_refused(name: str) -> None:
    data, problem = UNCLEAR[name]
    Path("x.pkl").write_bytes(data)
    spans = _read(data)
    pair = spans.pairs(spans.top[-1])[0]

    with pytest.raises(UnsupportedFormatError, match=problem):
        _edited(data, {pair.value: b"K\x01"})


def test_what_is_kept_is_copied_in_one_piece_where_it_is_long() -> None:
    data = pickle.dumps({"a": [1], "b": b"x" * 10**6, "c": [2]}, 3)
    Path("x.pkl").write_bytes(data)
    with InputFile("x.pkl") as file:
        spans = read_spans(file, 0, len(data), Budget(file.path))
        pairs = spans.pairs(spans.top)

        segments = edited(file, 0, len(data), spans, {pairs[0].value: b"K\x01"})

        assert [type(each) for each in segments] == [Literal, Copy]
        assert pickle.loads(_joined(segments)) == {"a": 1, "b": b"x" * 10**6, "c": [2]}


def test_a_pickle_without_an_end_or_with_an_empty_stack_is_refused() -> None:
    for data in (b"", b"}", b"\x80\x02K", b"t.", b"0.", b"h\x05.", b"](K\x01", b"\xff."):
        Path("x.pkl").write_bytes(data)
        with pytest.raises(MalformedFileError):
            _read(data)


# --- what a stranger's pickle costs ---------------------------------------------------------


def _put(index: int) -> bytes:
    return b"r" + struct.pack("<I", index)


def _again(index: int) -> bytes:
    return b"j" + struct.pack("<I", index)


def _two(first: bytes, second: bytes) -> bytes:
    return b"\x80\x02}(" + _A + first + _B + second + b"u."


def _marked(parts: Iterator[bytes]) -> bytes:
    return b"(" + b"".join(parts) + b"t"


_MANY = 150_000

COSTLY: dict[str, Callable[[], bytes]] = {
    "many numbers that are recalled": lambda: _two(
        _marked(b"K\1" + _put(at) for at in range(_MANY)), _marked(map(_again, range(_MANY)))
    ),
    "tuples in tuples": lambda: _two(
        b"K\1" + b"".join(_put(at) + b"\x85" for at in range(_MANY)),
        _marked(map(_again, range(_MANY))),
    ),
    "twice in twice": lambda: _two(
        b"K\1"
        + _put(0)
        + b"".join(_again(at) * 2 + b"\x86" + _put(at + 1) + b"\x86" for at in range(60_000)),
        _again(60_000),
    ),
    "one index over and over": lambda: _two(
        _marked(b"K\1" + _put(0) for _ in range(_MANY)),
        _marked(_again(0) + b"K\2" + _put(0) for _ in range(_MANY)),
    ),
    "a list that is changed from everywhere": lambda: _two(
        b"]" + _put(0), _marked(_again(0) + b"K\1a" for _ in range(_MANY))
    ),
    "holes in the memo": lambda: _two(
        _marked(b"K\1" + _put(1_900_000 * at) for at in range(2_000)), b"K\1"
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", COSTLY)
def test_a_hostile_pickle_ends_within_its_budget(name: str) -> None:
    data = COSTLY[name]()
    started = time.process_time()

    with contextlib.suppress(MalformedFileError, UnsupportedFormatError):
        Path("x.pkl").write_bytes(data)
        spans = _read(data)
        found = _edited(data, {spans.pairs(spans.top)[0].value: b"K\5"})
        assert pickle.loads(found)["a"] == 5

    assert time.process_time() - started < 20
