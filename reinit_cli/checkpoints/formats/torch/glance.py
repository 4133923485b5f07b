"""Know at a glance whether a file is one of torch's, and which."""

from __future__ import annotations

SUFFIXES = (".pt", ".pth", ".bin", ".ckpt", ".th", ".pth.tar", ".pt.tar")

MAGIC_NUMBER = 0x1950A86A20F9469CFC6C
"""What a file of before torch 1.6 starts with, in a pickle of its own."""


def starts_as_zip(head: bytes) -> bool:
    """Whether a file starts as a zip archive does, an empty one included."""
    return head.startswith((b"PK\x03\x04", b"PK\x05\x06"))


def starts_as_legacy(head: bytes) -> bool:
    """Whether a file starts with the magic number, written with any protocol."""
    binary = b"\x8a\x0a" + MAGIC_NUMBER.to_bytes(10, "little")  # LONG1
    return binary in head[:32] or head.startswith(b"L%dL\n" % MAGIC_NUMBER)
