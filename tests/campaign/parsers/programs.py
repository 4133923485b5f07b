"""Make random programs of pickles that mostly stand for a checkpoint."""

from __future__ import annotations

import struct
from collections.abc import Callable
from random import Random

NUMBERS = (
    *(0, 1, 2, 3, 4, 7, 16, 63, 64, 255, 256, 65_535, 65_536, 2**31 - 1, 2**31, 2**32),
    *(2**61 - 1, 2**61 + 6, 2**62, 2**63 - 1, 2**63, 2**64, -1, -2, -(2**31), -(2**63)),
)
_TEXTS = (
    *("w", "weight", "state_dict", "model", "module", "model_state_dict", "optimizer", "state"),
    *("param_groups", "params", "exp_avg", "step", "a.b", "", "0", "1", "ema", "ema_model", "data"),
    *("_parameters", "_buffers", "_modules", "_metadata", "é", "\ud800", "x" * 300, "a\nb", "\0"),
)
STORAGES = (("FloatStorage", 16), ("LongStorage", 8), ("BFloat16Storage", 32))
"""The storages of every archive by their key: all have 64 bytes."""
_NAMES = (
    *("collections OrderedDict", "collections defaultdict", "collections Counter", "torch Size"),
    *("builtins set", "torch device", "torch.nn.parameter Parameter", "torch Tensor"),
    *("torch FloatStorage", "torch float32", "torch bfloat16", "os system", "torch._utils x"),
    *("torch._utils _rebuild_tensor_v2", "torch._utils _rebuild_tensor_v3"),
    *("torch._utils _rebuild_parameter", "torch._tensor _rebuild_from_type_v2"),
    *("torch._utils _rebuild_sparse_tensor", "torch._utils _rebuild_qtensor"),
)


_RARE = 11
"""What happens more seldom than this is mostly wrong."""


