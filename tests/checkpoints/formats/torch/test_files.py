"""torch's files, new and old, as they come: packed by others, damaged, without CRC-32s."""

from __future__ import annotations

import io
import subprocess
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from reinit_cli import plan, rewrite, seed_for
from reinit_cli.cli import main
from reinit_cli.errors import MalformedFileError, ReinitError, UnsupportedFormatError
from reinit_cli.operations.prepare import prepare
from reinit_cli.operations.rewrite import execute
from reinit_cli.request.request import Request
from reinit_cli.storage.local import InputFile
from tests.checkpoints.formats.locating import locate
from tests.tools import tool

RULES = ["a.weight=normal:std=2", "b=zeros"]


def _state() -> dict[str, torch.Tensor]:
    base = torch.arange(12.0)
    return {"a.weight": torch.ones(5, 4), "b": base[3:6], "c": base[6:], "d": torch.tensor(7)}


def _save(*, is_zip: bool = True) -> dict[str, torch.Tensor]:
    state = _state()
    torch.save(state, "m.pt", _use_new_zipfile_serialization=is_zip)
    return state


def _equal(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return list(first) == list(second) and all(
        torch.equal(first[key], second[key]) for key in first
    )


# --- archives that other tools have packed -------------------------------------------------


def _packed_by_python() -> None:
    with zipfile.ZipFile("m.pt") as old, zipfile.ZipFile("packed.pt", "w") as new:
        for info in old.infolist():
            new.writestr(info.filename, old.read(info))


def _packed_through_a_pipe() -> None:
    class Pipe(io.RawIOBase):  # cannot seek, so that descriptors follow the data
        def __init__(self) -> None:
            self.written = bytearray()

        def writable(self) -> bool:
            return True

        def write(self, data: bytes) -> int:  # type: ignore[override]
            self.written += data
            return len(data)

    pipe = Pipe()
    with zipfile.ZipFile("m.pt") as old, zipfile.ZipFile(pipe, "w") as new:
        for info in old.infolist():
            new.writestr(info.filename, old.read(info))
    Path("packed.pt").write_bytes(pipe.written)


def _packed_by_zip(*options: str) -> None:
    tool("zip")
    with zipfile.ZipFile("m.pt") as old:
        old.extractall()
    Path("m.pt").rename("first.pt")
    command = ["zip", "-q", "-0", *options, "-r", "packed.zip", "m"]
    subprocess.run(command, check=True)
    Path("packed.zip").rename("packed.pt")
    Path("first.pt").rename("m.pt")


PACKERS = {
    "python": _packed_by_python,
    "python through a pipe": _packed_through_a_pipe,
    "zip": _packed_by_zip,
    "zip without extra fields and folders": lambda: _packed_by_zip("-X", "-D"),
}


@pytest.mark.parametrize("pack", PACKERS.values(), ids=PACKERS)
def test_an_archive_that_was_packed_again_is_filled_and_stays_whole(pack: object) -> None:
    _save()
    assert callable(pack)
    pack()

    rewrite("m.pt", RULES, "expected.pt")
    rewrite("packed.pt", ["*=keep"], "kept.pt")
    rewrite("packed.pt", RULES, "filled.pt")

    with open("streamed.pt", "wb") as stream:
        execute(prepare(Request("packed.pt", tuple(RULES), "-")), stream=stream)

    assert Path("kept.pt").read_bytes() == Path("packed.pt").read_bytes()
    assert Path("streamed.pt").read_bytes() == Path("filled.pt").read_bytes()
    with zipfile.ZipFile("filled.pt") as archive:
        assert archive.testzip() is None
    assert _equal(torch.load("filled.pt"), torch.load("expected.pt"))
    assert Path("filled.pt").stat().st_size == Path("packed.pt").stat().st_size
    with zipfile.ZipFile("filled.pt") as new, zipfile.ZipFile("packed.pt") as old:
        changed = [name for name in old.namelist() if old.read(name) != new.read(name)]
    assert {Path(name).name for name in changed} <= {"0", "1", "serialization_id"}


def test_the_id_of_an_archive_that_was_packed_again_is_mended_too() -> None:
    state = _save()
    _packed_by_python()

    rewrite("packed.pt", ["a.weight=zeros"], "filled.pt")

    state["a.weight"].zero_()
    torch.save(state, "m.pt")
    with zipfile.ZipFile("filled.pt") as filled, zipfile.ZipFile("m.pt") as saved:
        for name in saved.namelist():
            assert filled.read(name) == saved.read(name), name


@pytest.mark.parametrize("name", ["m/constants.pkl", "m/archive_format"])
def test_archives_of_programs_are_refused(name: str) -> None:
    _save()
    with zipfile.ZipFile("m.pt", "a") as archive:
        archive.writestr(name, b"x")

    with pytest.raises(UnsupportedFormatError):
        plan("m.pt", ["*=keep"])


# --- CRC-32s -------------------------------------------------------------------------------


def _damage() -> None:
    content = bytearray(Path("m.pt").read_bytes())
    at = content.index(torch.arange(12.0).numpy().tobytes())
    content[at + 40] ^= 1  # of `c`, which no rule takes, beside `b`, which one does
    Path("m.pt").write_bytes(content)


@pytest.mark.parametrize("rules", [["b=zeros"], ["a.weight=zeros"], ["*=keep"]], ids=str)
@pytest.mark.parametrize("output", ["out.pt", "out.safetensors", "out"])
def test_a_damaged_storage_stops_the_run(
    rules: list[str], output: str, capfd: pytest.CaptureFixture[str]
) -> None:
    _save()
    _damage()

    with pytest.raises(
        MalformedFileError, match=r"damaged: the CRC-32 of 'm/data/1' does not match"
    ):
        rewrite("m.pt", rules, output, shard_nbytes=10**6 if output == "out" else None)
    assert not Path(output).exists()
    options = [word for rule in rules for word in ("-r", rule)]
    options += ["--shard-size", "1MB"] if output == "out" else []
    assert main(["m.pt", *options, "-o", output]) == 2
    assert "hint: download it again, or continue with --no-verify-crc" in capfd.readouterr().err

    shard_nbytes = 10**6 if output == "out" else None
    rewrite("m.pt", rules, output, shard_nbytes=shard_nbytes, verify_crc=False)
    assert Path(output).exists()


def test_damage_that_is_copied_stays_visible() -> None:
    _save()
    _damage()

    rewrite("m.pt", ["a.weight=zeros"], "out.pt", verify_crc=False)

    with zipfile.ZipFile("out.pt") as archive:
        assert archive.testzip() == "m/data/1"


@contextmanager
def _without_crcs() -> Iterator[None]:
    torch.serialization.set_crc32_options(False)
    try:
        yield
    finally:
        torch.serialization.set_crc32_options(True)


def test_a_crc_that_was_not_recorded_stays_so() -> None:
    Path("reference").mkdir()
    Path("new").mkdir()
    with _without_crcs():
        state = _save()
        rewrite("m.pt", ["a.weight=zeros"], "new/m.pt")
        state["a.weight"].zero_()
        torch.save(state, "reference/m.pt")

    assert Path("new/m.pt").read_bytes() == Path("reference/m.pt").read_bytes()


# --- files that are cut or spoiled ---------------------------------------------------------


def _outcome(path: str) -> dict[str, torch.Tensor] | None:
    """What comes out after a rewrite that keeps all, or None where the file is refused."""
    try:
        rewrite(path, ["*=keep"], "kept.pt", force=True)
    except ReinitError:
        return None
    found: dict[str, torch.Tensor] = torch.load("kept.pt")
    return found


@pytest.mark.slow
@pytest.mark.parametrize("is_zip", [True, False], ids=["zip", "legacy"])
def test_a_file_cut_anywhere_is_refused(is_zip: bool) -> None:
    torch.save({"a": torch.ones(3)}, "m.pt", _use_new_zipfile_serialization=is_zip)
    content = Path("m.pt").read_bytes()

    for length in range(len(content)):
        Path("m.pt").write_bytes(content[:length])
        with pytest.raises(ReinitError), InputFile("m.pt") as file:
            locate(file)


@pytest.mark.slow
@pytest.mark.parametrize("is_zip", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("part", range(2))
def test_a_file_with_a_flipped_bit_is_refused_or_read_as_torch_reads_it(
    is_zip: bool, part: int
) -> None:
    state = {"a": torch.ones(3), "b": torch.zeros(2, 2)}
    torch.save(state, "m.pt", _use_new_zipfile_serialization=is_zip)
    content = Path("m.pt").read_bytes()
    read = changed = 0

    for position in range(part, len(content), 2):
        for bit in range(8):
            spoiled = bytearray(content)
            spoiled[position] ^= 1 << bit
            Path("m.pt").write_bytes(spoiled)
            try:
                with InputFile("m.pt") as file:
                    located = locate(file)
                if is_zip:  # the CRC-32s are checked with the copy
                    rewrite("m.pt", ["*=keep"], "kept.pt", force=True)
            except ReinitError:
                continue
            read += 1
            try:
                found = torch.load("m.pt", map_location="cpu", weights_only=False)
            except (ImportError, AttributeError, TypeError):
                assert not is_zip  # a name that is not there is carried along like any other
                continue
            assert [tensor.key for tensor in located.tensors] == list(found)
            for tensor in located.tensors:
                mine, theirs = located.places[tensor.key][0].offset, found[tensor.key]
                assert tensor.shape == tuple(theirs.shape)
                assert tensor.dtype == str(theirs.dtype).removeprefix("torch.")
                if tensor.stride is None:
                    data = bytes(spoiled[mine : mine + tensor.nbytes])
                    assert data == theirs.detach().contiguous().numpy().tobytes()
            changed += not all(torch.equal(found[key], state[key]) for key in found if key in state)
    # An archive knows its CRC-32s; a file from before 1.6 has none.
    assert read > 0
    assert (changed == 0) == is_zip


# --- large files ---------------------------------------------------------------------------


@pytest.mark.slow
def test_a_file_beyond_four_gigabytes_is_planned_and_its_late_tensors_are_filled() -> None:
    with torch.serialization.skip_data():
        state = {"a": torch.empty(9 * 2**29, dtype=torch.uint8), "b": torch.empty(1000)}
        torch.save(state, "large.pt")

    rewrite("large.pt", ["b=normal:std=3"], "new.pt", verify_crc=False, stream="torch")

    with InputFile("new.pt") as file:
        start = locate(file).places["b"][0].offset
        drawn = torch.frombuffer(bytearray(file.read(start, 4000)), dtype=torch.float32)
    assert start > 9 * 2**29
    generator = torch.Generator().manual_seed(seed_for(0, "b"))
    assert torch.equal(drawn, torch.empty(1000).normal_(0, 3, generator=generator))
    assert Path("new.pt").stat().st_size == Path("large.pt").stat().st_size
