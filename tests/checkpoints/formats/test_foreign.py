"""A file that is not a checkpoint is named for what it is, with a way on that works."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import pickle
import shlex
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save, save_file

from reinit_cli.checkpoints.formats.foreign import foreign
from reinit_cli.cli import main
from reinit_cli.operations.ways import fetching
from tests.tools import tool

STATE = {"fc.weight": torch.ones(2, 3)}
LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize 548105171\n".format("a" * 64)


FETCH_AGAIN = "hint: the download failed, or is not complete; fetch it again"


def _errors(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[str, str]:
    assert main(["keys", *argv]) == 2
    lines = capsys.readouterr().err.splitlines()
    error, hint = lines if len(lines) == 2 else (*lines, "")
    return error, hint


STAND_INS = {
    "a pointer of Git LFS": (
        LFS.encode(),
        "a Git LFS pointer, not the file itself (548,105,171 bytes)",
        "fetch it: git lfs pull",
    ),
    "a page": (
        b"\xef\xbb\xbf\n<!DOCTYPE html>\n<html><head><title>\n404  Not Found</title></head></html>",
        "an HTML page ('404 Not Found'), not a checkpoint",
        "the download failed, or is not complete; fetch it again",
    ),
    "a page of XHTML": (
        b'<?xml version="1.0"?>\n<html xmlns="http://www.w3.org/1999/xhtml"><title>Sign in</title>',
        "an HTML page ('Sign in'), not a checkpoint",
        "the download failed, or is not complete; fetch it again",
    ),
    "what an object store answers": (
        b'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>AccessDenied</Code></Error>',
        "an XML document ('AccessDenied'), not a checkpoint",
        "the download failed, or is not complete; fetch it again",
    ),
    "what a service answers": (
        b'{"error": "Repository not found"}',
        "JSON text ('Repository not found'), not a checkpoint",
        "the download failed, or is not complete; fetch it again",
    ),
    "an index by another name": (
        b'{"metadata": {}, "weight_map": {"a": "b.safetensors"}}',
        "an index of shards, whose name does not end in .index.json",
        "name the folder: ., once its index is called model.safetensors.index.json",
    ),
    "a line of text": (
        b"Entry not found",
        "plain text ('Entry not found'), not a checkpoint",
        "the download failed, or is not complete; fetch it again",
    ),
    "a line in another script, cut through": (
        ("é" * 5000).encode(),
        "plain text ('" + "é" * 77 + "...'), not a checkpoint",
        "the download failed, or is not complete; fetch it again",
    ),
    "nothing": (b"", "empty", "the download failed, or is not complete; fetch it again"),
}


@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".bin"])
@pytest.mark.parametrize(("content", "what", "way"), STAND_INS.values(), ids=STAND_INS)
def test_what_a_download_left_is_named(
    content: bytes, what: str, way: str, suffix: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("m" + suffix).write_bytes(content)

    error, hint = _errors(capsys, "m" + suffix)

    assert error == f"error: 'm{suffix}' is {what}"
    assert hint == f"hint: {way}"


def test_a_shard_that_is_a_pointer_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    Path("hf").mkdir()
    Path("hf/model.safetensors").write_text(LFS)

    error, hint = _errors(capsys, "hf")

    assert error == (
        "error: 'hf/model.safetensors' is a Git LFS pointer, "
        "not the file itself (548,105,171 bytes)"
    )
    assert hint == "hint: fetch it: git -C hf lfs pull"


def test_a_pipe_is_named(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "reinit_cli", "keys", "-"]
    done = subprocess.run(command, input=b"<html>", capture_output=True, check=False)
    assert done.returncode == 2
    assert done.stderr == (
        b"error: '-' is an HTML page, not a checkpoint\n"
        b"hint: it is what the command before the pipe wrote\n"
    )


COMPRESSED = {
    "gzip": (gzip.compress, "gz", "a gzip archive"),
    "xz": (lzma.compress, "xz", "an xz archive"),
    "bzip2": (bz2.compress, "bz2", "a bzip2 archive"),
}


@pytest.mark.parametrize("is_named_so", [True, False])
@pytest.mark.parametrize("program", COMPRESSED)
def test_what_is_compressed_is_read_after_the_command_that_is_offered(
    program: str, is_named_so: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    compress, suffix, what = COMPRESSED[program]
    tool(program)
    name = f"m.safetensors.{suffix}" if is_named_so else "my model.safetensors"
    Path(name).write_bytes(compress(save(STATE)))

    error, hint = _errors(capsys, name)

    assert error == f"error: {name!r} is {what}, which cannot be read"
    subprocess.run(hint.removeprefix("hint: unpack it first: "), shell=True, check=True)
    unpacked = "m.safetensors" if is_named_so else "my model-unpacked.safetensors"
    assert main(["keys", unpacked]) == 0


def _piped(data: bytes, command: str, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    """Run a pipe that starts with some bytes and ends in `reinit keys -`."""
    (tmp_path / "piped").write_bytes(data)
    run = f"cat piped | {command}{shlex.quote(sys.executable)} -m reinit_cli keys -"
    return subprocess.run(
        run, check=False, shell=True, cwd=tmp_path, capture_output=True, text=True
    )


@pytest.mark.parametrize("program", COMPRESSED)
def test_a_compressed_pipe_is_read_with_the_program_that_is_offered(
    program: str, tmp_path: Path
) -> None:
    tool(program)
    data = COMPRESSED[program][0](save(STATE))
    refused = _piped(data, "", tmp_path)
    assert refused.returncode == 2
    hint = refused.stderr.splitlines()[-1]
    assert hint == f"hint: unpack it in the pipe: put {program} -dc in front of reinit"
    assert _piped(data, f"{program} -dc | ", tmp_path).returncode == 0


@pytest.mark.parametrize("name", ["x", "x.dat", "-"])
def test_bytes_that_claim_no_format_are_not_called_safetensors(
    name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    data = b"\x89PNG\r\n\x1a\n" + bytes(100)
    if name == "-":
        said = _piped(data, "", tmp_path).stderr
    else:
        Path(name).write_bytes(data)
        assert main(["keys", f"./{name}"]) == 2
        said = capfd.readouterr().err
    assert "is not a valid checkpoint: it starts neither as a zip archive, nor as a pickle" in said


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_checkpoint_in_a_zip_is_read_after_the_command_that_is_offered(
    method: int, capsys: pytest.CaptureFixture[str]
) -> None:
    tool("unzip")
    torch.save(STATE, "policy.pth")
    with zipfile.ZipFile("m.zip", "w", method) as archive:
        archive.writestr("data", b"{}")
        archive.write("policy.pth")
        archive.writestr("policy.optimizer.pth", b"x" * 50)
    Path("policy.pth").unlink()

    error, hint = _errors(capsys, "m.zip")

    assert error == (
        "error: 'm.zip' is a zip archive that holds 'policy.pth' and 1 more checkpoint, "
        "which cannot be read"
    )
    subprocess.run(hint.removeprefix("hint: unpack it first: "), shell=True, check=True)
    assert main(["keys", "policy.pth"]) == 0


def _tar() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("weights"))
    return buffer.getvalue()


def _zip(*names: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in names:
            archive.writestr(name, b"x" * 100)
    return buffer.getvalue()


def _numpy(*, is_archive: bool) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, a=np.ones(2)) if is_archive else np.save(buffer, np.ones(2))
    return buffer.getvalue()


FOREIGN = {
    "m.tar": (_tar(), "a tar archive, such as torch wrote before 0.1.12"),
    "m.npy": (_numpy(is_archive=False), "a NumPy file (.npy)"),
    "m.npz": (_numpy(is_archive=True), "a NumPy archive (.npz)"),
    "m.h5": (b"\x89HDF\r\n\x1a\n" + bytes(40), "an HDF5 file"),
    "m.keras": (_zip("metadata.json", "config.json", "model.weights.h5"), "a Keras file"),
    "m.zst": (b"\x28\xb5\x2f\xfd" + bytes(40), "a zstd archive"),
    "m.7z": (b"7z\xbc\xaf\x27\x1c" + bytes(40), "a 7z archive"),
    "m.rar": (b"Rar!\x1a\x07\x01\0" + bytes(40), "a RAR archive"),
    "m.gguf": (b"GGUF\x03\0\0\0" + bytes(40), "a GGUF file"),
    "ggml.bin": (b"lmgg" + bytes(40), "a GGML file"),
    "m.tflite": (b"\x1c\0\0\0TFL3" + bytes(40), "a TFLite model"),
    "m.pte": (b"\x1c\0\0\0ET12" + bytes(40), "an ExecuTorch program"),
    "m.onnx": (b"\x08\x08\x12\x07pytorch\x1a\x052.1.0" + bytes(40), "an ONNX model"),
    "renamed.pt": (b"\x08\x0a\x12\x07pytorch\x1a\x052.1.0" + bytes(40), "an ONNX model"),
    "flax_model.msgpack": (b"\x82\xa6params\x81" + bytes(40), "a msgpack file of Flax"),
    "m.mlmodel": (b"\x08\x04\x12\x00" + bytes(40), "a Core ML model"),
    "m.pdparams": (pickle.dumps({"a": np.ones(2)}, protocol=2), "a Paddle checkpoint"),
    "saved_model.pb": (b"\x08\x01\x12\x90" + bytes(40), "a TensorFlow graph"),
    "m.ckpt.data-00000-of-00001": (bytes(64), "a part of a TensorFlow checkpoint"),
    "m.t7": (b"\x03\0\0\0\x01\0\0\0" + bytes(40), "a Torch7 file"),
    "torch7.pt": (b"\4\0\0\0\1\0\0\0\3\0\0\0V 1" + bytes(40), "a Torch7 file"),
    "m.pkl": (pickle.dumps({"a": 1}), "a pickle that torch.save did not write"),
    "old.pkl": (pickle.dumps({"a": 1}, protocol=0), "a pickle that torch.save did not write"),
    "document.pt": (_zip("word/document.xml"), "a zip archive that torch.save did not write"),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_a_file_of_another_kind_is_named(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    content, what = FOREIGN[name]
    Path(name).write_bytes(content)

    error, hint = _errors(capsys, name)

    assert error == f"error: {name!r} is {what}, which cannot be read"
    assert hint.startswith("hint: ")


def test_arrays_of_numpy_are_read_after_the_line_that_is_offered(
    capsys: pytest.CaptureFixture[str],
) -> None:
    np.savez("m.npz", weight=np.ones((2, 3), dtype=np.float32))

    _, hint = _errors(capsys, "m.npz")

    line = hint.removeprefix("hint: save its arrays first: ").replace("FILE", "'m.npz'")
    exec(line, {"torch": torch, "numpy": np})
    assert main(["keys", "m.pt"]) == 0
    assert capsys.readouterr().out == "weight\n"


@pytest.mark.parametrize("kept", [9, 60, 75, -1])
def test_a_safetensors_file_that_is_cut_off_says_how_much_is_missing(
    kept: int, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = save(STATE)
    Path("m.safetensors").write_bytes(whole[:kept])
    header = int.from_bytes(whole[:8], "little") + 8
    missing = len(whole) - len(whole[:kept])

    error, hint = _errors(capsys, "m.safetensors")

    if len(whole[:kept]) < header:
        said = f"at least {header - len(whole[:kept]):,} bytes missing"
    else:
        said = f"{missing:,} {'byte' if missing == 1 else 'bytes'} missing"
    assert error == f"error: 'm.safetensors' is not a valid safetensors file: it is cut off: {said}"
    assert hint == FETCH_AGAIN


@pytest.mark.parametrize("kept", [100, 700, -1])
def test_an_archive_that_is_cut_off_is_named(kept: int, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save(STATE, "m.pt")
    whole = Path("m.pt").read_bytes()
    Path("m.pt").write_bytes(whole[:kept])

    error, hint = _errors(capsys, "m.pt")

    end = "it is truncated: the end of the archive is missing"
    cut = "it is cut off: the end of the archive, its directory, is missing"
    assert error == f"error: 'm.pt' is not a valid zip archive: {end if kept == -1 else cut}"
    assert hint == FETCH_AGAIN


@pytest.mark.parametrize("more", [b"\0" * 100, b"x"])
def test_an_archive_with_bytes_after_its_end_is_not_called_cut_off(
    more: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(STATE, "m.pt")
    with open("m.pt", "ab") as file:
        file.write(more)
    assert torch.load("m.pt").keys() == STATE.keys()

    error, hint = _errors(capsys, "m.pt")

    count = f"{len(more)} byte{'s' * (len(more) > 1)}"
    assert (
        error == f"error: 'm.pt' is not a valid zip archive: it ends {count} before the file does"
    )
    assert hint.partition(": ")[2].startswith("save it again without what follows")


def test_an_archive_with_a_comment_is_not_called_cut_off(
    capsys: pytest.CaptureFixture[str],
) -> None:
    torch.save(STATE, "m.pt")
    with zipfile.ZipFile("m.pt", "a") as archive:
        archive.comment = b"from a friend"
    assert torch.load("m.pt").keys() == STATE.keys()

    error, _ = _errors(capsys, "m.pt")

    assert error.endswith("is not a valid zip archive: it ends 13 bytes before the file does")


def test_a_legacy_file_that_is_cut_off_says_how_much_is_missing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    torch.save(STATE, "m.pt", _use_new_zipfile_serialization=False)
    whole = Path("m.pt").read_bytes()
    Path("m.pt").write_bytes(whole[:-10])

    error, hint = _errors(capsys, "m.pt")

    said = f"it is cut off: 10 of {len(whole):,} bytes missing"
    assert error == f"error: 'm.pt' is not a valid torch file: {said}"
    assert hint == FETCH_AGAIN


def test_a_link_that_leads_nowhere_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    Path("m.pt").symlink_to("../blobs/123")
    assert _errors(capsys, "m.pt") == (
        "error: 'm.pt' is a link to '../blobs/123', which does not exist",
        "",
    )


def test_a_shard_that_is_a_link_to_nothing_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    Path("hf").mkdir()
    save_file(STATE, "hf/a.safetensors")
    Path("hf/b.safetensors").symlink_to("../blobs/123")
    weight_map = {"fc.weight": "a.safetensors", "fc.bias": "b.safetensors"}
    index = {"metadata": {}, "weight_map": weight_map}
    Path("hf/model.safetensors.index.json").write_text(json.dumps(index))

    assert main(["keys", "hf"]) == 0
    assert main(["hf", "-r", "*=zeros"]) == 2

    warning, error, _ = capsys.readouterr().err.splitlines()
    problem = "'model.safetensors.index.json': 'b.safetensors' is a link that leads nowhere"
    assert error == f"error: 'hf' cannot be rewritten as it is: {problem}"
    assert warning == f"warning: 'hf': {problem}"


ELSEWHERE = {
    "https://example.org/m.pt?x=1&y=2": "curl --fail -L -O 'https://example.org/m.pt?x=1&y=2'",
    "s3://bucket/a/m.pt": "aws s3 cp s3://bucket/a/m.pt .",
    "gs://bucket/m.pt": "gcloud storage cp gs://bucket/m.pt .",
    "hf://org/model": "hf download org/model --local-dir model",
    "hf://org/model@v1/sub/m.safetensors": (
        "hf download org/model sub/m.safetensors --revision v1 --local-dir ."
    ),
}


@pytest.mark.parametrize("name", ELSEWHERE)
def test_a_name_of_another_place_gets_the_command_that_fetches_it(
    name: str,
) -> None:
    assert fetching(name) == f"fetch it first: {ELSEWHERE[name]}"


def test_the_url_of_a_file_gets_its_path(capsys: pytest.CaptureFixture[str]) -> None:
    torch.save(STATE, "my model.pt")
    path = Path("my model.pt").absolute()
    error, hint = _errors(capsys, path.as_uri())
    assert error == f"error: {path.as_uri()!r} is a URL, and files are named by their paths"
    assert hint == f"hint: name it '{path}'"


@pytest.mark.parametrize(
    ("path", "model"),
    [
        ("org/model", "org/model"),
        ("hf:gpt2", "gpt2"),
        ("hf:org/model", "org/model"),
        ("huggingface.co/gpt2", "gpt2"),
        ("hf.co/org/model", "org/model"),
    ],
)
def test_a_path_that_may_be_a_model_of_the_hub_gets_the_name_of_that(
    path: str, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("other.pt").touch()

    assert _errors(capsys, path) == (
        f"error: no such file: {path!r}",
        f"hint: if it is a model of the Hugging Face Hub, name it hf://{model}",
    )


def test_a_path_with_the_suffix_of_a_file_is_not_offered_as_a_model_of_the_hub(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for path in ("org/model.safetensors", "runs/Model.PT"):
        error, hint = _errors(capsys, path)
        assert error == f"error: no such file: {path!r}"
        assert "hf://" not in hint


def test_a_checkpoint_is_never_taken_for_something_else() -> None:
    """What the formats recognize is not asked at all; what is left must not look like text."""
    for path, head in (("m.pt", b"\0" * 64), ("m.safetensors", b"\xff" * 4096)):
        assert foreign(path, head) is None
