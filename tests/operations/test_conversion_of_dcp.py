"""The pieces of a DCP folder are put together: rows are copied, and columns are gathered."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from reinit_cli import rewrite
from reinit_cli.checkpoints.find import find_source
from reinit_cli.checkpoints.references import References
from reinit_cli.cli import main
from reinit_cli.execution.assemble import files_of
from reinit_cli.execution.fill import Recast
from reinit_cli.operations.prepare import prepare
from reinit_cli.request.request import Request
from reinit_cli.storage.segments import Check, Copy, Segment
from tests.checkpoints.formats.dcp.saved import (
    Cut,
    along,
    columns,
    flat_tensors,
    grid,
    load,
    rows,
    save,
    save_alone,
    slices_of,
    whole,
)
from tests.tools import needs_safetensors, needs_torch, package

CUTS: dict[str, tuple[int, Cut]] = {
    "whole": (2, whole),
    "rows": (4, rows),
    "columns": (8, columns),
    "both": (4, grid),
    "the second dimension": (3, along(1)),
}


def _state() -> dict[str, Tensor]:
    return {
        "matrix": torch.arange(24.0 * 16).view(24, 16).bfloat16(),
        "one": torch.arange(24).view(1, 24),
        "cube": torch.arange(6.0 * 4 * 5).view(6, 4, 5),
        "vector": torch.arange(11),
        "scale": torch.tensor(2.5),
        "flags": torch.tensor([True, False, True]),
        "count": torch.tensor(7),
        "none": torch.empty(0, 3),
    }


@pytest.mark.parametrize("cut", CUTS)
def test_every_tensor_is_what_it_was(cut: str) -> None:
    save(Path("dcp"), _state(), *CUTS[cut])
    rewrite("dcp", [], "new.safetensors")
    rewrite("dcp", [], "new.pt")
    rewrite("dcp", [], "new", to="dcp")
    rewrite("new", [], "again.safetensors")
    rewrite("dcp", [], "shards", shard_nbytes=300)
    assert not list(Path("shards").glob("*.distcp"))  # of ranks that had nothing to write

    for found in (*map(load_file, ("new.safetensors", "again.safetensors")), torch.load("new.pt")):
        assert found.keys() == _state().keys()
        for key, tensor in _state().items():
            assert found[key].dtype == tensor.dtype
            assert torch.equal(found[key], tensor), key


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("dtype", ["float8_e8m0fnu", "float4_e2m1fn_x2"])
def test_bytes_that_are_not_read_as_numbers_are_moved(dtype: str, cut: str) -> None:
    needs_torch("2.8", "these are dtypes")
    elements = torch.arange(16 * 24, dtype=torch.int16).to(torch.uint8).view(16, 24)
    state = {"one": elements[:1], "scales": elements, "turned": elements.t().contiguous().t()}
    save(Path("dcp"), {key: each.view(getattr(torch, dtype)) for key, each in state.items()}, 1)
    save(
        Path("cut"),
        {key: each.view(getattr(torch, dtype)) for key, each in state.items()},
        *CUTS[cut],
    )
    for source in ("dcp", "cut"):
        rewrite(source, [], f"{source}.pt")
        rewrite(source, [], f"{source}-new", to="dcp")
        found = (torch.load(f"{source}.pt"), flat_tensors(load(Path(f"{source}-new"))))
        for tensors in found:
            for key, each in state.items():
                assert tensors[key].dtype == getattr(torch, dtype)
                assert torch.equal(tensors[key].view(torch.uint8), each), key
    assert main(["diff", "dcp", "cut", "-q"]) == 0
    assert main(["diff", "cut-new", "cut.pt", "-q"]) == 0


@pytest.mark.parametrize("cut", CUTS)
def test_scales_of_eight_bits_go_into_a_file_of_safetensors(cut: str) -> None:
    needs_torch("2.8", "it is a dtype")
    needs_safetensors("float8_e8m0fnu")
    scales = torch.arange(200, dtype=torch.uint8).view(8, 25)
    state = {"scales": scales.view(torch.float8_e8m0fnu)}
    save(Path("dcp"), state, *CUTS[cut])
    torch.save({"scales": scales.t().contiguous().t().view(torch.float8_e8m0fnu)}, "turned.pt")
    for source in ("dcp", "turned.pt"):
        rewrite(source, [], f"{source}.safetensors")
        found = load_file(f"{source}.safetensors")["scales"]
        assert found.dtype == torch.float8_e8m0fnu
        assert torch.equal(found.view(torch.uint8), scales)
        assert main(["diff", source, f"{source}.safetensors", "-q"]) == 0


@pytest.mark.filterwarnings("ignore:.*quantize_per_tensor:UserWarning")
@pytest.mark.filterwarnings("ignore:.*deprecated:DeprecationWarning")
def test_quantized_tensors_are_carried_and_put_into_no_other_file(
    capsys: pytest.CaptureFixture[str],
) -> None:
    quantized = torch.quantize_per_tensor(torch.ones(4, 3), 0.1, 0, torch.qint8)
    save_alone(Path("dcp"), {"w": torch.ones(3), "q": quantized})
    for options in (["-o", "n.pt"], ["-o", "n.safetensors"], ["--to", "dcp", "-o", "n"]):
        assert main(["dcp", *options]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.endswith("cannot hold 'q', a quantized tensor (qint8)")
    assert main(["dcp", "-r", "*=zeros", "-o", "out", "-q"]) == 0
    assert dict(slices_of(Path("out")))["q"] == dict(slices_of(Path("dcp")))["q"]


class _Tagged(Tensor):
    """A tensor of a class that is not installed elsewhere."""


_CARRIED: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "conjugated": (lambda values: torch.complex(values, values).conj(), "a conjugated or"),
    "negated": (torch._neg_view, "a conjugated or negated view"),
    "subclass": (lambda values: values.as_subclass(_Tagged), "a tensor subclass (tests."),
}


@pytest.mark.parametrize("kind", _CARRIED)
def test_what_only_a_piece_says_is_said_of_its_tensor_and_the_others_are_read(
    kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    make, why = _CARRIED[kind]
    state = {"w": torch.arange(6.0), "odd": make(torch.arange(12.0).view(4, 3))}
    save_alone(Path("dcp"), state)
    torch.save(state, "whole.pt")
    save_file({"odd": state["odd"].resolve_conj().resolve_neg().as_subclass(Tensor)}, "plain")

    assert main(["stats", "dcp/"]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[1].split("\t")[:3] == ["w", "6", "2.5"]
    assert f"skipped: odd: {why}" in err
    assert main(["show", "dcp/", "*"]) == 0
    assert capsys.readouterr().err.startswith(f"warning: skipped 'odd': {why}")
    assert main(["diff", "dcp/", "whole.pt"]) == 0
    assert "1 identical, 1 not compared" in capsys.readouterr().err
    for options in (["-o", "n.pt"], ["-o", "n.safetensors"], ["--to", "dcp", "-o", "n"]):
        assert main(["dcp/", *options]) == 2
        assert f"cannot hold 'odd', {why}" in capsys.readouterr().err
    assert main(["plain", "-r", "odd=rewind:dcp/", "-o", "n.safetensors"]) == 2
    assert f"error: cannot read 'dcp/': 'odd' is {why}" in capsys.readouterr().err
    assert not list(Path().glob("n*"))

    assert main(["dcp/", "--drop", "odd", "-o", "n.safetensors", "-q"]) == 0
    assert load_file("n.safetensors").keys() == {"w"}
    assert main(["dcp/", "-r", "*=zeros", "-o", "out", "--record", "-q"]) == 0
    slices = dict(slices_of(Path("out")))
    assert slices["odd"] == dict(slices_of(Path("dcp")))["odd"]
    assert not torch.load(io.BytesIO(slices["w"])).any()
    assert main(["verify", "out", "--source", "dcp"]) == 0


@pytest.mark.parametrize("cut", CUTS)
def test_a_tensor_next_to_empty_pieces_is_identical_to_the_whole_one(
    cut: str, capsys: pytest.CaptureFixture[str]
) -> None:
    state = {"row": torch.ones(1, 5), "column": torch.ones(5, 1), "one": torch.ones(1)}
    save(Path("dcp"), state, *CUTS[cut])
    save_file(state, "whole.safetensors")
    assert main(["diff", "dcp", "whole.safetensors"]) == 0, capsys.readouterr().out


def _segments(folder: str) -> list[Segment]:
    """Return what a file of safetensors would be made of."""
    job = prepare(Request(folder, (), "new.safetensors"), find_source(folder))
    with job.source.open(0) as contents, References().opened((), 0) as donors:
        (segments,) = files_of(job, contents, donors, "").values()
    return segments


def test_rows_are_copied_one_behind_the_other_and_checked_on_the_way() -> None:
    save(Path("dcp"), {"a": torch.ones(64, 8), "b": torch.ones(1, 64, 8)}, 8, rows)
    save(Path("second"), {"b": torch.ones(1, 64, 8)}, 8, along(1))
    for folder, count in (("dcp", 8 + 1), ("second", 8)):
        segments = _segments(folder)
        copies = [each for each in segments if isinstance(each, Copy)]
        assert len(copies) == count
        assert all(each.check is not None for each in copies)
        assert not any(isinstance(each, (Check, Recast)) for each in segments)


def test_columns_of_many_rows_are_one_segment() -> None:
    save(Path("dcp"), {"a": torch.ones(4096, 16)}, 8, columns)
    segments = _segments("dcp")
    assert [type(each) for each in segments if not isinstance(each, Check)][1:] == [Recast]
    assert sum(isinstance(each, Check) for each in segments) == 8


@pytest.mark.parametrize("cut", ["rows", "columns"])
@pytest.mark.parametrize("to", [None, "dcp"])
def test_a_piece_that_is_damaged_is_noticed(cut: str, to: str | None) -> None:
    save(Path("dcp"), {"a": torch.ones(8, 8)}, *CUTS[cut])
    part = Path("dcp/__1_0.distcp")
    data = bytearray(part.read_bytes())
    data[704] ^= 1
    part.write_bytes(data)

    with pytest.raises(ValueError, match="the CRC-32 of \"the piece of 'a' at"):
        rewrite("dcp", [], "new" if to else "new.safetensors", to=to)
    assert not list(Path().glob("new*"))
    rewrite("dcp", [], "new" if to else "new.safetensors", to=to, verify_crc=False)


@pytest.mark.parametrize("output", [["-o", "new.safetensors"], ["-o", "new", "--to", "dcp"]])
def test_compressed_pieces_are_put_into_no_other_file(
    output: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    package("zstandard")
    needs_torch("2.7", "pieces are compressed")
    from torch.distributed.checkpoint._extension import ZStandard

    save(Path("dcp"), {"a": torch.ones(8, 8)}, 2, rows, _extensions=[ZStandard()])

    assert main(["dcp/", *output]) == 2
    said = f"error: '{output[1]}' cannot hold 'a', compressed (stream.zstd/1)\n"
    assert capsys.readouterr().err == said
    assert not list(Path().glob("new*"))
