"""Resize first dimensions: a head with other classes, a new vocabulary."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from math import prod

from reinit_cli.errors import RuleError
from reinit_cli.initializers import (
    Elsewhere,
    Init,
    Law,
    Site,
    Transform,
    UndefinedError,
    parse_init,
)
from reinit_cli.initializers.mean_rows import MeanRows
from reinit_cli.initializers.parameters import Nested
from reinit_cli.lazy import dataclass
from reinit_cli.planning.fit import unholdable
from reinit_cli.planning.followers import Followers, followers
from reinit_cli.planning.plan import INDEPENDENT, KEEP_ZEROS, KEEP_ZEROS_VERSION, Plan, Step
from reinit_cli.planning.stream_keys import key_of_stream
from reinit_cli.request.pattern import NO_KEY, KeyIndex
from reinit_cli.request.resize import Resize
from reinit_cli.streams.stream import DEFAULT_STREAM, stream_named
from reinit_cli.tensors.dtype import DTYPES
from reinit_cli.tensors.info import TensorInfo, tied_groups
from reinit_cli.tensors.layers.layer import Layers
from reinit_cli.text import plural, quoted

RESIZE = "resize"
"""The name under which records have the version of resizing."""

RESIZE_VERSION = 3
"""One more with each change: 2 resizes the biases of weights too, and in 3 the new rows of
`block` and `icnr` have the fans of the final shape."""


@dataclass(frozen=True, slots=True)
class Reshape:
    """A change of one tensor's shape.

    Attributes:
        was: its shape.
        init: the initializer of new rows, or None.
        resized_with: the key of the weight whose bias it is, and with which it is resized, or "".
    """

    was: tuple[int, ...]
    init: Init | None = None
    resized_with: str = ""


Reshapes = Mapping[str, Reshape]
"""The tensors whose shape changes, by key."""


@dataclass(frozen=True, slots=True)
class Reshaped:
    """Tensors of which some have another shape.

    Attributes:
        tensors: all of them.
        reshapes: those whose shape changes.
        notes: what a user should know of those whose shape stays.
    """

    tensors: tuple[TensorInfo, ...]
    reshapes: Reshapes
    notes: tuple[str, ...] = ()


def reshaped(
    source: str,
    tensors: Sequence[TensorInfo],
    resizes: Sequence[Resize],
    version: int = RESIZE_VERSION,
    layers: Layers | None = None,
) -> Reshaped:
    """Return tensors with the shapes that are asked for, and the shapes that they had.

    All keys of one tensor change together, and so does the bias of a weight.

    Args:
        source: the name of what they are from.
        tensors: all of them.
        resizes: the last that matches a key decides.
        version: that of resizing, which a record may name.
        layers: the layers of the tensors.

    Raises:
        RuleError: one matches no tensor that has rows, or two disagree on one tensor.
    """
    index = KeyIndex([tensor.key for tensor in tensors], layers)
    wanted: dict[str, Resize] = {}
    for resize in resizes:
        chosen = [tensors[at] for at in index.select(resize.pattern)]
        fitting = [each for each in chosen if each.shape and each.fillable_dtype]
        if not fitting:
            missed = NO_KEY if chosen else index.missed(resize.pattern)
            what = "tensor with a first dimension" if chosen else missed.what
            raise RuleError(
                resize.text,
                f"resize {quoted(resize.text)} matches no {what} of {source}{missed.instead}",
                () if chosen or missed.kinds else [tensor.key for tensor in tensors],
                kind="resize",
                word=resize.pattern.text,
                of=source,
            )
        wanted |= {tensor.key: resize for tensor in fitting}
    for group in dict.fromkeys(tied_groups(tuple(tensors)).values()):
        of_group = {wanted[key].rows: wanted[key] for key in group if key in wanted}
        if len(of_group) > 1:
            first, second = list(of_group.values())[:2]
            problem = (
                f"resize {quoted(first.text)} and {quoted(second.text)} say different things of "
                f"{group[0]!r}, which is tied"
            )
            raise RuleError(first.text, problem, kind="resize")
        wanted |= dict.fromkeys(group, *of_group.values()) if of_group else {}
    return _with_followers(tensors, wanted, version)


def _with_followers(
    tensors: Sequence[TensorInfo], wanted: Mapping[str, Resize], version: int
) -> Reshaped:
    """Return tensors with the rows that are wanted, and what is resized with them."""
    rows = {key: resize.rows for key, resize in wanted.items()}
    shapes = {
        tensor.key: (rows[tensor.key], *tensor.shape[1:])
        for tensor in tensors
        if tensor.key in rows
    }
    found = followers(tensors, rows) if version > 1 else Followers()
    inits = {key: resize.init for key, resize in wanted.items()}
    inits |= {bias: _init_of_bias(inits[key], found.shapes[bias]) for bias, key in found.of.items()}
    laid, reshapes = to_shapes(tensors, {**found.shapes, **shapes}, inits)
    named = {
        key: replace(each, resized_with=found.of.get(key, "")) for key, each in reshapes.items()
    }
    return Reshaped(laid, named, found.notes)


def _init_of_bias(init: Init | None, shape: Sequence[int]) -> Init:
    """Return what fills the new elements of a bias: their mean where rows get theirs, else zeros."""
    is_mean = init is not None and init.initializer.stream and len(shape) == 1
    return init if init is not None and is_mean else parse_init("zeros")


def to_shapes(
    tensors: Sequence[TensorInfo],
    shapes: Mapping[str, tuple[int, ...]],
    inits: Mapping[str, Init | None],
) -> tuple[tuple[TensorInfo, ...], Reshapes]:
    """Return tensors with other shapes, and the shapes that those which change had.

    Args:
        tensors: all of them.
        shapes: for some keys what they become.
        inits: for some of these what fills new rows.
    """
    ties = tied_groups(tuple(tensors))
    changed: dict[str, Reshape] = {}
    laid = []
    for tensor in tensors:
        shape = shapes.get(tensor.key, tensor.shape)
        if shape == tensor.shape:
            laid.append(tensor)
            continue
        changed[tensor.key] = Reshape(tensor.shape, inits.get(tensor.key))
        # In a storage of its own, which only its ties share.
        place = ("resized", ties[tensor.key][0]) if tensor.key in ties else None
        laid.append(tensor.with_shape(shape, place))
    return tuple(laid), changed


def with_rows(plan: Plan, reshapes: Reshapes, elsewhere: Elsewhere) -> Plan:
    """Return a plan in which tensors that no rule fills keep what fits of them.

    Args:
        plan: the plan for the new shapes.
        reshapes: the tensors whose shape changes.
        elsewhere: what initializers of new rows refer to.

    Raises:
        RuleError: nothing says what fills new rows, or the existing values would be transformed.
    """
    if not reshapes:
        return plan
    steps = tuple(
        _with_rows(step, reshapes[step.key], plan, elsewhere) if step.key in reshapes else step
        for step in plan.steps
    )
    return replace(plan, steps=steps)


def _with_rows(step: Step, reshape: Reshape, plan: Plan, elsewhere: Elsewhere) -> Step:
    for draw in step.draws:
        if isinstance(draw.law, Transform) or draw.keeps_zeros:
            problem = f"{step.key!r} cannot be resized and transformed at once"
            raise RuleError(step.key, problem, kind="resize")
    if step.action == "fill":
        if any(each.action == "keep" for each in step.patches):
            problem = f"{step.key!r} cannot be resized, filled and kept in part at once"
            raise RuleError(step.key, problem, kind="resize")
        return replace(step, was=reshape.was, resized_with=reshape.resized_with)
    tensor = step.tensor
    first = min((step.key, *step.tied))
    resized = replace(
        step,
        action="resize",
        was=reshape.was,
        reason="",
        seed_key=first,
        resized_with=reshape.resized_with,
    )
    axis = resized.axis
    kept = min(reshape.was[axis], tensor.shape[axis])
    resized = replace(resized, kept_rows=kept)
    if kept == tensor.shape[axis]:
        return resized
    init = reshape.init
    if init is None and any(_covers_new(patch, resized) for patch in step.patches):
        init = parse_init("zeros")  # of which nothing is left
    if init is None:
        problem = f"no initializer for the new rows of {step.key!r}"
        raise RuleError(step.key, problem, kind="resize")
    try:
        law = law_of_rows(init, tensor, kept, elsewhere, saturates=plan.request.saturate)
    except UndefinedError as error:
        problem = f"{init} cannot fill the new rows of {step.key!r}: {error}"
        kind, name = _kind_of_refusal(init, tensor, kept, elsewhere), init.initializer.name
        raise RuleError(step.key, problem, kind=kind, of=name) from None
    stream = stream_named(plan.request.stream)
    key = key_of_stream(init, tensor, (step.key, *step.tied), elsewhere)
    seed = stream.seed_for(plan.request.seed, key, init.stream)
    stream_key = key if key != first else ""
    return replace(
        resized, law=law, stream_key=stream_key, seed=seed, stream=stream.name, init=init
    )


def _kind_of_refusal(init: Init, tensor: TensorInfo, kept: int, elsewhere: Elsewhere) -> str:
    """Return the kind of the error that an initializer cannot fill new rows."""
    try:
        law_of_rows(init, tensor, kept, elsewhere, saturates=True)
    except UndefinedError:
        return "rows"
    return "large rows"


def _covers_new(patch: Step, resized: Step) -> bool:
    """Whether a rule on a part of a tensor fills all of its new rows."""
    if patch.action != "fill" or patch.mask_key:
        return False
    shape, axis = resized.tensor.shape, resized.axis
    wanted = [range(dim) for dim in shape]
    wanted[axis] = range(resized.kept_rows, shape[axis])
    return all(
        each[0] <= rows[0] and each[-1] == rows[-1] and each.step == 1
        for each, rows in zip(patch.ranges, wanted, strict=True)
    )


def law_of_rows(
    init: Init, tensor: TensorInfo, kept: int, elsewhere: Elsewhere, *, saturates: bool = False
) -> Law:
    """Return the law of the new rows.

    The fans are those of the whole, but a law of whole matrices is made for the new rows alone.
    """
    site = Site(tensor.key, tensor.dtype, elsewhere, kept)
    law = init.law(tensor.shape, site)
    if law is not None and not isinstance(law, INDEPENDENT):
        shape = (tensor.shape[0] - kept, *tensor.shape[1:])
        is_known = elsewhere.version_of(RESIZE, RESIZE_VERSION) > 2
        found = law.of_rows(shape) if is_known else None
        law = init.law(shape, site) if found is None else found
    if isinstance(law, MeanRows) and init.keep_zeros:
        zeros = elsewhere.version_of(KEEP_ZEROS, KEEP_ZEROS_VERSION)
        law = replace(law, skips_zeros=zeros > 1)
    if law is None or (isinstance(law, Transform) and not law.gathers):
        raise UndefinedError("there is nothing in them yet")
    if problem := unholdable(law, DTYPES[tensor.dtype], saturates=saturates):
        raise UndefinedError(problem)
    return law


def is_of_version(step: Step) -> bool:
    """Whether what a step gives depends on the version of resizing."""
    if step.action != "resize" or step.law is None or step.init is None:
        return bool(step.resized_with)
    is_nested = any(isinstance(each.kind, Nested) for each in step.init.initializer.parameters)
    is_plain = isinstance(step.law, (*INDEPENDENT, Transform))
    return bool(step.resized_with) or is_nested or not is_plain


def repeated_rows(plan: Plan) -> Iterator[str]:
    """Warn of new rows whose random numbers are those that other rows of the key had."""
    stream = stream_named(plan.request.stream)
    resized = (step for step in plan.steps if step.action == "resize" and step.law is not None)
    random = [step.key for step in resized if step.law is not None and step.law.is_random]
    if not random or stream.is_indexed:
        return
    more = f" and of {plural(len(random) - 1, 'other tensor')}" if random[1:] else ""
    yield (
        f"the new rows of {random[0]!r}{more} are drawn from the first random numbers of their "
        f"key: in {stream.name}, rows that are added later with the same seed repeat them, and they "
        f"repeat a draw of the whole tensor; {DEFAULT_STREAM} or another seed avoids that"
    )


def rows_alone(step: Step) -> Step:
    """Return the step that fills the new rows of a tensor, as a tensor of their own.

    Rules on parts are for the whole tensor, and so not in it.
    """
    # Dimensions before the resized one have one row, so that new rows follow the old ones.
    first = step.kept_rows * prod(step.tensor.shape[step.axis + 1 :])
    new = step.tensor.with_shape(step.shape_of_new_rows)
    return replace(step, tensor=new, first_element=first, patches=())
