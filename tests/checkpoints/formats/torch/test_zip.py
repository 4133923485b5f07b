"""`.pt` files are what `torch.save` would have written."""

from __future__ import annotations

import copy
import shutil
import struct
import subprocess
import warnings
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from reinit_cli import rewrite
from reinit_cli.checkpoints.formats.torch.files.archive import CompressedArchiveError, read_entries
from reinit_cli.errors import MalformedFileError, ReinitError
from reinit_cli.storage.local import InputFile
from tests.checkpoints.formats.locating import locate
from tests.tools import needs_safetensors

DTYPES = [
    *(torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.bool),
    *(torch.int8, torch.int16, torch.int32, torch.int64, torch.uint8, torch.uint16),
    *(torch.uint32, torch.uint64, torch.complex64, torch.float8_e4m3fn, torch.float8_e5m2),
    *(torch.float8_e4m3fnuz, torch.float8_e5m2fnuz),
    *([torch.float8_e8m0fnu] if hasattr(torch, "float8_e8m0fnu") else []),  # since torch 2.7
]


def _saved(state: Any, name: str) -> bytes:
    """What `torch.save` writes under the same file name."""
    Path("reference").mkdir(exist_ok=True)
    torch.save(state, f"reference/{name}")
    return Path("reference", name).read_bytes()


def _check(path: str) -> None:
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
    if shutil.which("unzip"):
        subprocess.run(["unzip", "-tq", path], check=True, capture_output=True)
    plain, safe, mapped = (
        torch.load(path, **arguments)
        for arguments in ({"weights_only": False}, {"weights_only": True}, {"mmap": True})
    )
    assert list(plain) == list(safe) == list(mapped)
    for key, tensor in plain.items():
        for other in (safe[key], mapped[key]):
            assert torch.equal(tensor.view(-1).view(torch.uint8), other.view(-1).view(torch.uint8))


@pytest.mark.parametrize("name", ["new.pt", "new.tar.pth", "größe.bin", "x.CKPT"])
def test_a_safetensors_file_becomes_what_torch_save_writes(name: str) -> None:
    needs_safetensors(*(str(dtype).removeprefix("torch.") for dtype in DTYPES))
    generator = torch.Generator().manual_seed(0)
    source = {
        f"layer.{at}.{dtype}".removesuffix("."): torch.randint(
            0, 2, (3, at + 1), generator=generator
        ).to(dtype)
        for at, dtype in enumerate(DTYPES)
    } | {"scalar": torch.tensor(3.5), "empty": torch.empty(0, 4), "w": torch.randn(40, 30)}
    save_file(source, "model.safetensors", {"format": "pt"})

    rewrite("model.safetensors", ["w=orthogonal", "scalar=constant:7"], name)

    rewrite("model.safetensors", ["w=orthogonal", "scalar=constant:7"], "same.safetensors")
    with InputFile("model.safetensors") as file:
        from tests.checkpoints.formats.locating import locate

        order = [tensor.key for tensor in locate(file).tensors]
    expected = load_file("same.safetensors")
    assert Path(name).read_bytes() == _saved({key: expected[key] for key in order}, name)
    _check(name)


