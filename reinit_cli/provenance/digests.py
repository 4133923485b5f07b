"""Digest the files of a source or an output."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from itertools import accumulate, islice
from types import MappingProxyType

from reinit_cli.checkpoints.source import Contents, Source
from reinit_cli.lazy import dataclass
from reinit_cli.provenance.sha256 import Read, sha256_of, sha256_of_pieces
from reinit_cli.storage.segments import Range, Reserved, Segment
from reinit_cli.tensors.convert import bytes_at


@dataclass(frozen=True, slots=True)
class Ranges:
    """What of a file was filled, and what is its record.

    Attributes:
        nbytes: its size.
        filled: for each key that has bytes in it, which, in their order.
        reserved: the bytes of the record.
    """

    nbytes: int
    filled: Mapping[str, tuple[Range, ...]]
    reserved: tuple[Range, ...] = ()


def ranges_of(segments: Sequence[Segment], filled: Mapping[str, tuple[Range, ...]]) -> Ranges:
    """Return the ranges of a file that is made of segments.

    Args:
        segments: all of its bytes.
        filled: for each key that is filled in it, its bytes.
    """
    ends = list(accumulate(segment.nbytes for segment in segments))
    reserved = tuple(
        (end - segment.nbytes, end)
        for segment, end in zip(segments, ends, strict=True)
        if isinstance(segment, Reserved)
    )
    return Ranges(ends[-1] if ends else 0, filled, reserved)


@dataclass(frozen=True, slots=True)
class FileDigests:
    """The digests of one file.

    Attributes:
        nbytes: its size.
        filled: for each key that was filled in it, those of its places.
        rest: of everything else.
    """

    nbytes: int
    filled: Mapping[str, tuple[str, ...]]
    rest: str


def digests_of(read: Read, ranges: Ranges) -> FileDigests:
    """Digest a file.

    Args:
        read: gives its bytes.
        ranges: what is left out of the rest.
    """
    places = [place for each in ranges.filled.values() for place in each]
    digests = iter(sha256_of(read, places))
    filled = {key: tuple(islice(digests, len(each))) for key, each in ranges.filled.items()}
    rest = sha256_of_pieces(read, ranges.nbytes, (*places, *ranges.reserved))
    return FileDigests(ranges.nbytes, filled, rest)


def filled_digests(files: Mapping[str, FileDigests]) -> Mapping[str, str]:
    """Return the digest of each key that was filled.

    Where a tensor lies in several places, it is that of the digests of these.

    Args:
        files: the digests of each file, by its path.
    """
    found: dict[str, tuple[str, ...]] = {}
    for _, file in sorted(files.items()):
        for key, digests in file.filled.items():
            found[key] = (*found.get(key, ()), *digests)
    return {
        key: digests[0]
        if len(digests) == 1
        else hashlib.sha256(bytes.fromhex("".join(digests))).hexdigest()
        for key, digests in found.items()
    }


def joined(files: Mapping[str, tuple[int, str]]) -> tuple[int, str]:
    """Return the size and the digest of files together; of a lone one its own.

    Args:
        files: size and digest of each, by its path.
    """
    if list(files) == [""]:
        return files[""]
    lines = [f"{name} {nbytes} {digest}\n" for name, (nbytes, digest) in sorted(files.items())]
    whole = hashlib.sha256("".join(lines).encode(errors="surrogateescape")).hexdigest()
    return sum(nbytes for nbytes, _ in files.values()), whole


def digest_of_source(
    source: Source, contents: Contents, known: Mapping[str, str] = MappingProxyType({})
) -> tuple[int, str]:
    """Return the size and the digest of what is read.

    Args:
        source: what is read.
        contents: its bytes.
        known: the digests of some of its files.
    """
    files = contents.files()
    if files:
        return joined(
            {
                name: (file.nbytes, known.get(name) or sha256_of_pieces(file.read, file.nbytes))
                for name, file in files.items()
            }
        )
    whole = hashlib.sha256()
    nbytes = 0
    for tensor in source.tensors:
        whole.update(f"{tensor.key} {tensor.dtype} {tensor.shape}\n".encode())
        if not tensor.carried:
            view = contents.view(tensor)
            for part in view.parts:
                whole.update(bytes_at(part.data))
            nbytes += view.nbytes
    return nbytes, whole.hexdigest()


def nbytes_of_source(source: Source, contents: Contents) -> int:
    """Return the size that `digest_of_source` returns, and read no byte for it."""
    files = contents.files()
    if files:
        return sum(file.nbytes for file in files.values())
    views = (contents.view(tensor) for tensor in source.tensors if not tensor.carried)
    return sum(view.nbytes for view in views)
