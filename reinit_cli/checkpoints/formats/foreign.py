"""Name files that are not checkpoints, or are checkpoints of another kind, for what they are.

Most of what people take for a broken checkpoint is a whole file of something else: the
pointer that Git LFS left, the page that a server sent instead, an archive with the
checkpoint in it. The first bytes say which; a suffix is asked only where they cannot.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable

from reinit_cli.errors import UnsupportedFormatError
from reinit_cli.lazy import dataclass
from reinit_cli.text import plural

LOOKED_AT_NBYTES = 4096
"""How much of a file is looked at: a title of a page is there, and it is one read."""


@dataclass(frozen=True, slots=True)
class Foreign:
    """What a file is instead of a checkpoint that is read.

    Attributes:
        what: it, with its article.
        way: which way on there is, as the command line knows it.
        holds: what it holds, where that is what the user wants.
        is_stand_in: whether a download left it in the place of a checkpoint.
    """

    what: str
    way: str
    holds: tuple[str, ...] = ()
    is_stand_in: bool = False


_STARTS = (
    (0, b"\x1f\x8b", Foreign("a gzip archive", "gzip")),
    (0, b"\xfd7zXZ\0", Foreign("an xz archive", "xz")),
    (0, b"BZh", Foreign("a bzip2 archive", "bzip2")),
    (0, b"\x28\xb5\x2f\xfd", Foreign("a zstd archive", "zstd")),
    (0, b"\x04\x22\x4d\x18", Foreign("an lz4 archive", "lz4")),
    (0, b"7z\xbc\xaf\x27\x1c", Foreign("a 7z archive", "7z")),
    (0, b"Rar!\x1a\x07", Foreign("a RAR archive", "rar")),
    (257, b"ustar", Foreign("a tar archive, such as torch wrote before 0.1.12", "tar")),
    (0, b"\x93NUMPY", Foreign("a NumPy file (.npy)", "npy")),
    (0, b"\x89HDF\r\n\x1a\n", Foreign("an HDF5 file", "hdf5")),
    (0, b"GGUF", Foreign("a GGUF file", "original")),
    *((0, magic, Foreign("a GGML file", "original")) for magic in (b"lmgg", b"fmgg", b"tjgg")),
    (4, b"TFL3", Foreign("a TFLite model", "original")),
    (4, b"ET12", Foreign("an ExecuTorch program", "original")),
    (8, b"\x03\0\0\0V 1", Foreign("a Torch7 file", "torch7")),
)
"""Where files of other kinds say what they are."""

_SUFFIXES = {
    ".msgpack": Foreign("a msgpack file of Flax", "flax"),
    ".onnx": Foreign("an ONNX model", "original"),
    ".tflite": Foreign("a TFLite model", "original"),
    ".pte": Foreign("an ExecuTorch program", "original"),
    ".mlmodel": Foreign("a Core ML model", "original"),
    ".pdparams": Foreign("a Paddle checkpoint", "paddle"),
    ".pdopt": Foreign("a Paddle checkpoint", "paddle"),
    ".pdiparams": Foreign("a Paddle model", "paddle"),
    ".pdmodel": Foreign("a Paddle model", "paddle"),
    ".pb": Foreign("a TensorFlow graph", "tensorflow"),
    ".t7": Foreign("a Torch7 file", "torch7"),
}
"""Suffixes of files whose first bytes say nothing."""

_LISTED_SUFFIXES = {
    **_SUFFIXES,
    ".gguf": Foreign("a GGUF file", "original"),
    ".h5": Foreign("an HDF5 file", "hdf5"),
    ".keras": Foreign("a Keras file", "hdf5"),
    ".npz": Foreign("a NumPy archive (.npz)", "npz"),
    ".ot": Foreign("a file of tch for Rust", "original"),
}
"""The same for files that are only listed, of which no byte is read."""

_ONNX = re.compile(rb"\x08[\x01-\x20]\x12.[a-zA-Z]", re.DOTALL)
"""Field 1 of onnx.ModelProto is ir_version, field 2 the producer's name."""

_TENSORFLOW = re.compile(r".*\.(data-\d{5}-of-\d{5}|ckpt\.(index|meta)|ckpt-\d+\.(index|meta))")

_PICKLE = re.compile(rb"\x80[\0-\x05]|\(dp?\d*\n?|\(lp?\d*\n|c[a-z_]+\n[A-Za-z_]+\n", re.DOTALL)
"""How pickles of protocols 2 to 5 start, and those of 0 and 1 with a container or a class."""

_LFS = b"version https://git-lfs.github.com/spec/"


def refused(path: str, kind: Foreign) -> UnsupportedFormatError:
    """Return the error for a file that is something else."""
    family = "stand-in" if kind.is_stand_in else ""
    return UnsupportedFormatError(path, kind.what, kind.holds, kind=family, word=kind.way)


