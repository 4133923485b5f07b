"""Read what a provenance record says was drawn, so that it can be drawn again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from reinit_cli.checkpoints.formats.base import Place
from reinit_cli.checkpoints.models.named import arch_given
from reinit_cli.checkpoints.source import Source
from reinit_cli.errors import RecordError, ReinitError, RuleError
from reinit_cli.initializers import (
    Architecture,
    Elsewhere,
    Init,
    Law,
    Site,
    UndefinedError,
    parse_init,
)
from reinit_cli.initializers.arch import Arguments, names_code
from reinit_cli.initializers.declaration import KEEP
from reinit_cli.initializers.site import Arch
from reinit_cli.lazy import dataclass
from reinit_cli.planning.fit import unholdable
from reinit_cli.planning.layers import with_layers
from reinit_cli.planning.parts import part_step
from reinit_cli.planning.plan import Overflow, Step
from reinit_cli.planning.reshape import law_of_rows, rows_alone
from reinit_cli.planning.weight_norm import is_norm, norm_law
from reinit_cli.provenance.record import Form, stream_in, versions_in
from reinit_cli.request.part import part_of
from reinit_cli.tensors.info import TensorInfo
from reinit_cli.tensors.layers.layer import Layer


@dataclass(frozen=True, slots=True)
class RecordedFill:
    """What a record says about one tensor.

    Attributes:
        step: what was done, where it can be done again; else what is known of the tensor.
        digest: the SHA-256 of its bytes.
        places: where it lies.
        undrawn: why it cannot be drawn again from the record alone, or "".
    """

    step: Step
    digest: str
    places: tuple[Place, ...]
    undrawn: str


@dataclass(frozen=True, slots=True)
class _Keys:
    """The keys that a draw depends on.

    Attributes:
        law: the one that its law is of.
        stream: the one whose stream it is drawn from.
    """

    law: str
    stream: str


@dataclass(frozen=True, slots=True)
class Given:
    """An architecture as the user names it, who may name code.

    Attributes:
        arch: its name or constructor, or None.
        arguments: those of its constructor, or None for those that a record names.
    """

    arch: Arch | None = None
    arguments: Arguments | None = None


NOT_GIVEN = Given()


class RecordReader:
    """Reads what a record says about the tensors of an output."""

    def __init__(
        self,
        source: Source,
        form: Form,
        given: Given = NOT_GIVEN,
        model_type: Callable[[], str] = str,
    ) -> None:
        """Read a record; `other_constructor` says how the one that is given differs from its own.

        Args:
            source: the output.
            form: its record.
            given: the architecture as the user names it.
            model_type: returns what the config of the output calls its model, or "".
        """
        self._tensors = {tensor.key: tensor for tensor in source.tensors}
        self._places = source.located.places if source.located else {}
        self._form = form
        self._stream = stream_in(form)
        self._saturates = form.get("saturate") is True
        # Records were made before it was an error that a draw has too large numbers.
        self._overflow: Overflow = "largest" if self._saturates else "rounded"
        arch = _arch_of(source, form, given)
        self.other_constructor = other_constructor(form, arch)
        architecture = _architecture(arch, source, form)
        elsewhere = Elsewhere(architecture, versions=versions_in(form), seed=_seed_in(form))
        self._elsewhere = with_layers(elsewhere, source.tensors, model_type)

    def filled(self, tensor: TensorInfo, row: Form) -> RecordedFill:
        """Return what a row says.

        Raises:
            RecordError: it is not a valid row.
        """
        try:
            init = parse_init(row["init"])
            kept = int(row.get("from_row", 0))
            axis = Step(tensor, "resize").axis
            if not 0 <= kept <= (tensor.shape or (0,))[axis]:
                raise ValueError(f"there is no row {kept}")
            of_stream = str(row.get("seed_key", tensor.key))
            key = str(row.get("law_key", of_stream))
            seed = self._seed(of_stream, init)
        except (ReinitError, ValueError, TypeError, OverflowError) as error:
            raise RecordError(tensor.key, f"its record says no initializer: {error}") from error
        if "parts" in row:
            keys = _Keys(key, of_stream)
            step, undrawn = self._in_parts(tensor, row, None if kept else init, keys)
            undrawn = self._lacks_arch(row) or undrawn
            return RecordedFill(step, str(row["sha256"]), self._places[tensor.key], undrawn)
        of = self._drawn_with(tensor, row)
        law, undrawn = self._law(init, replace(of, key=key), kept)
        if law is not None and of is not tensor:
            law = norm_law(law, of, tensor)
        step = Step(
            tensor,
            "fill",
            law=law,
            seed_key=key,
            seed=seed,
            stream=self._stream.name,
            init=init,
            overflow=self._overflow,
            kept_rows=kept,
        )
        places = self._places[tensor.key]
        if kept:
            places = tuple(_without_rows(place, tensor, axis, kept) for place in places)
            step = rows_alone(step)
        return RecordedFill(step, str(row["sha256"]), places, self._lacks_arch(row) or undrawn)

    def _lacks_arch(self, row: Form) -> str:
        """Say that the code of a layer draws a tensor, and that it is not named, or ""."""
        if row.get("needs_arch") is not True or self._elsewhere.architecture is not None:
            return ""
        return "its layer's own code says how it starts, which --arch would name"

    def _in_parts(
        self, tensor: TensorInfo, row: Form, init: Init | None, keys: _Keys
    ) -> tuple[Step, str]:
        """Return what rules did with parts of a tensor, or why none is drawn again.

        What is not known here is taken as it is.

        Args:
            tensor: the tensor.
            row: what the record says of it.
            init: what filled the rest; None where some of that is not drawn again.
            keys: those of the rest.

        Raises:
            RecordError: a part is not a valid one.
        """
        keep = parse_init(KEEP)
        try:
            parts = [(part_of(each["part"]), parse_init(each["init"])) for each in row["parts"]]
            of_parts = [
                _Keys(str(each.get("law_key", keys.law)), str(each.get("seed_key", keys.law)))
                for each in row["parts"]
            ]
            patches = tuple(
                part_step(self._drawn(tensor, of_part, own), part, "")
                for (part, of_part), own in zip(parts, of_parts, strict=True)
            )
            if not all(part.mask or part.ranges(tensor.shape) for part, _ in parts):
                raise ValueError("a part has no elements")
        except (ReinitError, ValueError, TypeError, KeyError) as error:
            raise RecordError(tensor.key, f"its record says no part: {error}") from error
        step = replace(self._drawn(tensor, init or keep, keys), patches=patches)
        if any(part.mask for part, _ in parts):
            return step, "it depends on a mask"
        return step, "" if step.draws else f"{parts[-1][1]} depends on what was there"

    def _drawn(self, tensor: TensorInfo, init: Init, keys: _Keys) -> Step:
        """Return a step that draws a tensor, or one that keeps it if its law is not known here."""
        key = keys.law
        law, undrawn = (None, "") if init.keeps else self._law(init, replace(tensor, key=key), 0)
        if law is None or undrawn:
            return Step(tensor, "keep", seed_key=key, stream=self._stream.name)
        seed = self._seed(keys.stream, init)
        stream = self._stream.name
        return Step(
            tensor,
            "fill",
            law=law,
            seed_key=key,
            seed=seed,
            stream=stream,
            init=init,
            overflow=self._overflow,
        )

    def _seed(self, key: str, init: Init) -> int:
        return self._stream.seed_for(int(self._form["seed"]), key, init.stream)

    def _drawn_with(self, tensor: TensorInfo, row: Form) -> TensorInfo:
        """Return the tensor whose draw a tensor depends on: itself, or what it holds norms of.

        Raises:
            RecordError: there is no such tensor.
        """
        if "norm_of" not in row:
            return tensor
        of = self._tensors.get(str(row["norm_of"]))
        if of is None or not is_norm(tensor, of):
            raise RecordError(tensor.key, "its record says of what it holds norms, wrongly")
        return of

    def _law(self, init: Init, tensor: TensorInfo, kept: int) -> tuple[Law | None, str]:
        """Return the law that a tensor was drawn by, or why that is not known here."""
        if init.initializer.stream or init.keep_zeros:
            return None, f"{init} depends on what was there"
        try:
            site = Site(tensor.key, tensor.dtype, self._elsewhere)
            law = (
                law_of_rows(init, tensor, kept, self._elsewhere, saturates=self._saturates)
                if kept
                else init.law(tensor.shape, site)
            )
        except (UndefinedError, RuleError) as error:
            return None, str(error)
        dtype = tensor.fillable_dtype
        if law is None or dtype is None:
            return None, f"{init} draws nothing"
        return law, unholdable(law, dtype, saturates=self._saturates)


def _without_rows(place: Place, tensor: TensorInfo, axis: int, count: int) -> Place:
    """Return a place of a whole tensor without the first rows of a dimension.

    Raises:
        RecordError: only some of its elements are there.
    """
    if place.box is not None:
        raise RecordError(tensor.key, "its record has new rows of a tensor in several places")
    nbytes = place.nbytes // max(1, tensor.shape[axis]) * count
    return place._replace(offset=place.offset + nbytes, nbytes=place.nbytes - nbytes)


@dataclass(frozen=True, slots=True)
class _NotRun:
    """An architecture that a record names and whose code is not run.

    Attributes:
        arch: its name.
    """

    arch: str

    def law(self, key: str, shape: tuple[int, ...], seed: int | None = None) -> Law:
        """Say how to let it be run.

        Raises:
            UndefinedError: always.
        """
        del key, shape, seed
        raise UndefinedError(f"their constructor is run only with --arch {self.arch}")

    def start(self, key: str, shape: tuple[int, ...]) -> Law | None:
        """Say how to let it be run, as `law` does."""
        return self.law(key, shape)

    def layer(self, key: str) -> Layer | None:
        """Return None: it tells nothing."""
        del key
        return None

    def first_equal(self, key: str) -> str:
        """Return the key itself: it tells nothing."""
        return key


def _seed_in(form: Form) -> int:
    """Return the seed of a record, or 0 where it has none, which its rows are refused for."""
    try:
        return int(form["seed"])
    except (KeyError, TypeError, ValueError, OverflowError):
        return 0


def _arch_of(source: Source, form: Form, given: Given) -> Arch | _NotRun | None:
    """Return what is named here or in a record, the code of which only the user may name."""
    named = architecture_of_record(form)
    if given.arch is None and names_code(named):
        return _NotRun(str(named))
    if given.arch is None and not named:
        return None
    return arch_given(given.arch or named, arguments_of_record(form, given), source)


def _architecture(arch: Arch | _NotRun | None, source: Source, form: Form) -> Architecture | None:
    if arch is None or isinstance(arch, _NotRun):
        return arch
    from reinit_cli.checkpoints.models.architecture import architecture_of

    origins = {
        str(row["key"]): str(row["source_key"]) for row in form["filled"] if "source_key" in row
    }
    return architecture_of(arch, source.tensors, origins)


def other_constructor(form: Form, arch: object) -> str:
    """Say how a constructor differs from the one that a record names, or "" where it does not.

    Args:
        form: the record.
        arch: what is called here.
    """
    recorded, here = form.get("constructor"), getattr(arch, "origin", {})
    if not isinstance(recorded, dict) or not here or here == recorded:
        return ""
    digest = recorded.get("sha256")
    if digest is not None and digest == here.get("sha256"):
        return ""  # the same file by another name
    one, other = _said_of(recorded), _said_of(here)
    if one != other:
        return f"it is from {other}, and the record names {one}"
    return f"{one} is not the file that was recorded: its SHA-256 differs"


def _said_of(origin: Mapping[str, object]) -> str:
    """Return what a constructor is from, for people."""
    if "sha256" in origin:
        return str(origin.get("file"))
    of = f"{origin['class']} of " if "class" in origin else ""
    return f"{of}{origin.get('package')} {origin.get('version')}"


def arguments_of_record(form: Form, given: Given) -> Arguments:
    """Return the arguments of the constructor that `default` followed, if it is the recorded one."""
    if given.arguments is not None:
        return given.arguments
    arguments: Arguments = form.get("arch_args") or {}
    return arguments


def architecture_of_record(form: Form) -> str | None:
    """Return the model whose constructor `default` followed, as far as a record names it."""
    named = form.get("arch")
    if named is None and form["source"].get("weights") is not None:
        named = form["source"]["name"]
    return str(named) if named is not None else None
