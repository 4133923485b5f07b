"""safetensors files: what is read, what is refused, what is written."""

from __future__ import annotations

import json
import re
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save, save_file

from reinit_cli import rewrite
from reinit_cli.checkpoints.formats.base import Located
from reinit_cli.errors import MalformedFileError, ReinitError, UnsupportedFormatError
from reinit_cli.storage.local import InputFile
from tests.checkpoints.formats.locating import locate
from tests.tools import needs_safetensors


def _file(header: bytes | dict[str, Any], data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def _entry(
    dtype: Any = "F32", shape: Any = (2,), offsets: Any = (0, 8), **more: Any
) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets, **more}


def _locate(content: bytes, name: str = "x.safetensors") -> Located:
    Path(name).write_bytes(content)
    with InputFile(name) as file:
        return locate(file)


GOOD = b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}'
DATA = bytes(8)

MALFORMED = {
    "seven bytes": (bytes(7), "it has 7 bytes, and the length of the header takes 8"),
    "header beyond the file": (
        (99).to_bytes(8, "little") + GOOD,
        "it is cut off: at least 45 bytes missing",
    ),
    "header of no bytes": (bytes(8), "its header does not start with '{'"),
    "a no-break space": (_file(b"\xc2\xa0" + GOOD, DATA), "its header does not start with '{'"),
    "minus zero": (
        _file(GOOD.replace(b"[0,", b"[-0,"), DATA),
        "its header has the number -0, and only integers are allowed",
    ),
    "more elements than 64 bits count": (
        _file({"a": _entry(shape=(2**32, 2**32, 0), offsets=(0, 0))}),
        "'a' has more elements than 64 bits can count",
    ),
    "more dimensions than are read": (
        _file({"a": _entry(shape=(1,) * 4097, offsets=(0, 4))}, bytes(4)),
        "'a' has 4,097 dimensions, and 4,096 are read",
    ),
    "an unknown member that is a number beyond float64": (
        _file(GOOD[:-2] + b',"x":' + b"9" * 400 + b"}}", DATA),
        f"its header has the number {'9' * 40}, and only integers are allowed",
    ),
    "an unknown member that is nested too deeply": (
        _file(GOOD[:-2] + b',"x":' + b"[" * 126 + b"]" * 126 + b"}}", DATA),
        "it is nested more than 127 deep",
    ),
    "an unknown member with half of a surrogate pair": (
        _file(GOOD[:-2] + b',"x":"\\udfff"}}', DATA),
        r"the text '\udfff' has half of a surrogate pair",
    ),
    "a number of 5,000 digits": (
        _file(GOOD[:-2] + b',"x":' + b"9" * 5000 + b"}}", DATA),
        f"its header has the number {'9' * 40}, and only integers are allowed",
    ),
    "more metadata than any checkpoint has": (
        _file({"__metadata__": {str(at): "" for at in range(100_001)}}),
        "its __metadata__ has more than 100,000 names",
    ),
    "byte order mark": (_file(b"\xef\xbb\xbf" + GOOD, DATA), "its header does not start with '{'"),
    "NUL padding": (
        _file(GOOD + b"\0\0", DATA),
        "its header is not JSON: Extra data: line 1 column 55 (char 54)",
    ),
    "trailing characters": (
        _file(GOOD + b"{}", DATA),
        "its header is not JSON: Extra data: line 1 column 55 (char 54)",
    ),
    "cut off": (
        _file(GOOD[:-1], DATA),
        "its header is not JSON: Expecting ',' delimiter: line 1 column 54 (char 53)",
    ),
    "not UTF-8": (_file(b'{"\xff":1}'), "its header is not UTF-8 at byte 10"),
    "an array": (_file(b"[]"), "its header does not start with '{'"),
    "NaN": (
        _file(b'{"a":NaN}'),
        "its header has the number NaN, and only integers are allowed",
    ),
    "Infinity": (
        _file(b'{"a":-Infinity}'),
        "its header has the number -Infinity, and only integers are allowed",
    ),
    "a float": (
        _file({"a": _entry(offsets=(0, 8.0))}, DATA),
        "its header has the number 8.0, and only integers are allowed",
    ),
    "true as an integer": (
        _file({"a": _entry(shape=(2, True))}, DATA),
        "'a' has a shape that is not a list of integers in [0, 2^63)",
    ),
    "a negative dimension": (
        _file({"a": _entry(shape=(-2,))}, DATA),
        "'a' has a shape that is not a list of integers in [0, 2^63)",
    ),
    "a dimension of 2^63": (
        _file({"a": _entry(shape=(2**63, 0), offsets=(0, 0))}),
        "'a' has a shape that is not a list of integers in [0, 2^63)",
    ),
    "half of a surrogate pair": (
        _file(b'{"\\ud800":' + GOOD[5:-1] + b"}", DATA),
        r"the text '\ud800' has half of a surrogate pair",
    ),
    "a key twice": (_file(GOOD[:-1] + b"," + GOOD[1:], DATA), "it has the key 'a' twice"),
    "a key twice in other letters": (
        _file(GOOD[:-1] + b',"\\u0061":' + GOOD[5:], DATA),
        "it has the key 'a' twice",
    ),
    "a member twice": (
        _file(GOOD.replace(b'"dtype"', b'"dtype":"F32","dtype"'), DATA),
        "'a' has a member twice",
    ),
    "metadata twice": (
        _file(b'{"__metadata__":{},"__metadata__":{}}'),
        "it has __metadata__ twice",
    ),
    "a name in metadata twice": (
        _file(b'{"__metadata__":{"a":"1","a":"2"}}'),
        "its __metadata__ has 'a' twice",
    ),
    "metadata that is a tensor": (
        _file({"__metadata__": _entry()}, DATA),
        "its __metadata__ has a value for 'shape' that is not a text",
    ),
    "metadata that is not an object": (
        _file({"__metadata__": []}),
        "its __metadata__ is not an object",
    ),
    "metadata that is not a text": (
        _file({"__metadata__": {"a": 1}}),
        "its __metadata__ has a value for 'a' that is not a text",
    ),
    "an entry that is not an object": (_file({"a": 3}), "'a' is not an object"),
    "an unknown dtype": (
        _file({"a": _entry("F128")}, DATA),
        "'a' has no dtype that the format knows: 'F128'",
    ),
    "no dtype": (
        _file({"a": {"shape": [2], "data_offsets": [0, 8]}}, DATA),
        "'a' has no dtype that the format knows: None",
    ),
    "no shape": (_file({"a": {"dtype": "F32", "data_offsets": [0, 8]}}, DATA), "'a' has no shape"),
    "three offsets": (
        _file({"a": _entry(offsets=(0, 4, 8))}, DATA),
        "'a' has 3 data_offsets, not 2",
    ),
    "a size that is not the shape's": (
        _file({"a": _entry(shape=(3,))}, DATA),
        "'a' has 8 bytes, but its dtype and shape take 12",
    ),
    "offsets the wrong way round": (
        _file({"a": _entry(offsets=(8, 0))}, DATA),
        "'a' has -8 bytes, but its dtype and shape take 8",
    ),
    "half a byte": (
        _file({"a": _entry("F4", (3,), (0, 2))}, b"12"),
        "'a' has 2 bytes, but its dtype and shape take 1.5",
    ),
    "a hole": (
        _file({"a": _entry(offsets=(8, 16))}, bytes(16)),
        "'a' leaves a hole before it: it starts at 8, not at 0",
    ),
    "an overlap": (
        _file({"a": _entry(), "b": _entry(offsets=(4, 12))}, bytes(12)),
        "'b' overlaps another tensor: it starts at 4, not at 8",
    ),
    "bytes at the end": (
        _file(GOOD, bytes(9)),
        "its tensors end at byte 8 of the data, which has 9",
    ),
    "data cut off": (
        _file(GOOD, bytes(7)),
        "it is cut off: 1 byte missing",
    ),
}


