"""Small files that would be large, deep or slow are refused in little time and memory."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from reinit_cli.errors import MalformedFileError
from reinit_cli.storage.local import InputFile
from tests.checkpoints.formats import hostile
from tests.checkpoints.formats.locating import locate
from tests.checkpoints.formats.sharing import SHARING

_SECONDS = 2.0
_KIB = 200 * 1024

_TIMES = 30
"""How much longer a listing may take than a million steps of Python: on a busy machine, both do."""

_PROBE = """
import json, os, subprocess, sys, time
started = time.process_time()
for number in range(10**6):
    isinstance(number, str)
million = time.process_time() - started
victim = subprocess.Popen([sys.executable, "-m", "reinit_cli", "keys", "bomb.pt"], stdout=-3)
_, status, used = os.wait4(victim.pid, 0)
print(json.dumps([os.waitstatus_to_exitcode(status), used.ru_utime + used.ru_stime, million,
    used.ru_maxrss]))
"""
"""A process of its own, since the system counts for a process what the one that made it had."""


def _zip(pickled: bytes) -> None:
    hostile.write_archive(Path("bomb.pt"), pickled)


def _pickle(body: bytes) -> None:
    _zip(b"\x80\x02" + body)


def _before_1_6(body: bytes) -> None:
    _write(hostile.legacy(b"\x80\x02" + body))


def _write(data: bytes) -> None:
    Path("bomb.pt").write_bytes(data)


def _header(header: bytes) -> None:
    _write(struct.pack("<Q", len(header)) + header)


def _doubled(opening: bytes, opcode: bytes) -> bytes:
    """A thing of two of a thing of two: billions of them, if they were walked."""
    step = b"".join(b"h%c(h%ch%c%sq%c" % (0, at, at, opcode, at + 1) for at in range(200))
    return opening + b"q\x00" + step


def _tensors(count: int) -> bytes:
    weights = b"(" + b"".join(
        hostile.text(f"layer.{at}.weight", 2) + hostile.tensor(2) for at in range(count)
    )
    return b"}" + weights + b"u."


def _names(count: int) -> None:
    with zipfile.ZipFile("bomb.pt", "w") as archive:
        for at in range(count):
            archive.writestr(f"a/data/{at}", b"")


def _directory_alone() -> None:
    """A file of holes that claims to be a directory of gigabytes."""
    with open("bomb.pt", "wb") as file:
        file.write(b"PK\3\4")
        file.truncate(2**33)
        file.seek(0, 2)
        locator = struct.pack("<4sIQI", b"PK\6\7", 0, 2**33, 1)
        end64 = struct.pack(
            "<4sQHHIIQQQQ", b"PK\6\6", 44, 45, 45, 0, 0, 1000, 1000, 2**33 - 2**20, 2**20
        )
        end = struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, 2**32 - 1, 2**32 - 1, 0)
        file.write(end64 + locator + end)


def _many_claimed() -> None:
    end = struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, 0xFFFE, 0xFFFE, 2**30, 0, 0)
    _write(b"PK\3\4" + bytes(100) + end)


def _index(data: bytes) -> None:
    Path("bomb.pt").mkdir()
    Path("bomb.pt/model.safetensors.index.json").write_bytes(data)


_DOUBLING = b"".join(b"h%ch%c\x86q%c0" % (at, at, at + 1) for at in range(100))

BOMBS: dict[str, Callable[[], None]] = {
    "a text of exabytes": lambda: _pickle(b"\x8d" + b"\xff" * 7 + b"\x7f."),
    "an integer of gigabytes": lambda: _pickle(b"\x8b" + b"\xff\xff\xff\x7f."),
    "a frame of exabytes": lambda: _pickle(b"\x95" + b"\xff" * 8 + b"."),
    "a decimal of a million digits": lambda: _pickle(b"I" + b"9" * 10**6 + b"\n."),
    "a decimal of sixty thousand digits": lambda: _pickle(b"I" + b"9" * 60_000 + b"\n."),
    "many decimals": lambda: _pickle((b"L" + b"9" * 4000 + b"L\n0") * 10_000 + b"N."),
    "marks": lambda: _pickle(b"(" * 10**6 + b"."),
    "tuples in tuples": lambda: _pickle(b"N" + b"\x85" * 5 * 10**6 + b"."),
    "lists in lists": lambda: _pickle(b"]" * 10**6 + b"a" * (10**6 - 1) + b"."),
    "dictionaries": lambda: _pickle(b"}" * 5 * 10**6 + b"."),
    "sets": lambda: _pickle(b"\x8f" * 5 * 10**6 + b"."),
    "calls": lambda: _pickle(b"cx\ny\n" + b")R" * 5 * 10**6 + b"."),
    "states": lambda: _pickle(b"cx\ny\n)R" + b"Nb" * 10**6 + b"."),
    "names": lambda: _pickle(b"".join(b"cm\n%d\n0" % at for at in range(10**6)) + b"N."),
    "memo": lambda: _pickle(
        b"N" + b"".join(b"r%s" % struct.pack("<I", at) for at in range(10**6)) + b"."
    ),
    "memo of protocol 4": lambda: _pickle(b"N" + b"\x94" * 5 * 10**6 + b"."),
    "memo of large indices": lambda: _pickle(b"Np" + b"9" * 4000 + b"\n."),
    "texts twice": lambda: _pickle(
        b"".join(b"X\x04\0\0\0%04d" % at for at in range(9999)) * 300 + b"."
    ),
    "copies": lambda: _pickle(b"N" + b"2" * 10**7 + b"."),
    "pushes and pops": lambda: _pickle(b"N0" * 10**7 + b"N."),
    "marks and pops": lambda: _pickle(b"(1" * 10**7 + b"N."),
    "lists that hold themselves": lambda: _pickle(b"]q\0h\0ah\0a."),
    "lists of lists, doubled": lambda: _pickle(_doubled(b"]", b"e") + b"."),
    "keys whose hash takes for ever": lambda: _pickle(b"}Nq\0" + _DOUBLING + b"h\x64Ns."),
    "tuples, doubled, as a state dict": lambda: _pickle(b"Nq\0" + _DOUBLING + b"h\x64."),
    "a persistent id in itself": lambda: _pickle(b"N" + b"Q" * 10**6 + b"."),
    "a million tensors": lambda: _pickle(_tensors(1_000_000)),
    "a text of exabytes, before 1.6": lambda: _before_1_6(b"\x8d" + b"\xff" * 7 + b"\x7f."),
    "marks, before 1.6": lambda: _before_1_6(b"(" * 10**6 + b"."),
    "pushes and pops, before 1.6": lambda: _before_1_6(b"N0" * 10**7 + b"N."),
    "five pickles that are large, before 1.6": lambda: _write(
        b"".join(
            b"\x80\x02" + b"N0" * 390_000 + end
            for end in (b"\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.", b"M\xe9\x03.")
        )
        + b"\x80\x02"
        + b"N0" * 390_000
        + b"}."
    ),
    "many pickles of little": lambda: _write(b"\x80\x02\x8a\x0a" + bytes(10) + b"." * 10**7),
    "a header of exabytes": lambda: _write(b"\xff" * 7 + b"\x7f{}"),
    "a header beyond the limit": lambda: _write(struct.pack("<Q", 10**9) + b"{" * 10**6),
    "a header of brackets": lambda: _header(b'{"a":' + b"[" * 10**7),
    "a header of objects": lambda: _header(b'{"a":' * 10**6),
    "a header of numbers": lambda: _header(b'{"a":[' + b"1," * 5 * 10**6),
    "a header of one number": lambda: _header(b'{"a":' + b"9" * 10**7 + b"}"),
    "a header of one text": lambda: _header(b'{"' + b"a" * 9 * 10**7 + b'":1}'),
    "a header of escapes": lambda: _header(b'{"' + b"\\u0041" * 5 * 10**6 + b'":1}'),
    "a header of spaces": lambda: _header(b"{" + b" " * 9 * 10**7 + b"}x"),
    "a header of keys": lambda: _header(
        b"{%s}" % b",".join(b'"%d":{}' % at for at in range(10**6))
    ),
    "a million of claimed entries": _many_claimed,
    "a directory of gigabytes": _directory_alone,
    "an archive of empty entries": lambda: _names(60_000),
    "a header of empty objects": lambda: _header(b'{"a":[%s]}' % b",".join([b"{}"] * 700_000)),
    "an index of brackets": lambda: _index(b'{"weight_map":' + b"[" * 10**7),
    "an index of keys": lambda: _index(
        b'{"weight_map":{%s}}' % b",".join(b'"%d":1' % at for at in range(10**6))
    ),
    "an index of shards": lambda: _index(
        b'{"weight_map":{%s}}' % b",".join(b'"%d":"%d.bin"' % (at, at) for at in range(10**6))
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_in_little_time_and_memory(name: str) -> None:
    BOMBS[name]()

    assert _probed() == 2


@pytest.mark.slow
@pytest.mark.parametrize("name", SHARING)
def test_a_part_in_many_places_takes_little_time_and_memory(name: str) -> None:
    _zip(SHARING[name]())

    assert _probed() in {0, 2}


@pytest.mark.parametrize(
    "name",
    [
        "dictionaries in two places, 60 times",
        "keys of one long text, doubled",
        "names of parameters, doubled",
        "a class of a tensor, doubled",
        "sparse tensors in sparse tensors",
    ],
)
def test_a_part_in_2_to_the_60th_places_is_looked_at_once(name: str) -> None:
    _zip(SHARING[name]())

    started = time.process_time()
    with InputFile("bomb.pt") as file, suppress(MalformedFileError):
        locate(file)
    assert time.process_time() - started < _SECONDS


def _probed() -> int:
    """Return the exit code of a listing, whose time and memory are looked at."""
    for _ in range(3):  # whatever else the machine does only adds to it
        done = subprocess.run(
            [sys.executable, "-c", _PROBE],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        code, seconds, million, peak_kib = json.loads(done.stdout)
        assert code == 0 or done.stderr.startswith("error: ")
        assert peak_kib < _KIB
        if seconds < _TIMES * million:
            break
    assert seconds < _TIMES * million
    assert isinstance(code, int)
    return code
