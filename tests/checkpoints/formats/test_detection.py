"""What a file is, is told by its content."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path

import pytest
import torch

from reinit_cli.cli import main
from reinit_cli.errors import UnsupportedFormatError
from reinit_cli.storage.local import InputFile
from reinit_cli.text import plural
from tests.checkpoints.formats.locating import locate

REAL = Path(__file__).parents[4] / "shared" / "checkpoints"


def _tar() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("storages"))
    return buffer.getvalue()


def _zip(*names: str, method: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name in names:
            archive.writestr(name, b"x" * 100)
    return buffer.getvalue()


OTHERS = {
    "gguf": (b"GGUF\x03\0\0\0", "a GGUF file"),
    "hdf5": (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
    "gzip": (b"\x1f\x8b\x08\0", "a gzip archive"),
    "tar": (_tar(), "a tar archive, such as torch wrote before 0.1.12"),
    "TorchScript": (_zip("m/data.pkl", "m/constants.pkl"), "a TorchScript archive"),
    "exported": (_zip("m/archive_format", "m/models/model.json"), "an exported program (.pt2)"),
    "deflated": (
        _zip("m/data.pkl", method=zipfile.ZIP_DEFLATED),
        "a compressed or encrypted zip archive",
    ),
    "another zip": (_zip("word/document.xml"), "a zip archive that torch.save did not write"),
    "a bare pickle": (b"\x80\x04\x95\x05\0\0\0\x01\0}.", "a pickle that torch.save did not write"),
}


@pytest.mark.parametrize(("content", "kind"), OTHERS.values(), ids=OTHERS)
def test_another_format_is_named(
    content: bytes, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("model.pt").write_bytes(content)

    with InputFile("model.pt") as file, pytest.raises(UnsupportedFormatError) as refused:
        locate(file)

    assert refused.value.kind == kind
    assert main(["keys", "model.pt"]) == 2
    error, hint, *_ = capsys.readouterr().err.splitlines()
    assert error == f"error: 'model.pt' is {kind}, which cannot be read"
    assert hint.startswith("hint: ")


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_what_torch_itself_writes_of_programs_is_named() -> None:
    linear = torch.nn.Linear(2, 2)
    torch.jit.script(linear).save("script.pt")
    torch.export.save(torch.export.export(linear, (torch.ones(1, 2),)), "exported.pt2")

    for name, kind in (
        ("script.pt", "a TorchScript archive"),
        ("exported.pt2", "an exported program (.pt2)"),
    ):
        with InputFile(name) as file, pytest.raises(UnsupportedFormatError) as refused:
            locate(file)
        assert refused.value.kind == kind


@pytest.mark.parametrize("is_zip", [True, False], ids=["zip", "legacy"])
def test_the_suffix_says_nothing(is_zip: bool) -> None:
    torch.save({"a": torch.ones(2)}, "m.safetensors", _use_new_zipfile_serialization=is_zip)

    with InputFile("m.safetensors") as file:
        found = locate(file)

    assert found.format == ("torch zip" if is_zip else "torch legacy")
    assert [tensor.key for tensor in found.tensors] == ["a"]


@pytest.mark.parametrize("protocol", [1, 2, 3, 4, 5])  # what torch writes with 0 it cannot load
@pytest.mark.parametrize("is_zip", [True, False], ids=["zip", "legacy"])
def test_every_protocol_is_read(protocol: int, is_zip: bool) -> None:
    torch.save(
        {"a": torch.ones(2, 3)},
        "m.pt",
        pickle_protocol=protocol,
        _use_new_zipfile_serialization=is_zip,
    )

    with InputFile("m.pt") as file:
        (tensor,) = locate(file).tensors

    assert (tensor.key, tensor.shape, tensor.dtype) == ("a", (2, 3), "float32")


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("lpips_0.1_alex.pth", 5),
        ("facenet_pnet.pt", 13),
        ("facenet_rnet.pt", 16),
        ("silero_16k.safetensors", 15),
    ],
)
def test_real_files_are_read_and_patched(
    name: str, count: int, capsys: pytest.CaptureFixture[str]
) -> None:
    if not (REAL / name).exists():
        pytest.skip("the real checkpoints are not here")
    output = "new" + Path(name).suffix

    code = main(["run", str(REAL / name), "-r", "*weight=normal:std=0.5,min_ndim=2", "-o", output])

    assert code == 0
    assert f"total\t{plural(count, 'tensor')}," in capsys.readouterr().out
    assert Path(output).stat().st_size == (REAL / name).stat().st_size
    if not name.endswith(".safetensors"):
        before, after = (torch.load(path, map_location="cpu") for path in (REAL / name, output))
        assert list(before) == list(after)
        for key in before:
            is_filled = key.endswith("weight") and before[key].dim() > 1
            assert torch.equal(before[key], after[key]) is not is_filled