@pytest.mark.parametrize(("content", "problem"), MALFORMED.values(), ids=MALFORMED)
def test_what_the_format_forbids_is_refused(content: bytes, problem: str) -> None:
    with pytest.raises(MalformedFileError) as refused:
        _locate(content)

    assert str(refused.value) == f"'x.safetensors' is not a valid safetensors file: {problem}"


def test_a_file_cut_anywhere_is_refused() -> None:
    whole = save({"a": torch.ones(3), "b": torch.ones(2, 2)})

    for length in range(len(whole)):
        with pytest.raises((MalformedFileError, UnsupportedFormatError)):
            _locate(whole[:length])


ACCEPTED = {
    "trailing white space": _file(GOOD + b" \n\t ", DATA),
    "leading white space": _file(b" \t\r\n" + GOOD, DATA),
    "leading white space, more than is looked at": _file(b" " * 600 + GOOD, DATA),
    "white space within": _file(GOOD.replace(b":", b" :\n"), DATA),
    "unknown members": _file({"a": _entry(colour="red")}, DATA),
    "metadata of nothing": _file({"__metadata__": None, "a": _entry()}, DATA),
    "a scalar": _file({"a": _entry(shape=(), offsets=(0, 4))}, bytes(4)),
    "an empty tensor": _file({"a": _entry(), "b": _entry(shape=(0, 5), offsets=(8, 8))}, DATA),
    "nothing": _file(b"{}"),
    "four bits": _file({"a": _entry("F4", (4,), (0, 2))}, b"12"),
    "six bits": _file({"a": _entry("F6_E2M3", (4,), (0, 3))}, b"123"),
    "scales": _file({"a": _entry("F8_E8M0", (4,), (0, 4))}, b"1234"),
}


