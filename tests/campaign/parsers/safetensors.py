"""Fuzz safetensors files, and compare what is read with what the reference reader reads."""

from __future__ import annotations

import json
import re
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from random import Random
from typing import Any

from tests.campaign.parsers.commands import (
    MOST_NBYTES,
    MOST_SECONDS,
    NUMBERS,
    TEXTS,
    batches,
    wrong_with,
)
from tests.campaign.server import Servers
from tests.campaign.tally import Tally

_BATCH = 200

STATED = re.compile(
    r"has the key .* twice|has .* twice|has a member twice|only integers are allowed|is not a list of "
    r"integers in|has no dtype that the format knows: \[|is not an object|dimensions, and 4,096 are read|"
    r"has more than 100,000 names|is longer than|too long for text|nested more than 127 deep|"
    r"has more than [\d,]+ (elements|objects|texts)",
    re.DOTALL,
)
"""Why a file is refused that the reference reads: it takes one of several readings, or it costs much."""

DTYPES = {
    "F32": 4,
    "F16": 2,
    "BF16": 2,
    "F64": 8,
    "I64": 8,
    "U8": 1,
    "BOOL": 1,
    "F8_E4M3": 1,
    "C64": 8,
    "U16": 2,
    "F8_E8M0": 1,
}


def run(random: Random, count: int, place: Path, servers: Servers) -> Tally:
    """Read odd files, and list the keys of one in fifty by the command."""
    tally = Tally()
    for batch in batches(range(count), _BATCH):
        seeds = [random.getrandbits(48) for _ in batch]
        names = [f"{at}.safetensors" for at in range(len(seeds))]
        for name, seed in zip(names, seeds, strict=True):
            (place / name).write_bytes(odd_file(Random(seed)))
        function = "tests.campaign.parsers.safetensors:examine"
        run = servers.light.run(names, place, function=function, limit=600)
        if run.code != 0:
            tally.find(f"safetensors.odd_file, Random({seeds[0]}) and others", repr(run.err[-900:]))
            continue
        for seed, found in zip(seeds, json.loads(run.out), strict=True):
            tally.add(kind=found["kind"])
            if found["why"]:
                tally.find(f"safetensors.odd_file(Random({seed}))", found["why"])
        for name, seed in list(zip(names, seeds, strict=True))[::50]:
            listed = servers.light.run(["keys", "--meta", name], place)
            tally.seconds = max(tally.seconds, listed.seconds)
            tally.nbytes = max(tally.nbytes, listed.nbytes)
            why = wrong_with(listed)
            if why is not None:
                tally.find(f"keys --meta of safetensors.odd_file(Random({seed}))", why)
    assert tally.seconds < MOST_SECONDS or tally.findings
    assert tally.nbytes < MOST_NBYTES or tally.findings
    return tally


def odd_file(random: Random) -> bytes:
    """Return a file that is nearly right."""
    members, data = _good(random)
    for _ in range(random.choice((0, 1, 1, 1, 2, 3))):
        random.choice(_CHANGES)(random, members)
    header = _spelled(random, members).encode("utf-8", "surrogatepass")
    if random.randrange(6) == 0:
        header = _bytes_changed(random, header)
    if random.randrange(10) == 0:
        data = data[: random.randrange(len(data) + 1)] if random.randrange(2) else data + b"\0"
    length = len(header) if random.randrange(15) else random.choice((0, 1, len(header) + 1, 2**63))
    return length.to_bytes(8, "little") + header + data


Members = list[tuple[str, Any]]
"""An object as it will be written: JSON in texts, and lists of members."""


def _good(random: Random) -> tuple[Members, bytes]:
    members: Members = []
    at = 0
    for number in range(random.randrange(4)):
        dtype, size = random.choice(list(DTYPES.items()))
        shape = [random.randrange(4) for _ in range(random.randrange(4))]
        nbytes = size
        for dim in shape:
            nbytes *= dim
        entry = [
            ("dtype", json.dumps(dtype)),
            ("shape", json.dumps(shape)),
            ("data_offsets", json.dumps([at, at + nbytes])),
        ]
        members.append((json.dumps(f"layer.{number}"), entry))
        at += nbytes
    if random.randrange(3) == 0:
        random.shuffle(members)
    if random.randrange(2):
        members.insert(random.randrange(len(members) + 1), ('"__metadata__"', '{"format":"pt"}'))
    return [
        (name, value if isinstance(value, str) else list(value)) for name, value in members
    ], bytes(at)


def _entry(random: Random, members: Members) -> Members | None:
    entries = [value for _, value in members if isinstance(value, list)]
    return random.choice(entries) if entries else None


def _replace(random: Random, members: Members) -> None:
    entry = _entry(random, members)
    if entry:
        at = random.randrange(len(entry))
        entry[at] = (entry[at][0], value_of(random))


def _number(random: Random, members: Members) -> None:
    entry = _entry(random, members)
    if entry:
        at = random.randrange(len(entry))
        name, value = entry[at]
        numbers = list(re.finditer(r"\d+", value))
        if numbers:
            found = random.choice(numbers)
            number = random.choice(
                (*NUMBERS, str(int(found[0]) + 1), f"{found[0]}.0", f"{found[0]}e0")
            )
            entry[at] = (name, value[: found.start()] + number + value[found.end() :])


