"""Hostile pickles, put together opcode by opcode, for the tests and for a process of its own.

Run as a program it plays a stranger's victim: with an audit hook installed it reads and
rewrites every file named on the command line, and prints what the hook saw.
"""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

GADGETS: tuple[tuple[str, str, tuple[str | int, ...]], ...] = (
    ("os", "system", ("touch pwned",)),
    ("posix", "system", ("touch pwned",)),
    ("nt", "system", ("touch pwned",)),
    ("os", "popen", ("touch pwned",)),
    ("os", "execv", ("/bin/sh", "-c")),
    ("os", "remove", ("bystander",)),
    ("os", "rename", ("bystander", "pwned")),
    ("os", "kill", (1, 0)),
    ("subprocess", "Popen", ("touch pwned",)),
    ("subprocess", "check_output", ("touch pwned",)),
    ("asyncio", "create_subprocess_shell", ("touch pwned",)),
    ("pty", "spawn", ("/bin/sh",)),
    ("platform", "popen", ("touch pwned",)),
    ("builtins", "eval", ("open('pwned', 'w')",)),
    ("builtins", "exec", ("open('pwned', 'w')",)),
    ("builtins", "compile", ("1", "pwned", "eval")),
    ("builtins", "open", ("pwned", "w")),
    ("builtins", "__import__", ("antigravity",)),
    ("builtins", "breakpoint", ()),
    ("builtins", "getattr", ("x", "join")),
    ("__builtin__", "eval", ("open('pwned', 'w')",)),
    ("importlib", "import_module", ("antigravity",)),
    ("runpy", "run_path", ("bystander",)),
    ("shutil", "rmtree", ("folder",)),
    ("socket", "create_connection", ("localhost", 1)),
    ("urllib.request", "urlopen", ("http://localhost:1",)),
    ("webbrowser", "open", ("http://localhost:1",)),
    ("pickle", "loads", ("x",)),
    ("marshal", "loads", ("x",)),
    ("ctypes", "CDLL", ("libc.so.6",)),
    ("code", "interact", ()),
    ("timeit", "timeit", ("open('pwned', 'w')",)),
    ("cProfile", "run", ("open('pwned', 'w')",)),
    ("functools", "partial", ("x",)),
    ("operator", "attrgetter", ("x",)),
    ("types", "CodeType", ()),
    ("torch", "load", ("bystander",)),
    ("torch.hub", "load", ("bystander", "x")),
    ("torch.storage", "_load_from_bytes", ("x",)),
    ("numpy.core.multiarray", "_reconstruct", ("x",)),
)

EXTENSION = 0x1234
"""A code of copyreg's registry, which the victim has in use."""

PROTOCOLS = range(6)


def text(value: str, protocol: int) -> bytes:
    """Push a text."""
    if protocol == 0:
        return b"V" + value.encode("raw-unicode-escape") + b"\n"
    if protocol < 4:
        return b"X" + struct.pack("<I", len(value)) + value.encode()
    return b"\x8c" + struct.pack("<B", len(value)) + value.encode()


def number(value: int, protocol: int) -> bytes:
    """Push a number."""
    return b"I%d\n" % value if protocol == 0 else b"J" + struct.pack("<i", value)


def name(module: str, attribute: str, protocol: int) -> bytes:
    """Push what `pickle` would import."""
    if protocol < 4:
        return f"c{module}\n{attribute}\n".encode()
    return text(module, protocol) + text(attribute, protocol) + b"\x93"


def _args(args: tuple[str | int, ...], protocol: int) -> bytes:
    return b"".join(
        text(arg, protocol) if isinstance(arg, str) else number(arg, protocol) for arg in args
    )


def _tuple(args: tuple[str | int, ...], protocol: int) -> bytes:
    return b"(" + _args(args, protocol) + b"t"


def _called(ending: bytes) -> Callable[..., bytes]:
    def way(module: str, attribute: str, args: tuple[str | int, ...], protocol: int) -> bytes:
        return name(module, attribute, protocol) + _tuple(args, protocol) + ending

    return way


def _obj(module: str, attribute: str, args: tuple[str | int, ...], protocol: int) -> bytes:
    return b"(" + name(module, attribute, protocol) + _args(args, protocol) + b"o"


def _inst(module: str, attribute: str, args: tuple[str | int, ...], protocol: int) -> bytes:
    return b"(" + _args(args, protocol) + f"i{module}\n{attribute}\n".encode()


def _stack_global(module: str, attribute: str, args: tuple[str | int, ...], protocol: int) -> bytes:
    pushed = text(module, protocol) + text(attribute, protocol)
    return pushed + b"\x93" + _tuple(args, protocol) + b"R"


def _build(module: str, attribute: str, args: tuple[str | int, ...], protocol: int) -> bytes:
    made = name("collections", "OrderedDict", protocol) + b")R"
    state = b"(d" + text("__setstate__", protocol) + name(module, attribute, protocol) + b"s"
    return made + state + b"b" + _tuple(args, protocol) + b"b"


def _extension(width: int) -> Callable[..., bytes]:
    opcode, layout = {1: (b"\x82", "<B"), 2: (b"\x83", "<H"), 4: (b"\x84", "<i")}[width]

    def way(module: str, attribute: str, args: tuple[str | int, ...], protocol: int) -> bytes:
        code = EXTENSION % 256 if width == 1 else EXTENSION
        return opcode + struct.pack(layout, code) + _tuple(args, protocol) + b"R"

    return way


def _persistent(module: str, attribute: str, args: tuple[str | int, ...], protocol: int) -> bytes:
    return _called(b"R")(module, attribute, args, protocol) + b"Q"