def foreign(path: str, head: bytes) -> Foreign | None:
    """Return what a file is instead of a checkpoint, if that is known.

    Args:
        path: its path, for the suffix.
        head: its first bytes.
    """
    if not head:
        return Foreign("empty", "download", is_stand_in=True)
    for offset, magic, kind in _STARTS:
        if head.startswith(magic, offset):
            return kind
    suffix = os.path.splitext(path)[1].lower()
    by_suffix = _SUFFIXES.get(suffix)
    text = _text(head)
    if text is None and by_suffix is not None:
        return by_suffix
    if _TENSORFLOW.fullmatch(path):
        return Foreign("a part of a TensorFlow checkpoint", "tensorflow")
    if _ONNX.match(head):
        return _SUFFIXES[".onnx"]
    if _PICKLE.match(head):
        return Foreign("a pickle that torch.save did not write", "pickle")
    return _page(text) if text is not None else None


def foreign_suffix(name: str) -> Foreign | None:
    """Return what a file most likely is, of which only the name is known."""
    return _LISTED_SUFFIXES.get(os.path.splitext(name)[1].lower())


_EXPORTED = "serialized_exported_program.json"
"""An entry of programs that torch exported before 2.8."""


def foreign_archive(names: Iterable[str]) -> Foreign | None:
    """Return what a zip archive is, from the names of its entries, unless torch.save wrote it."""
    names = tuple(names)
    within = {name.partition("/")[2] for name in names}
    if "constants.pkl" in within:
        return Foreign("a TorchScript archive", "torchscript")
    if within & {"archive_format", "models/model.json"} or _EXPORTED in names:
        return Foreign("an exported program (.pt2)", "exported")
    if "data.pkl" in within:
        return None
    if names and all(name.endswith(".npy") for name in names):
        return Foreign("a NumPy archive (.npz)", "npz")
    if {"config.json", "metadata.json"} <= set(names) or "model.weights.h5" in names:
        return Foreign("a Keras file", "hdf5")
    if any(name.endswith((".mlmodel", "weights/weight.bin")) for name in names):
        return Foreign("a Core ML package", "original")
    held = tuple(name for name in names if name.lower().endswith(_CHECKPOINTS))
    if held:
        more = f" and {plural(len(held) - 1, 'more checkpoint')}" if len(held) > 1 else ""
        return Foreign(f"a zip archive that holds {held[0]!r}{more}", "zip", held)
    return Foreign("a zip archive that torch.save did not write", "")


_CHECKPOINTS = (".safetensors", ".pt", ".pth", ".ckpt", ".bin", ".pth.tar", ".th")


def _text(head: bytes) -> str | None:
    """Return the start of a text, or None where the bytes are no text."""
    try:
        text = head.removeprefix(b"\xef\xbb\xbf").decode()
    except UnicodeDecodeError as error:
        if error.start < len(head) - 3:
            return None
        text = head[: error.start].decode()  # a character that is cut through
    if any(char < " " and char not in "\t\r\n\f" for char in text):
        return None
    return text.strip() or None


def _page(text: str) -> Foreign:
    """Return what a text is that lies where a checkpoint should."""
    start = text[:200].lower()
    if text.startswith(_LFS.decode()):
        size = re.search(r"^size (\d{1,19})$", text, re.MULTILINE)
        nbytes = f" ({int(size[1]):,} bytes)" if size else ""
        what = f"a Git LFS pointer, not the file itself{nbytes}"
        return Foreign(what, "lfs", is_stand_in=True)
    if start.startswith(("<!doctype html", "<html", "<head", "<body")) or "<html" in start:
        return _stand_in("an HTML page", _between(text, "title"))
    if start.startswith("<"):
        said = _between(text, "Code") or _between(text, "Message") or _between(text, "title")
        return _stand_in("an XML document", said)
    if start.startswith(("{", "[")):
        if '"weight_map"' in text:
            what = "an index of shards, whose name does not end in .index.json"
            return Foreign(what, "index", is_stand_in=True)
        return _stand_in("JSON text", _json_error(text))
    return _stand_in("plain text", text.splitlines()[0])


def _stand_in(what: str, said: str | None) -> Foreign:
    said = " ".join((said or "").split())
    shown = f" ({said[:77] + '...' if len(said) > 80 else said!r})" if said else ""
    return Foreign(f"{what}{shown}, not a checkpoint", "download", is_stand_in=True)


def _between(text: str, tag: str) -> str | None:
    found = re.search(f"<{tag}[^>]{{0,200}}>([^<]{{1,400}})", text, re.IGNORECASE)
    return found[1] if found else None


def _json_error(text: str) -> str | None:
    """Return what a server says is wrong, where a text is its whole answer."""
    try:
        answer = json.loads(text)
    except (ValueError, RecursionError):
        return None
    members = answer if isinstance(answer, dict) else {}
    said = (members.get(name) for name in ("error", "message", "detail", "title"))
    return next((each for each in said if isinstance(each, str)), None)