@pytest.mark.parametrize("content", ACCEPTED.values(), ids=ACCEPTED)
def test_what_the_format_allows_is_read_and_kept_byte_for_byte(content: bytes) -> None:
    located = _locate(content)
    if located.tensors:
        rewrite("x.safetensors", ["*=keep"])
        assert Path("x-reinit.safetensors").read_bytes() == content


@pytest.mark.parametrize("content", ACCEPTED.values(), ids=ACCEPTED)
def test_what_is_read_is_what_the_reference_reads(content: bytes) -> None:
    if set(re.findall(rb'"(F4|F6_E2M3|F8_E8M0)"', content)):
        needs_safetensors("float8_e8m0fnu")
    read = dict(safetensors.deserialize(content))

    assert {tensor.key: list(tensor.shape) for tensor in _locate(content).tensors} == {
        key: value["shape"] for key, value in read.items()
    }


def test_a_record_goes_into_a_header_that_begins_with_white_space() -> None:
    Path("x.safetensors").write_bytes(_file(b"\n " + GOOD, DATA))

    rewrite("x.safetensors", ["a=ones"], record=True)

    assert load_file("x-reinit.safetensors")["a"].tolist() == [1, 1]


def test_unaligned_tensors_are_filled_where_they_lie() -> None:
    header = {"a": _entry("U8", (1,), (0, 1)), "b": _entry("F32", (2,), (1, 9))}
    Path("x.safetensors").write_bytes(_file(header, b"\x07" + DATA))

    rewrite("x.safetensors", ["b=ones"])

    written = load_file("x-reinit.safetensors")
    assert (written["a"].tolist(), written["b"].tolist()) == ([7], [1, 1])


def _many_keys() -> bytes:
    return b",".join(
        b'"k%d":{"dtype":"U8","shape":[],"data_offsets":[%d,%d]}' % (at, at, at + 1)
        for at in range(200_000)
    )


def _names_of_metadata() -> bytes:
    return b",".join(b'"%d":"%d"' % (at, at) for at in range(790_000))


_X = b"x" * 1_000_000

BOMBS: dict[str, Callable[[], bytes]] = {
    "a million keys": lambda: b"{" + _many_keys() * 6 + b"}",
    "many keys and a fault at the end": lambda: b"{" + _many_keys()[:9_000_000] + b'","k":1}',
    "one long text": lambda: b'{"a":"' + _X * 47 + b'"}',
    "a header of 99 MB": lambda: b'{"a":"' + _X * 99 + b'"}',
    "numbers": lambda: b'{"a":[' + b"0," * 999_000 + b"0]}",
    "arrays": lambda: b'{"a":[' + b"[]," * 999_000 + b"0]}",
    "objects": lambda: b'{"__metadata__":{' + b'"k":{},' * 999_000 + b'"k":0}}',
    "nesting": lambda: b'{"a":' + b"[" * 900_000,
    "a long number": lambda: b'{"a":' + b"9" * 900_000 + b"}",
    "a long key": lambda: b'{"' + _X * 47 + b'":0}',
    "a long key, and a character of four bytes": (
        lambda: b'{"' + _X * 47 + "😀".encode() + b'":0}'
    ),
    "a long key, and a character of two bytes": lambda: b'{"' + _X * 47 + "Ж".encode() + b'":0}',
    "a long key, and a character of four bytes as its escape": (
        lambda: b'{"' + _X * 47 + b'\\ud83d\\ude00":0}'
    ),
    "a shape whose product has millions of digits": (
        lambda: (
            b'{"a":{"dtype":"F32","shape":[%s0],"data_offsets":[0,0]}}' % (b"4294967296," * 790_000)
        )
    ),
    "metadata of many names": lambda: b'{"__metadata__":{' + _names_of_metadata() + b"}}",
}