def _storage(module: str, attribute: str, args: tuple[str | int, ...], protocol: int) -> bytes:
    kind = name(module, attribute, protocol)
    rest = text("0", protocol) + text("cpu", protocol) + number(4, protocol)
    return b"(" + text("storage", protocol) + kind + rest + b"tQ"


def _subclass(module: str, attribute: str, args: tuple[str | int, ...], protocol: int) -> bytes:
    """A tensor that is to be rebuilt by the gadget."""
    rebuild = name("torch._tensor", "_rebuild_from_type_v2", protocol)
    function = name(module, attribute, protocol)
    return rebuild + b"(" + function * 2 + _tuple(args, protocol) + b"NtR"


def _key(module: str, attribute: str, args: tuple[str | int, ...], protocol: int) -> bytes:
    """A dictionary that has the call for a key, which `pickle` would hash."""
    return b"(d" + _called(b"R")(module, attribute, args, protocol) + b"Ns"


WAYS: dict[str, Callable[..., bytes]] = {
    "REDUCE": _called(b"R"),
    "NEWOBJ": _called(b"\x81"),
    "NEWOBJ_EX": _called(b"}\x92"),
    "OBJ": _obj,
    "INST": _inst,
    "BUILD": _build,
    "STACK_GLOBAL": _stack_global,
    "EXT1": _extension(1),
    "EXT2": _extension(2),
    "EXT4": _extension(4),
    "a persistent id": _persistent,
    "a storage's class": _storage,
    "a tensor's class": _subclass,
    "a key": _key,
}


def tensor(protocol: int) -> bytes:
    """Push the tensor of the storage "0", four floats."""
    storage = b"(" + text("storage", protocol) + name("torch", "FloatStorage", protocol)
    storage += text("0", protocol) + text("cpu", protocol) + number(4, protocol) + b"tQ"
    place = number(0, protocol) + b"(" + number(4, protocol) + b"t(" + number(1, protocol) + b"t"
    hooks = name("collections", "OrderedDict", protocol) + b")R"
    rebuild = name("torch._utils", "_rebuild_tensor_v2", protocol)
    return rebuild + b"(" + storage + place + b"I00\n" + hooks + b"tR"


def checkpoint(payload: bytes, protocol: int) -> bytes:
    """Return the pickle of a training checkpoint that holds the payload beside its weights."""
    start = bytes((0x80, protocol)) if protocol >= 2 else b""
    weights = b"(d" + text("w", protocol) + tensor(protocol) + b"s"
    members = text("more", protocol) + payload + b"s"
    return start + b"(d" + members + text("state_dict", protocol) + weights + b"s."


def _mapping(*members: tuple[str, bytes]) -> bytes:
    return b"(d" + b"".join(text(key, 2) + value + b"s" for key, value in members)


_W = _mapping(("w", tensor(2)))

_MODEL = name("m", "C", 2) + b")\x81"


def _optimizer(payload: bytes) -> bytes:
    state = b"(d" + number(0, 2) + payload + b"s"
    groups = b"](" + _mapping(("params", b"](" + number(0, 2) + b"e")) + b"e"
    return _mapping(
        ("optimizer", _mapping(("state", state), ("param_groups", groups))), ("net", _W)
    )


PLACES: dict[str, Callable[[bytes, bytes], bytes]] = {
    "a list": lambda call, _: b"](" + call + _W + b"e",
    "a tuple": lambda call, _: b"(" + _W + call + b"t",
    "a state dict": lambda call, _: _mapping(("w", tensor(2)), ("x", call)),
    "a list in a state dict": lambda call, _: _mapping(
        ("w", tensor(2)), ("inner", b"](" + call + tensor(2) + b"e")
    ),
    "the attributes of an object": lambda call, _: (
        _MODEL + _mapping(("weights", _W), ("x", call)) + b"b"
    ),
    "the class of an object": lambda _, named: named + b")\x81" + _W + b"b",
    "the class of a dictionary": lambda _, named: named + b")R" + text("w", 2) + tensor(2) + b"s",
    "the class of a list": lambda _, named: named + b")R" + _W + b"a",
    "an optimizer": lambda call, _: _optimizer(call),
    "an average": lambda call, _: _mapping(("model", _W), ("ema", call)),
    "a known name": lambda call, _: _mapping(("state_dict", call), ("weights", _W)),
}
"""Where a call, or the name of what is called, can lie around a state dict."""


def pickles() -> Iterator[tuple[str, bytes]]:
    """Yield every gadget, called in every way in every protocol, with a name of its own."""
    for module, attribute, args in GADGETS:
        for way, make in WAYS.items():
            for protocol in PROTOCOLS:
                payload = make(module, attribute, args, protocol)
                yield f"{module}.{attribute} by {way} in {protocol}", checkpoint(payload, protocol)
        call = _called(b"R")(module, attribute, args, 2)
        for place, put in PLACES.items():
            pickled = b"\x80\x02" + put(call, name(module, attribute, 2)) + b"."
            yield f"{module}.{attribute} in {place}", pickled


def write_archive(path: Path, pickled: bytes, storage: bytes = bytes(16)) -> None:
    """Write a torch zip archive around a pickle."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", pickled)
        archive.writestr("a/data/0", storage)
        archive.writestr("a/version", b"3\n")


def legacy(pickled: bytes, storage: bytes = bytes(16)) -> bytes:
    """Return a torch file from before 1.6 around a pickle of legacy storages."""
    import pickle

    info = {"protocol_version": 1001, "little_endian": True, "type_sizes": {}}
    parts = [pickle.dumps(part, 2) for part in (0x1950A86A20F9469CFC6C, 1001, info)]
    keys = pickle.dumps(["0"], 2)
    return b"".join((*parts, pickled, keys, struct.pack("<q", len(storage) // 4), storage))
