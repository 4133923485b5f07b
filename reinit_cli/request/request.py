"""Hold what a user asks for."""

from __future__ import annotations

from dataclasses import dataclass

from reinit_cli.initializers.site import Arch
from reinit_cli.request.output_name import OutputName
from reinit_cli.request.resize import Resize
from reinit_cli.request.rule import Rule


@dataclass(frozen=True, slots=True)
class Request:
    """What a user asks for.

    Attributes:
        source: a model's name or a path.
        rules: in the order of precedence, the last first to own.
        output: a path, the form of one, "-" for standard output, or None for the default name.
        weights: for a model: "DEFAULT", the name of its weights, "none" or a file.
        seed: the seed of the whole run.
        device: where values are drawn.
        strict: whether every skip is an error.
        allow_unmatched: whether a rule that matches or fills nothing is only a warning.
        check: whether each draw is tested against its law.
        with_buffers: whether running statistics are reset with the weights beside them.
        untie: whether tied keys become tensors of their own.
        reset_optimizer: whether the optimizer's slots of what is filled are zeroed.
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
    seed: int = 0
    device: str = "cpu"
    strict: bool = False
    allow_unmatched: bool = False
    check: bool = False
    with_buffers: bool = False
    untie: bool = False
    reset_optimizer: bool = False
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
        return bool(self.resize) or self.num_classes is not None or self.untie
