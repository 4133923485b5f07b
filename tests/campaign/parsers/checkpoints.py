"""Write the small checkpoints that odd commands are tried on."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

KEYS = (
    "a.weight",
    "a.bias",
    "layers.0.w",
    "layers.1.w",
    "layers.10.w",
    "aaaaaaaaaaaaaaaaaaaaaaaa!",
)


def safetensors_of(shapes: Mapping[str, Sequence[int]], metadata: Mapping[str, str]) -> bytes:
    """Return a file of float32 zeros."""
    header: dict[str, object] = {"__metadata__": dict(metadata)}
    at = 0
    for key, shape in shapes.items():
        nbytes = 4
        for dim in shape:
            nbytes *= dim
        header[key] = {"dtype": "F32", "shape": list(shape), "data_offsets": [at, at + nbytes]}
        at += nbytes
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + bytes(at)


def write_tiny(place: Path) -> None:
    """Write tiny.safetensors, and odd.safetensors with keys that act on terminals."""
    shapes = dict.fromkeys(KEYS, (4, 3)) | {"a.bias": (4,)}
    (place / "tiny.safetensors").write_bytes(safetensors_of(shapes, {"format": "pt"}))
    odd = {
        "\x1b[31mred": (2,),
        "\u202eabc": (2, 2),
        "[bold]x[/bold]": (2, 3),
        "a\nb\tc": (),
        "$x$": (1,),
    }
    text = {"\x1b]0;t\x07": "\x1b[2J", "\u202e": "\r", "format": "pt"}
    (place / "odd.safetensors").write_bytes(safetensors_of(odd, text))