def _large_dims(random: Random, members: Members) -> None:
    entry = _entry(random, members)
    if entry:
        dims = [
            random.choice((0, 1, 2**31, 2**32, 2**62, 2**63 - 1))
            for _ in range(random.randrange(1, 5))
        ]
        entry[:] = [("dtype", '"F32"'), ("shape", json.dumps(dims)), ("data_offsets", "[0, 0]")]


def _unknown(random: Random, members: Members) -> None:
    entry = _entry(random, members)
    if entry is not None:
        entry.insert(
            random.randrange(len(entry) + 1),
            (random.choice(("x", "dtype", "\ud800")), value_of(random)),
        )


def _twice(random: Random, members: Members) -> None:
    if members:
        members.append(random.choice(members))


def _renamed(random: Random, members: Members) -> None:
    if members:
        at = random.randrange(len(members))
        name = random.choice((*TEXTS, "__metadata__", "layer.0"))
        spelled = json.dumps(name, ensure_ascii=bool(random.randrange(2)))
        members[at] = (spelled, members[at][1])


def _metadata(random: Random, members: Members) -> None:
    value = value_of(random)
    if random.randrange(2):
        value = f'{{{json.dumps(random.choice(TEXTS))}: {value}, "b": {json.dumps(random.choice(TEXTS))}}}'
    members.append(('"__metadata__"', value))


def _dropped(random: Random, members: Members) -> None:
    entry = _entry(random, members)
    if entry:
        del entry[random.randrange(len(entry))]


def _other(random: Random, members: Members) -> None:
    members.append((json.dumps(random.choice(TEXTS)), value_of(random)))


_CHANGES: tuple[Callable[[Random, Members], None], ...] = (
    *(_replace, _number, _number, _large_dims, _unknown, _twice, _renamed, _metadata, _dropped),
    _other,
)


def value_of(random: Random) -> str:
    """Return some JSON, most of it valid."""
    kind = random.randrange(9)
    if kind == 0:
        return random.choice(NUMBERS) or "0"
    if kind == 1:
        return json.dumps(random.choice(TEXTS), ensure_ascii=bool(random.randrange(2)))
    if kind == 2:
        depth = random.choice((1, 5, 100, 124, 125, 126, 127, 200, 3000))
        return "[" * depth + "]" * depth
    if kind == 3:
        return f"[{', '.join(random.choice(NUMBERS) or '0' for _ in range(random.randrange(4)))}]"
    if kind == 4:
        return f'{{"a": {random.choice(NUMBERS) or "0"}, "{random.choice("ab")}": null}}'
    return random.choice(
        ("null", "true", "false", "{}", "[]", '"F32"', "[1]", "[0, 4]", "NaN", "'a'")
    )


def _spelled(random: Random, members: Members) -> str:
    def space() -> str:
        return random.choice(
            ("", "", "", " ", "\n", "\t\r", " " * 600 if random.randrange(20) == 0 else "")
        )

    def written(value: Any) -> str:
        if isinstance(value, str):
            return value
        inside = ",".join(
            f"{space()}{json.dumps(name) if not name.startswith(chr(34)) else name}{space()}:{space()}{written(each)}"
            for name, each in value
        )
        return f"{{{inside}{space()}}}"

    around = random.choice(("", " ", "\n\t", " " * 900))
    after = random.choice(("", " ", "\n" * 9))
    if random.randrange(12) == 0:
        around, after = (
            random.choice(("\ufeff", "\u00a0", "\x0b", "\0")),
            random.choice(("\0", "}", "//")),
        )
    return around + written(members) + after


def _bytes_changed(random: Random, header: bytes) -> bytes:
    at = random.randrange(len(header) + 1)
    inserted = random.choice(
        (b"", bytes([random.randrange(256)]), b"\xed\xa0\x80", b"\\ud800", b"\x1b", b'"')
    )
    return header[:at] + inserted + header[at + random.randrange(3) :]


# --- in the server --------------------------------------------------------------------------


def examine(*paths: str) -> bytes:
    """Return how each file is read here and by the reference, and what is wrong with that."""
    return json.dumps(
        [dict(zip(("kind", "why"), _examined(path), strict=True)) for path in paths]
    ).encode()


def _examined(path: str) -> tuple[str, str]:
    import safetensors

    from reinit_cli.checkpoints.find import find_source
    from reinit_cli.errors import ReinitError

    data = Path(path).read_bytes()
    try:
        theirs: Mapping[str, Any] | None = dict(safetensors.deserialize(data))
    except Exception:  # noqa: BLE001 - the reference refuses in many ways
        theirs = None
    try:
        source = find_source(path)
    except ReinitError as error:
        if theirs is None:
            return "both refuse", ""
        return "refused, and the reference reads", "" if STATED.search(str(error)) else str(error)
    except BaseException:  # noqa: BLE001 - whatever it is, it is a finding
        return "an exception", traceback.format_exc()[-900:]
    if theirs is None:
        return "read, and the reference refuses", "the reference refuses it"
    return "both read", _unlike(source, theirs, data)


def _unlike(source: Any, theirs: Mapping[str, Any], data: bytes) -> str:
    mine = {tensor.key: tensor for tensor in source.tensors}
    if sorted(mine) != sorted(theirs):
        return f"keys {sorted(mine)}, and the reference reads {sorted(theirs)}"
    for key, tensor in mine.items():
        (place,) = source.located.places[key]
        same = (
            list(tensor.shape) == theirs[key]["shape"]
            and data[place.offset : place.offset + place.nbytes] == theirs[key]["data"]
        )
        if not same:
            return f"{key!r} is read in another way"
    return ""
