"""The format of a file is recognized by its content."""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from reinit_cli import rewrite
from reinit_cli.cli import main
from reinit_cli.errors import UnsupportedFormatError
from reinit_cli.storage.local import InputFile
from reinit_cli.text import plural
from tests.checkpoints.formats.locating import locate
from tests.checkpoints.formats.old_files import write_legacy, write_of_python_2, write_unpadded


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
    "exported by torch 2.6": (
        _zip("serialized_exported_program.json", "serialized_state_dict.pt", "version"),
        "an exported program (.pt2)",
    ),
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

    assert refused.value.problem == kind
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
        assert refused.value.problem == kind


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


def _drawn(**shapes: tuple[int, ...]) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {
        key.replace("__", "."): torch.empty(shape).normal_(generator=generator)
        for key, shape in shapes.items()
    }


def _load(path: str) -> dict[str, torch.Tensor]:
    if path.endswith(".safetensors"):
        return load_file(path)
    return dict(torch.load(path, map_location="cpu", weights_only=True))


@pytest.mark.parametrize(
    ("name", "write", "state"),
    [
        (
            "lpips.pth",
            write_of_python_2,
            _drawn(lin0__model__1__weight=(1, 64, 1, 1), lin1__model__1__weight=(1, 192, 1, 1)),
        ),
        (
            "facenet.pt",
            write_legacy,
            _drawn(conv1__weight=(10, 3, 3, 3), conv1__bias=(10,), prelu1__weight=(10,)),
        ),
        (
            "silero.safetensors",
            write_unpadded,
            _drawn(stft_conv__weight=(258, 1, 256), conv1__weight=(8, 129, 3), conv1__bias=(8,)),
        ),
    ],
    ids=lambda each: each if isinstance(each, str) else "",
)
def test_files_of_old_tools_are_read_and_patched(
    name: str,
    write: Callable[[Path, dict[str, torch.Tensor]], None],
    state: dict[str, torch.Tensor],
    capsys: pytest.CaptureFixture[str],
) -> None:
    write(Path(name), state)
    before = _load(name)
    output = "new" + Path(name).suffix

    code = main(["run", name, "-r", "*weight=normal:std=0.5,min_ndim=2", "-o", output])

    assert code == 0
    assert f"total: {plural(len(state), 'tensor')}," in capsys.readouterr().err
    assert Path(output).stat().st_size == Path(name).stat().st_size
    after = _load(output)
    assert state.keys() == before.keys()
    assert list(before) == list(after)
    for key, tensor in state.items():
        is_filled = key.endswith("weight") and tensor.dim() > 1
        assert torch.equal(tensor, before[key])
        assert torch.equal(before[key], after[key]) is not is_filled


@pytest.mark.parametrize("write", [write_of_python_2, write_unpadded])
def test_a_file_of_an_old_tool_that_is_kept_is_the_same(
    write: Callable[[Path, dict[str, torch.Tensor]], None],
) -> None:
    write(Path("m"), _drawn(a__weight=(3, 4), a__bias=(3,)))

    rewrite("./m", ["*=keep"], "./new")

    assert Path("new").read_bytes() == Path("m").read_bytes()
