"""Pickles that share, repeat or pile up what they hold, for tests of what reading them costs.

They are put together opcode by opcode: Python could not build most of what they stand for.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable

from tests.checkpoints.formats import hostile

MODULUS = 2**61 - 1
"""Integers that differ by it have one hash in Python."""

START = b"\x80\x02"

TENSOR = hostile.tensor(2)

ORDERED = hostile.name("collections", "OrderedDict", 2)

_DIGITS = b"L" + b"7" * 4000 + b"L\n"


def text(value: str | int) -> bytes:
    """Push a text."""
    data = str(value).encode("utf-8", "surrogatepass")
    return b"X" + struct.pack("<I", len(data)) + data


def mapping(*members: tuple[str | int, bytes] | bytes) -> bytes:
    """Push a dictionary of members, or of keys and values that are written already."""
    flat = (each if isinstance(each, bytes) else text(each[0]) + each[1] for each in members)
    return b"}(" + b"".join(flat) + b"u"


def sequence(*items: bytes) -> bytes:
    """Push a list."""
    return b"](" + b"".join(items) + b"e"


def number(value: int) -> bytes:
    """Push an integer of any size."""
    data = value.to_bytes(value.bit_length() // 8 + 1, "little")
    return b"\x8a" + bytes((len(data),)) + data


def kept(value: bytes, index: int) -> bytes:
    """Keep a value in the memo, and leave the stack as it is."""
    return value + b"r" + struct.pack("<I", index) + b"0"


def again(index: int) -> bytes:
    """Push what was kept."""
    return b"j" + struct.pack("<I", index)


def doubled(value: bytes, times: int, pair: Callable[[bytes], bytes]) -> bytes:
    """Push two of two of two of a value, each pair twice in the next."""
    steps = b"".join(kept(pair(again(at)), at + 1) for at in range(times))
    return kept(value, 0) + steps + again(times)


def nested(key: str, depth: int, inner: bytes) -> bytes:
    """Push a dictionary in a dictionary, and so on, with the value in the innermost."""
    start = b"".join(b"}" + text(f"{key}{at}") for at in range(depth))
    return start + inner + b"s" * depth


def tuple_pair(value: bytes) -> bytes:
    """Push a pair of the same."""
    return value + value + b"\x86"


def dict_pair(value: bytes) -> bytes:
    """Push a dictionary of the same twice."""
    return mapping(("a", value), ("b", value))


def module(modules: bytes) -> bytes:
    """Push an nn.Module that has one parameter, and modules."""
    state = mapping(
        ("_parameters", mapping(("w", TENSOR))), ("_buffers", b"}"), ("_modules", modules)
    )
    return hostile.name("torch.nn", "Module", 2) + b")\x81" + state + b"b"


def saved(*members: tuple[str | int, bytes] | bytes) -> bytes:
    """Return a checkpoint with a state dict and other members."""
    return START + mapping(("state_dict", mapping(("w", TENSOR))), *members) + b"."


def called(module: str, name: str, *args: bytes) -> bytes:
    """Push a call."""
    return hostile.name(module, name, 2) + b"(" + b"".join(args) + b"tR"


def _optimizer(state: bytes, groups: bytes) -> bytes:
    return saved(("optimizer", mapping(("state", state), ("param_groups", groups))))


def _many(count: int, value: bytes, start: str = "k") -> bytes:
    return mapping(*((f"{start}{at}", value) for at in range(count)))


def _before(first: bytes, pickled: bytes) -> bytes:
    """Return a pickle that does something first."""
    return START + first + pickled.removeprefix(START)


def _colliding(count: int, value: bytes) -> bytes:
    return mapping(*(number(MODULUS * at + 7) + value for at in range(count)))


def _copies(keys: Iterable[bytes]) -> bytes:
    """Copy a dictionary as often as its memory allows, and a little less."""
    first = kept(mapping(*(key + b"N" for key in keys)), 0)
    return _before(first, saved(("more", sequence(*[ORDERED + again(0) + b"\x85R"] * 370))))


def _parameters(depth: int, count: int) -> bytes:
    rebuild = hostile.name("torch._utils", "_rebuild_parameter", 2)
    inner = rebuild * depth + TENSOR + b"\x85R" * depth
    each = rebuild + again(0) + b"\x85R"
    return _before(kept(inner, 0), START + _many(count, each) + b".")


def _sparse(depth: int) -> bytes:
    rebuild = hostile.name("torch._utils", "_rebuild_sparse_tensor", 2)
    inner = (rebuild + b"(N(N") * depth + b"N" + b"ttR" * depth
    return START + mapping(("w", inner)) + b"."


def _sizes(length: int, times: int) -> bytes:
    sparse = called("torch._utils", "_rebuild_sparse_tensor", b"N", b"N" + again(0) + b"\x86")
    size = b"(" + b"K\x01" * length + b"t"
    return _before(kept(size, 0), START + _many(times, sparse) + b".")


def _dense(size: bytes, stride: bytes) -> bytes:
    storage = b"(" + text("storage") + hostile.name("torch", "FloatStorage", 2) + text("0")
    storage += text("cpu") + b"K\x04tQ"
    rest = b"K\x00" + size + stride + b"\x89" + ORDERED + b")R"
    return called("torch._utils", "_rebuild_tensor_v2", storage, rest)


def _wide(length: int) -> bytes:
    """A size whose product takes millions of digits, if it were made."""
    size = b"(" + number(2**62) * length + b"t"
    stride = b"(" + b"K\x00" * length + b"t"
    return START + mapping(("w", _dense(size, stride))) + b"."


SHARING: dict[str, Callable[[], bytes]] = {
    "modules in two places, 60 times": lambda: (
        START + doubled(module(b"}"), 60, lambda inner: module(dict_pair(inner))) + b"."
    ),
    "dictionaries in two places, 60 times": lambda: saved(
        ("more", doubled(mapping(("w", TENSOR)), 60, dict_pair))
    ),
    "no state dict, and dictionaries in two places": lambda: (
        START + doubled(b"}", 90, dict_pair) + b"."
    ),
    "averages of one model under 4,000 names": lambda: _before(
        kept(_many(4_000, b"}"), 0),
        START + mapping(("w", TENSOR), *((f"ema_{at}", again(0)) for at in range(4_000))) + b".",
    ),
    "paths of 5 MB for lists": lambda: saved(
        ("more", nested("x" * 60_000, 90, sequence(*[b"]"] * 20_000)))
    ),
    "paths of 5 MB for tensors": lambda: saved(
        ("more", nested("x" * 60_000, 90, sequence(*[TENSOR] * 2_000)))
    ),
    "keys of one long text": lambda: _before(
        kept(text("x" * 60_000), 0),
        saved(*(b"(" + again(0) * (100 + at) + b"tN" for at in range(500))),
    ),
    "keys of one long text, doubled": lambda: saved(
        doubled(text("x" * 60_000), 60, tuple_pair) + b"N"
    ),
    "one long text under 90 names": lambda: _before(
        kept(text("x" * 60_000), 0),
        saved(("m", b"".join(b"}" + again(0) for _ in range(90)) + b"]" + b"s" * 90)),
    ),
    "names of 120 kB": lambda: _before(
        b"".join(b"c%s%d\n%s\n0" % (b"m" * 60_000, at, b"n" * 60_000) for at in range(50)),
        saved(),
    ),
    "one list of groups for each optimizer": lambda: _before(
        kept(sequence(*[mapping(("params", b"]"))] * 10_000), 0),
        saved(
            *(
                (f"o{at}", mapping(("state", b"}"), ("param_groups", again(0))))
                for at in range(10_000)
            )
        ),
    ),
    "one list of parameters for each group": lambda: _before(
        kept(sequence(*[b"K\x01"] * 200_000), 0),
        _optimizer(b"}", sequence(*[mapping(("params", again(0)))] * 10_000)),
    ),
    "one state for each parameter": lambda: _before(
        kept(_many(3_000, TENSOR), 0),
        _optimizer(
            mapping(*(b"M" + struct.pack("<H", at) + again(0) for at in range(10_000))),
            sequence(mapping(("params", b"]"))),
        ),
    ),
    "names of parameters, doubled": lambda: _optimizer(
        b"}",
        sequence(
            mapping(
                ("params", sequence(b"K\x01")),
                ("param_names", sequence(doubled(text("x"), 60, tuple_pair))),
            )
        ),
    ),
    "keys that collide": lambda: START + _colliding(70_000, b"N") + b".",
    "parameters that collide": lambda: _optimizer(
        _colliding(40_000, b"}"), sequence(mapping(("params", b"]")))
    ),
    "a memo of numbers that collide": lambda: _before(
        b"N" + b"".join(b"p%d\n" % (MODULUS * at + 7) for at in range(90_000)) + b"0", saved()
    ),
    "a key of 4,000 digits, again and again": lambda: (
        START + kept(_DIGITS, 0) + b"}(" + (again(0) + b"N") * 150_000 + b"u."
    ),
    "a key of 900 parts, again and again": lambda: (
        START + kept(b"(" + b"N" * 900 + b"t", 0) + b"}(" + (again(0) + b"N") * 150_000 + b"u."
    ),
    "a class of a tensor, doubled": lambda: (
        START
        + mapping(
            (
                "w",
                called(
                    "torch._tensor",
                    "_rebuild_from_type_v2",
                    b"N" + doubled(text("x"), 60, tuple_pair),
                    b")N",
                ),
            )
        )
        + b"."
    ),
    "parameters in parameters": lambda: _parameters(90, 30_000),
    "sparse tensors in sparse tensors": lambda: _sparse(450),
    "a list of pairs, read again and again": lambda: _before(
        kept(sequence(*[b"NN\x86"] * 100_000), 0),
        saved(("more", sequence(*[ORDERED + again(0) + b"\x85R"] * 20_000))),
    ),
    "a dictionary, copied again and again": lambda: _before(
        kept(mapping(*[b"NN"] * 100_000), 0),
        saved(("more", sequence(*[ORDERED + again(0) + b"\x85R"] * 20_000))),
    ),
    "a dictionary of integers, copied again and again": lambda: _copies(
        b"K" + bytes((at,)) if at < 256 else b"M" + struct.pack("<H", at) for at in range(10_000)
    ),
    "a dictionary of fractions, copied again and again": lambda: _copies(
        b"G" + struct.pack(">d", 1e308 * (1 + at * 1e-5)) for at in range(10_000)
    ),
    "a state of a tensor, set again and again": lambda: _before(
        kept(_many(1_000, b"N"), 0),
        saved(
            (
                "more",
                sequence(
                    *[
                        called(
                            "torch._utils",
                            "_rebuild_parameter_with_state",
                            b"NNN" + again(0),
                        )
                    ]
                    * 20_000
                ),
            )
        ),
    ),
    "a state, set again and again": lambda: _before(
        kept(_many(50_000, b"N"), 0),
        saved(*((f"t{at}", b"cm\nn\n)R" + again(0) + b"b") for at in range(30_000))),
    ),
    "a size of many dimensions, again and again": lambda: _sizes(100_000, 10_000),
    "a size of a large product": lambda: _wide(100_000),
    "one tensor under 20,000 keys": lambda: _before(
        kept(TENSOR, 0), START + _many(20_000, again(0)) + b"."
    ),
    "a model in itself, 100 times": lambda: (
        START
        + b"}r\0\0\0\0("
        + text("model")
        + again(0)
        + b"".join(text(at) + b"N" for at in range(100_000))
        + b"u."
    ),
    "a list in itself, and a tensor": lambda: START + b"]r\0\0\0\0(" + again(0) + TENSOR + b"e.",
    "a model in itself, and a tensor": lambda: (
        START + b"}r\0\0\0\0(" + text("w") + TENSOR + text("model") + again(0) + b"u."
    ),
    "tensors in lists, doubled": lambda: (
        START + doubled(sequence(TENSOR), 60, lambda inner: sequence(inner, inner)) + b"."
    ),
    "tensors in tuples, doubled": lambda: START + doubled(TENSOR, 60, tuple_pair) + b".",
    "tensors in dictionaries, doubled": lambda: (
        START + doubled(mapping(("w", TENSOR)), 60, dict_pair) + b"."
    ),
    "networks next to each other, doubled": lambda: (
        START
        + doubled(
            mapping(("a.w", TENSOR)),
            60,
            lambda inner: mapping(("model", inner), ("net", inner), ("ema", inner)),
        )
        + b"."
    ),
    "objects of tensors, doubled": lambda: (
        START
        + doubled(
            mapping(("w", TENSOR)),
            60,
            lambda inner: hostile.name("m", "C", 2) + b")\x81" + dict_pair(inner) + b"b",
        )
        + b"."
    ),
    "a network 99 dictionaries deep": lambda: START + nested("k", 99, TENSOR) + b".",
    "a network 900 dictionaries deep": lambda: START + nested("k", 900, TENSOR) + b".",
    "20,000 networks": lambda: START + _many(20_000, mapping(("w", TENSOR))) + b".",
    "20,000 networks in a list": lambda: (
        START + sequence(*[mapping(("w", TENSOR))] * 20_000) + b"."
    ),
    "20,000 networks next to a state dict": lambda: saved(
        *((f"k{at}", mapping(("w", TENSOR))) for at in range(20_000))
    ),
    "20,000 averages of different networks": lambda: saved(
        *((f"ema_{at}", mapping((f"w{at}", TENSOR))) for at in range(20_000))
    ),
    "20,000 averages without what they average": lambda: (
        START
        + mapping(
            *((f"ema_{at}", mapping((f"w{at}", TENSOR))) for at in range(20_000)),
            *((f"net{at}", mapping((f"v{at}", TENSOR))) for at in range(200)),
        )
        + b"."
    ),
    "one network under 4,000 names": lambda: _before(
        kept(_many(4_000, TENSOR), 0), START + _many(4_000, again(0)) + b"."
    ),
    "one network under 4,000 names, next to a state dict": lambda: _before(
        kept(_many(4_000, TENSOR), 0),
        saved(*((f"k{at}", again(0)) for at in range(4_000))),
    ),
    "10,000 optimizers, and one network": lambda: saved(
        *(
            (
                f"o{at}",
                mapping(("state", b"}"), ("param_groups", sequence(mapping(("params", b"]"))))),
            )
            for at in range(10_000)
        )
    ),
    "what is called an optimizer, doubled": lambda: saved(
        ("optimizer", doubled(mapping(("w", TENSOR)), 60, dict_pair))
    ),
    "integers of a kilobyte": lambda: (
        START + sequence(*[b"\x8b\xe8\x03\0\0" + b"\x01" * 1000] * 6_000) + b"."
    ),
    "texts of 60 kB": lambda: saved(("more", sequence(*(text("é" * 30_000) for _ in range(90))))),
}
