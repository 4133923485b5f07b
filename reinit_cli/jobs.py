"""What a user asks for, and what becomes of that after every check."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal as OneOf

from reinit_cli.architectures import Arch
from reinit_cli.formats import safetensors, torch_zip
from reinit_cli.formats.hugging_face import SHARD_NBYTES
from reinit_cli.names import OutputName
from reinit_cli.output import Destination
from reinit_cli.planning import Options, Plan
from reinit_cli.references import References
from reinit_cli.resizing import Resize
from reinit_cli.rules import Rule
from reinit_cli.sources import Source

Format = OneOf["same", "safetensors", "torch", "shards"]
"""same: the source's bytes with tensors replaced; the others: laid out anew."""

SUFFIXES = (safetensors.SUFFIX, *torch_zip.SUFFIXES)
"""Those that name a format."""

BESIDE = OutputName("{stem}-reinit{suffix}", is_beside=True)
"""The default name of an output."""

BESIDE_AS_FOLDER = OutputName("{stem}-reinit", is_beside=True)
"""The default name of a folder of shards."""


@dataclass(frozen=True, slots=True)
class Request:
    """What a user asks for.

    Attributes:
        source: a model's name or a path.
        rules: in the order of precedence, the last first to own.
        output: a path, the form of one, "-" for standard output, or None for the default name.
        weights: for a model: "DEFAULT", the name of its weights, "none" or a file.
        options: seed, device and strictness.
        force: whether an existing output is replaced.
        in_place: whether the source is replaced by the output.
        sync: whether a new output too is forced to the disk.
        measure_before: whether the tensors that are filled are measured as they were.
        sketch: whether histograms of what was there and what is drawn are counted.
        root: the path of the state dict in what a torch file holds; None to look for it.
        dtype: what floating tensors are cast to, by torch's name; None to leave them.
        drop_non_tensors: whether what the output's format cannot hold may be lost.
        refuse_unknown_globals: whether names that torch does not allow are an error.
        verify_crc: whether a CRC-32 that does not match stops the run.
        shard_nbytes: write a folder of safetensors files, with so many bytes of tensors in
            each at most; None where the output's name decides.
        arch: the architecture of a checkpoint: a torchvision model's name, or what makes a
            module; None where the source is a model, or no rule asks.
        resize: which tensors get another first dimension, in the order of precedence.
        num_classes: how many classes a model is to tell apart; None for as many as it does.
        record: where a record of what made the output goes: "" is into the output, else a
            path; None for none.
    """

    source: str
    rules: tuple[Rule | str, ...]
    output: str | OutputName | None = None
    weights: str | None = None
    options: Options = field(default_factory=Options)
    force: bool = False
    in_place: bool = False
    sync: bool = False
    measure_before: bool = False
    sketch: bool = False
    root: str | None = None
    dtype: str | None = None
    drop_non_tensors: bool = False
    refuse_unknown_globals: bool = False
    verify_crc: bool = True
    shard_nbytes: int | None = None
    arch: Arch | None = None
    resize: tuple[Resize | str, ...] = ()
    num_classes: int | None = None
    record: str | None = None

    @property
    def reshapes(self) -> bool:
        """Whether tensors are asked to be of other shapes, or in other places."""
        return bool(self.resize) or self.num_classes is not None or self.options.untie


@dataclass(frozen=True, slots=True)
class Job:
    """A request after every check, ready to run.

    Attributes:
        request: what was asked for.
        source: what is read.
        plan: what happens to every key.
        destination: where the output goes.
        format: how it is laid out.
        measure_before: whether the tensors that are filled are measured as they were.
        verify_crc: whether a CRC-32 that does not match stops the run.
        shard_nbytes: of the format "shards", the most bytes of tensors in a file.
        pictured: the filled keys of which histograms are counted.
        references: what the rules refer to beside the source.
    """

    request: Request
    source: Source
    plan: Plan
    destination: Destination
    format: Format
    measure_before: bool = False
    verify_crc: bool = True
    shard_nbytes: int = SHARD_NBYTES
    pictured: frozenset[str] = frozenset()
    references: References = field(default_factory=References)

    @property
    def nbytes(self) -> int:
        """The bytes of all tensors, about those of the output."""
        return sum(tensor.nbytes for tensor in self.source.tensors)