_PROBE = """
import re, time
from reinit_cli.cli import main
code = main(["keys", "bomb.safetensors"])
peak = re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1]
print(code, time.process_time(), peak)
"""
"""It asks for its own peak: `ru_maxrss` would be that of the process that it was forked from."""


@pytest.mark.slow
@pytest.mark.parametrize("bomb", BOMBS.values(), ids=BOMBS)
def test_a_bomb_is_refused_within_two_seconds_and_200_megabytes(
    bomb: Callable[[], bytes],
) -> None:
    Path("bomb.safetensors").write_bytes(_file(bomb()))

    done = subprocess.run(
        [sys.executable, "-c", _PROBE], capture_output=True, text=True, check=True, timeout=60
    )

    code, seconds, kilobytes = done.stdout.split()
    assert code == "2"
    assert done.stderr.startswith("error: 'bomb.safetensors' is not a valid safetensors file: ")
    assert len(done.stderr) < 2_000
    assert float(seconds) < 2
    assert int(kilobytes) < 200_000


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200))
def test_whatever_the_bytes_the_answer_is_ours(content: bytes) -> None:
    try:
        located = _locate(_file(b"{" + content, DATA))
    except ReinitError:
        return
    assert isinstance(located, Located)


VALID = save({"a": torch.ones(2), "b": torch.zeros(3, 2, dtype=torch.int16)}, {"format": "pt"})


@settings(
    deadline=None, max_examples=500, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.integers(0, len(VALID) - 1), st.binary(min_size=1, max_size=3), st.integers(0, 3))
def test_what_the_reference_refuses_is_refused(at: int, inserted: bytes, removed: int) -> None:
    content = VALID[:at] + inserted + VALID[at + removed :]
    try:
        located = _locate(content)
    except ReinitError:
        return

    read = dict(safetensors.deserialize(content))

    assert {tensor.key: (list(tensor.shape), tensor.nbytes) for tensor in located.tensors} == {
        key: (value["shape"], len(value["data"])) for key, value in read.items()
    }


def test_a_flipped_bit_is_refused_or_read_as_the_reference_reads_it() -> None:
    for position in range(len(VALID) * 8):
        content = bytearray(VALID)
        content[position // 8] ^= 1 << position % 8
        try:
            located = _locate(bytes(content))
        except ReinitError:
            continue
        read = dict(safetensors.deserialize(bytes(content)))
        assert sorted(read) == sorted(tensor.key for tensor in located.tensors)
        for tensor in located.tensors:
            start = located.places[tensor.key][0].offset
            assert content[start : start + tensor.nbytes] == read[tensor.key]["data"]


def test_a_new_file_keeps_the_order_of_keys_and_aligns_its_tensors() -> None:
    rewrite("resnet18", ["fc.*=zeros"], "new.safetensors", weights="none")

    with InputFile("new.safetensors") as file:
        located = locate(file)
        start = file.read(0, 8)
    import torchvision

    itemsizes = {"float32": 4, "int64": 8}
    assert [tensor.key for tensor in located.tensors] == list(
        torchvision.models.resnet18().state_dict()
    )
    assert all(
        located.places[tensor.key][0].offset % itemsizes[tensor.dtype] == 0
        for tensor in located.tensors
    )
    assert int.from_bytes(start, "little") % 8 == 0


@pytest.mark.slow
def test_a_hundred_thousand_keys_are_listed_in_two_seconds() -> None:
    save_file(
        {f"model.layers.{at}.weight": torch.zeros(0) for at in range(100_000)}, "m.safetensors"
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN)

    done = subprocess.run(
        [sys.executable, "-m", "reinit_cli", "keys", "m.safetensors"],
        capture_output=True,
        check=True,
        timeout=60,
    )

    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert len(done.stdout.splitlines()) == 100_000
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 2