SMALL_MODELS = [
    *("alexnet", "densenet121", "efficientnet_b0", "googlenet", "mnasnet0_5", "mobilenet_v2"),
    *("mobilenet_v3_small", "regnet_x_400mf", "regnet_y_400mf", "resnet18", "resnext50_32x4d"),
    *("shufflenet_v2_x0_5", "squeezenet1_0", "swin_t", "quantized_mobilenet_v2", "mvit_v1_b"),
    *("quantized_resnet18", "lraspp_mobilenet_v3_large", "fcn_resnet50", "raft_small", "mc3_18"),
    *("ssdlite320_mobilenet_v3_large", "inception_v3"),
]


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL_MODELS)
def test_a_model_becomes_what_torch_save_writes(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        backbone = {"weights_backbone": None} if name[:3] in ("lra", "fcn", "ssd") else {}
        state = torchvision.models.get_model(name, weights=None, **backbone).state_dict()

    rewrite(name, ["*.weight=normal:std=0.02,min_ndim=2"], "new.pt", weights="none")

    written = torch.load("new.pt", weights_only=True)
    assert list(written) == list(state)
    for key in state:
        state[key] = written[key]
    assert Path("new.pt").read_bytes() == _saved(state, "new.pt")
    _check("new.pt")

    Path("filled").mkdir()
    rewrite("new.pt", ["*.weight=constant:0.5,min_ndim=2", "*.bias=zeros"], "filled/new.pt")

    for key, tensor in state.items():
        if key.endswith(".weight") and tensor.dim() > 1 and tensor.is_floating_point():
            state[key] = tensor.fill_(0.5)
        elif key.endswith(".bias"):
            state[key] = tensor.zero_()
    assert Path("filled/new.pt").read_bytes() == _saved(state, "new.pt")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:TypedStorage is deprecated:UserWarning")
@pytest.mark.filterwarnings("ignore:torch.quantize_per:UserWarning", "ignore:must run observer")
def test_a_quantized_model_keeps_what_is_not_a_plain_tensor(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from reinit_cli.checkpoints.models import torchvision as models

    model = models.find_model("quantized_mobilenet_v2", "DEFAULT")
    state = models._build(model, models._nothing)
    monkeypatch.setattr(models, "_fetch", lambda *_, **__: copy.copy(state))

    outcome = rewrite("quantized_mobilenet_v2", ["*.bias=zeros"])

    written = torch.load("quantized_mobilenet_v2-reinit.pt", weights_only=False)
    assert outcome.job.destination.path == "quantized_mobilenet_v2-reinit.pt"
    assert list(written) == list(state)
    weight = "features.0.0.weight"
    assert torch.equal(written[weight].int_repr(), state[weight].int_repr())
    assert not written["features.0.0.bias"].any()


# --- the reader of archives --------------------------------------------------------------


@pytest.fixture
def archive() -> Path:
    torch.save({"a": torch.ones(5), "b": torch.zeros(0)}, "a.pt")
    return Path("a.pt")


def _entries(path: Path) -> Any:
    with InputFile(str(path)) as file:
        return read_entries(file)


def test_entries_are_where_the_standard_library_finds_them(archive: Path) -> None:
    content = archive.read_bytes()
    with zipfile.ZipFile(archive) as reference:
        expected = [
            (info.filename, reference.read(info), info.CRC) for info in reference.infolist()
        ]

    assert [
        (entry.name, content[entry.offset : entry.offset + entry.nbytes], entry.crc)
        for entry in _entries(archive)
    ] == expected
    for entry in _entries(archive):
        for offset in entry.crc_offsets:
            if entry.has_descriptor or offset == entry.crc_offsets[1]:
                assert int.from_bytes(content[offset : offset + 4], "little") == entry.crc


@settings(max_examples=300)
@given(st.binary(max_size=200), st.integers(0, 2**16), st.integers(0, 2**16))
def test_any_bytes_before_an_end_record_are_read_or_refused(
    data: bytes, start: int, nbytes: int
) -> None:
    end = struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, 1, 1, nbytes % 300, start % 300, 0)
    Path("any.pt").write_bytes(data + end)
    try:
        found = _entries(Path("any.pt"))
    except (MalformedFileError, CompressedArchiveError):
        return
    assert all(entry.offset + entry.nbytes <= len(data) for entry in found)


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 2**16), st.binary(min_size=1, max_size=8))
def test_a_changed_archive_is_read_or_refused(archive: Path, place: int, new: bytes) -> None:
    content = bytearray(archive.read_bytes())
    at = place % len(content)
    content[at : at + len(new)] = new
    Path("changed.pt").write_bytes(content)
    with InputFile("changed.pt") as file:
        try:
            located = locate(file)
        except ReinitError:
            return
    assert all(place.offset <= len(content) for (place,) in located.places.values())


def test_an_archive_cut_anywhere_is_refused(archive: Path) -> None:
    content = archive.read_bytes()

    for length in range(len(content)):
        archive.write_bytes(content[:length])
        with pytest.raises(MalformedFileError):
            _entries(archive)


def _compressed(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", b"x" * 100)


def _two_of_a_name(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", b"1")
        archive.writestr("a/DATA.pkl", b"2")


def _commented(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", b"1")
        archive.comment = b"more"


def _doubled(path: Path) -> None:
    path.write_bytes(path.read_bytes() * 2)


def _preceded(path: Path) -> None:
    path.write_bytes(b"#!/bin/sh\n" + path.read_bytes())


def _followed(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0")


@pytest.mark.parametrize(
    "spoil", [_compressed, _two_of_a_name, _commented, _doubled, _preceded, _followed]
)
def test_an_ambiguous_archive_is_refused(archive: Path, spoil: Any) -> None:
    spoil(archive)

    with pytest.raises((MalformedFileError, CompressedArchiveError)):
        _entries(archive)


def test_a_flipped_bit_outside_the_data_is_refused_or_changes_nothing(archive: Path) -> None:
    content = archive.read_bytes()
    entries = _entries(archive)
    inside = {at for entry in entries for at in range(entry.offset, entry.offset + entry.nbytes)}
    for position in set(range(len(content))) - inside:
        for bit in (1, 128):
            spoiled = bytearray(content)
            spoiled[position] ^= bit
            archive.write_bytes(spoiled)
            try:
                found = _entries(archive)
            except (MalformedFileError, CompressedArchiveError):
                continue
            assert [(entry.name, entry.offset, entry.nbytes) for entry in found] == [
                (entry.name, entry.offset, entry.nbytes) for entry in entries
            ] or len({entry.name for entry in found}) == len(entries)


@pytest.mark.slow
def test_entries_beyond_four_gigabytes_are_found() -> None:
    # Memory that is never touched and a file with holes: neither is really there.
    with torch.serialization.skip_data():
        torch.save(
            {"a": torch.empty(5 * 2**30, dtype=torch.uint8), "b": torch.empty(3)}, "large.pt"
        )

    entries = {entry.name: entry for entry in _entries(Path("large.pt"))}

    assert entries["large/data/0"].nbytes == 5 * 2**30
    assert entries["large/data/1"].offset > 5 * 2**30
    assert entries["large/data/1"].nbytes == 12
