"""All that a user asks for, on one source → a plan, and what it refers to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from reinit_cli.architectures import Arch, endings, heads
from reinit_cli.companions import untied, with_buffers, with_optimizers
from reinit_cli.dtypes import FLOATS, Dtype
from reinit_cli.errors import ClassesError, UnknownDtypeError
from reinit_cli.jobs import Request
from reinit_cli.patterns import Pattern
from reinit_cli.planning import Options, Plan, make_plan
from reinit_cli.references import References, find_references
from reinit_cli.resizing import reshaped, resizes_of, to_shapes, with_rows
from reinit_cli.rules import Rule
from reinit_cli.sources import Source
from reinit_cli.tensors import TensorInfo


@dataclass(frozen=True, slots=True)
class Decided:
    """A plan, and what it refers to.

    Attributes:
        plan: what happens to every key.
        references: what the rules refer to beside the source.
    """

    plan: Plan
    references: References


def decide(
    source: Source,
    tensors: tuple[TensorInfo, ...],
    rules: tuple[Rule, ...],
    options: Options,
    request: Request,
) -> Decided:
    """Decide what happens to every key of a source.

    Args:
        source: what is read.
        tensors: its entries, with the dtypes that they are to have.
        rules: in the order of precedence, the last first to own.
        options: see `Options`.
        request: what else is asked for.

    Raises:
        RuleError: a rule, a resize or the optimizer's reset cannot be obeyed.
    """
    located = source.located
    asked = len(rules)
    tensors = untied(tensors) if options.untie else tensors
    tensors, reshapes = reshaped(source.name, tensors, resizes_of(request.resize))
    if request.num_classes is not None:
        heads = heads_of(source, request.arch, request.num_classes)
        tensors, of_heads = to_shapes(tensors, heads, {})
        reshapes = {**reshapes, **of_heads}
        rules = (*(Rule.of(Pattern.escape(key), "default") for key in heads), *rules)
    arch = request.arch or source.architecture
    references = find_references(rules, tensors, arch, (each.init for each in reshapes.values()))
    elsewhere = references.elsewhere
    outside = located.outside if located else ()
    plan = make_plan(source.name, tensors, rules, options, outside, elsewhere)
    plan = with_rows(plan, reshapes, elsewhere)
    plan = with_buffers(plan) if options.with_buffers else plan
    if options.reset_optimizer:
        plan = with_optimizers(plan, located.optimizers if located else ())
    return Decided(replace(plan, implied=len(rules) - asked), references)


def heads_of(source: Source, arch: Arch | None, num_classes: int) -> Mapping[str, tuple[int, ...]]:
    """Return the shapes of the tensors of a model that depend on how many classes it has.

    Args:
        source: the model, or a checkpoint of it.
        arch: the name of the model, where the source is a checkpoint.
        num_classes: how many it is to have.

    Raises:
        ClassesError: the source is no model of classes.
    """
    name = source.architecture or arch
    if not isinstance(name, str):
        problem = "is a checkpoint: name its model with --arch, or --resize its head"
        raise ClassesError(source.name, problem)
    made = heads(name, num_classes)
    found = {
        tensor.key: shape
        for tensor in source.tensors
        if (shape := next(filter(None, map(made.get, endings(tensor.key))), None))
    }
    if not found:
        raise ClassesError(source.name, f"has no head of {name}")
    return found


def cast(
    tensors: tuple[TensorInfo, ...], dtype: Dtype | None, name: str | None
) -> tuple[TensorInfo, ...]:
    """Return tensors with the dtype that they are to have; only floats change.

    Raises:
        UnknownDtypeError: the dtype is none of floats.
    """
    if dtype is None:
        return tensors
    if dtype.kind != "float":
        raise UnknownDtypeError(str(name), [known.name for known in FLOATS])
    return tuple(
        replace(tensor, dtype=dtype.name, nbytes=tensor.numel * dtype.nbits // 8)
        if tensor.fillable_dtype in FLOATS
        else tensor
        for tensor in tensors
    )