class Program:
    """A random program that mostly stands for something."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.calm = random.choice((1, 1, 8, 30))  # how much rarer what is wrong is
        self.protocol = random.choice((2, 2, 2, 2, 0, 1, 3, 4, 5))
        # Of the opcodes, torch obeys those of protocol 2 that it writes itself.
        self.is_plain = self.protocol == 2 and bool(random.randrange(8))
        self.stored = 0
        self.left = 400

    def whole(self) -> bytes:
        """Return a pickle."""
        start = bytes((0x80, self.protocol)) if self.protocol >= 2 else b""
        return start + self.checkpoint() + b"."

    def checkpoint(self) -> bytes:
        """Push a checkpoint: a state dict, alone or among other things."""
        kind = self.random.randrange(10)
        if kind < 4:
            return self.state_dict()
        if kind == 4:
            return self.module(0)
        names = self.random.choices(_TEXTS, k=self.random.randint(0, 4))
        roots = self.random.sample(("state_dict", "model", "module", "weights"), 1 + kind % 2)
        members = [self.text(name) + self.state_dict() for name in roots]
        members += [self.text(name) + self.value(0) for name in names]
        if kind > 7:
            members.append(self.text("optimizer") + self.optimizer())
        if self.one_in(8):
            self.random.shuffle(members)
        return self.dictionary(members)

    def state_dict(self) -> bytes:
        """Push a state dict."""
        members = [
            (self.key() if self.one_in(6) else self.text(f"layer.{at}"))
            + (self.value(1) if self.one_in(9) else self.tensor())
            for at in range(self.random.randint(0, 5))
        ]
        return self.dictionary(members)

    def optimizer(self) -> bytes:
        """Push the state of an optimizer."""
        slots = [self.text(name) + self.tensor() for name in ("exp_avg", "exp_avg_sq")]
        state = [self.key() + self.dictionary(slots) for _ in range(self.random.randint(0, 3))]
        params = b"](" + b"".join(self.key() for _ in range(3)) + b"e"
        group = self.dictionary([self.text("params") + params])
        groups = b"](" + group * self.random.randint(0, 2) + b"e"
        members = (
            self.text("state") + self.dictionary(state),
            self.text("param_groups") + groups,
        )
        return self.dictionary(list(members))

    def module(self, depth: int) -> bytes:
        """Push a pickled module."""
        inner = (
            [self.text(str(at)) + self.module(depth + 1) for at in range(2)] if depth < 2 else []
        )
        state = [
            self.text("_parameters") + self.dictionary([self.text("w") + self.tensor()]),
            self.text("_buffers") + self.dictionary([self.text("b") + self.tensor()]),
            self.text("_modules") + self.dictionary(inner),
        ]
        return self.name("m", "Module") + b")\x81" + self.dictionary(state) + b"b"

    def dictionary(self, members: list[bytes]) -> bytes:
        """Push a dictionary in one of the ways that there are."""
        way = self.random.randrange(40)
        ordered = self.name("collections", "OrderedDict")
        if way < 4 and not self.is_plain:
            return b"(" + b"".join(members) + b"d"
        if way < 8:
            return b"}" + b"".join(each + b"s" for each in members)
        if way < 16:
            return ordered + b")R(" + b"".join(members) + b"u"
        if way == 16:
            pairs = b"".join(each + b"\x86" for each in members)
            made = self.random.choice((b"](%se\x85R", b"(%st\x85R", b"](%se\x85\x81"))
            return ordered + made.replace(b"%s", pairs)
        if way == 17:
            pairs = b"".join(b"](" + each + b"e" for each in members)
            return ordered + b"](" + pairs + b"e\x85R"
        if way == 18:
            return ordered + self.dictionary(members) + b"\x85R"
        if way < 24:
            return self.put(b"}(" + b"".join(members) + b"u")
        return b"}(" + b"".join(members) + b"u"

    def one_in(self, count: int) -> bool:
        """Whether something rare is to happen."""
        return not self.random.randrange(count * (self.calm if count > _RARE else 1))

    def value(self, depth: int) -> bytes:
        """Push anything."""
        self.left -= 1
        if self.left < 0 or depth > 5:
            return b"N"
        if self.one_in(12):
            return self.wrong(depth)
        makers: tuple[Callable[[], bytes], ...] = (
            *(self.constant, self.number, self.key, self.tensor, self.storage, self.again),
            lambda: self.text(self.random.choice(_TEXTS)),
            lambda: self.sequence(depth),
            lambda: self.sequence(depth),
            lambda: self.dictionary(
                [self.key() + self.value(depth + 1) for _ in range(self.few())]
            ),
            lambda: self.put(self.value(depth + 1)),
        )
        return self.random.choice(makers)()

    def wrong(self, depth: int) -> bytes:
        """Push what most often fails."""
        first = self.value(depth + 1)
        way = self.random.randrange(6)
        if way < 3:
            return self.call(depth)
        if way == 3:
            return first + self.key() + self.value(depth + 1) + b"s"
        return first + self.value(depth + 1) + (b"a" if way == 4 else b"b")

    def few(self) -> int:
        """Return a small number."""
        return self.random.choice((0, 1, 1, 2, 3, 5))

    def constant(self) -> bytes:
        """Push a constant."""
        ways = (b"N", b"\x88", b"\x89", b"G" + bytes(8), b"I00\n", b"I01\n")
        return self.random.choice(ways[:4] if self.is_plain else ways)

    def number(self, value: int | None = None) -> bytes:
        """Push an integer, small or not, in one of the ways that there are."""
        if value is None:
            value = self.random.choice(NUMBERS)
        ways = (
            [_long(value)] if self.is_plain else [b"I%d\n" % value, b"L%dL\n" % value, _long(value)]
        )
        if 0 <= value < 256:
            ways += [bytes((75, value))] * 3
        elif 0 <= value < 65_536:
            ways += [b"M" + struct.pack("<H", value)] * 3
        elif -(2**31) <= value < 2**31:
            ways += [b"J" + struct.pack("<i", value)] * 3
        return self.random.choice(ways)

    def text(self, value: str) -> bytes:
        """Push a text in one of the ways that there are."""
        data = value.encode("utf-8", "surrogatepass")
        if self.protocol >= 4 and len(data) < 256 and self.one_in(2):
            return b"\x8c" + bytes((len(data),)) + data
        if self.protocol < 2 and value.isalnum() and value.isascii():
            return self.random.choice((b"V%s\n", b"S'%s'\n")) % data
        if self.one_in(60) and len(data) < 128:
            return b"U" + bytes((len(data),)) + data
        return b"X" + struct.pack("<I", len(data)) + data

    def key(self) -> bytes:
        """Push what can be a key."""
        way = self.random.randrange(12)
        if way < 6:
            return self.text(self.random.choice(_TEXTS))
        if way < 9:
            return self.number()
        if way == 9:
            return self.number() + self.text("x") + b"\x86"
        return self.constant() if way == 10 else self.name(*self.random.choice(_NAMES).split())

    def name(self, module: str, name: str) -> bytes:
        """Push a name."""
        if self.protocol >= 4 and self.one_in(2):
            return self.text(module) + self.text(name) + b"\x93"
        return f"c{module}\n{name}\n".encode()

    def sequence(self, depth: int) -> bytes:
        """Push a list, a tuple or a set."""
        items = b"".join(self.value(depth + 1) for _ in range(self.few()))
        forms = (b"](%se", b"(%st", b"(%sl", b"\x8f(%s\x90", b"(%s\x91")
        few = 2 if self.is_plain else 3 if self.protocol < 4 else 5
        return self.random.choice(forms[:few]).replace(b"%s", items)

    def call(self, depth: int) -> bytes:
        """Push a call of any name."""
        args = b"".join(self.value(depth + 1) for _ in range(self.few()))
        name = self.name(*self.random.choice(_NAMES).split())
        form = self.random.choice((b"%n(%at%R", b"%n(%at\x81", b"(%n%ao"))
        return form.replace(b"%R", b"R").replace(b"%n", name).replace(b"%a", args)

    def put(self, value: bytes) -> bytes:
        """Keep a value in the memo."""
        index = self.stored if not self.one_in(60) else self.random.choice((0, 5, 255, 2**32 - 1))
        self.stored += 1
        if self.protocol >= 4 and self.one_in(2):
            return value + b"\x94"
        if self.protocol < 2:
            return value + b"p%d\n" % index
        return value + (b"q" + bytes((index,)) if index < 256 else b"r" + struct.pack("<I", index))

    def again(self) -> bytes:
        """Push what is in the memo."""
        if not self.stored:
            return b"N"
        index = self.random.randrange(self.stored)
        return b"j" + struct.pack("<I", index)

    def storage(self, at: int | None = None) -> bytes:
        """Push a storage, rarely a wrong one."""
        at = self.random.randrange(len(STORAGES)) if at is None else at
        kind, numel = STORAGES[at]
        if self.one_in(150):
            kind, numel = self.random.choice((*STORAGES, ("IntStorage", 16), ("Tensor", 0)))
        if self.one_in(200):
            numel = self.random.choice(NUMBERS)
        end = b"NtQ" if self.one_in(30) else b"tQ"
        parts = self.name("torch", kind), self.text(str(at)), self.text("cpu"), self.number(numel)
        return b"(" + self.text("storage") + b"".join(parts) + end

    def tensor(self) -> bytes:
        """Push a tensor in one of the ways that there are, rarely a wrong one."""
        at = self.random.randrange(len(STORAGES))
        shape = self.random.choice(
            ((), (2,), (4,), (2, 2), (2, 3), (0,), (0, 4), (1, 1, 4), (2, 1))
        )
        stride = [1] * len(shape)
        for axis in range(len(shape) - 2, -1, -1):
            stride[axis] = stride[axis + 1] * max(1, shape[axis + 1])
        if self.one_in(5):
            self.random.shuffle(stride)
        sizes = (
            [self.rarely_another(dim) for dim in shape],
            [self.rarely_another(x) for x in stride],
        )
        size, step = (b"(" + b"".join(map(self.number, each)) + b"t" for each in sizes)
        if self.one_in(8):
            size = self.name("torch", "Size") + size + b"\x85R"
        offset = self.number(self.rarely_another(self.random.choice((0, 0, 0, 1, 2))))
        hooks = self.name("collections", "OrderedDict") + b")R"
        args = self.storage(at) + offset + size + step
        rebuild = self.name("torch._utils", "_rebuild_tensor_v2")
        way = self.random.randrange(16)
        tensor = rebuild + b"(" + args + b"\x89" + hooks + b"tR"
        if way == 0:
            tensor = self.name("torch._utils", "_rebuild_tensor") + b"(" + args + b"tR"
        elif way == 1:
            parameter = self.name("torch._utils", "_rebuild_parameter")
            tensor = parameter + tensor + b"\x89" + hooks + b"\x87R"
        elif way == 2:
            state = self.value(4) if self.one_in(8) else self.dictionary([self.text("note") + b"N"])
            kind = self.name("torch", "Tensor")
            start = self.name("torch._tensor", "_rebuild_from_type_v2") + b"(" + rebuild + kind
            tensor = start + b"(" + args + b"\x89" + hooks + b"t" + state + b"tR"
        elif way == 3:
            state = self.dictionary([self.text(self.random.choice(("data", "x"))) + tensor])
            start = self.name("torch._utils", "_rebuild_parameter_with_state")
            tensor = start + b"(" + tensor + b"\x89" + hooks + state + b"tR"
        elif way == 4:
            metadata = self.value(4) if self.one_in(4) else b"N"
            tensor = rebuild + b"(" + args + b"\x89" + hooks + metadata + b"tR"
        elif way == 5:
            dtype = self.name(
                "torch", self.random.choice(("float32", "bfloat16", "int64", "uint8"))
            )
            start = self.name("torch._utils", "_rebuild_tensor_v3")
            tensor = start + b"(" + args + b"\x89" + hooks + dtype + b"tR"
        if self.one_in(100):
            tensor += self.random.choice(
                (
                    b"(" + self.storage() + offset + size + step + b"tb",
                    self.number(0) + self.number(5) + b"s",
                    self.value(4) + b"b",
                )
            )
        return self.put(tensor) if self.one_in(3) else tensor

    def rarely_another(self, value: int) -> int:
        """Return a number, or rarely an interesting one."""
        return self.random.choice(NUMBERS) if self.one_in(300) else value


def _long(value: int) -> bytes:
    data = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes((len(data),)) + data
