"""A model of timm as a source reads it: built by timm, its weights read by this package."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Self

from reinit_cli.checkpoints.models.borrowing import own_random_state, replaced
from reinit_cli.checkpoints.models.loading import complete_loads, state_in
from reinit_cli.checkpoints.models.model import DEFAULT_WEIGHTS, NO_WEIGHTS, TIMM, Download
from reinit_cli.checkpoints.models.own_code import searching_packages_alone
from reinit_cli.checkpoints.models.published import PublishedWeights
from reinit_cli.checkpoints.models.recording.recorder import recording
from reinit_cli.checkpoints.models.strangers import explained
from reinit_cli.checkpoints.models.timm import timm_model
from reinit_cli.checkpoints.models.timm_cache import Weights, tags_of
from reinit_cli.errors import SourceError, UnknownNameError
from reinit_cli.initializers import Architecture, UndefinedError
from reinit_cli.initializers.arch import ArchName
from reinit_cli.lazy import dataclass
from reinit_cli.streams.stream import seed_for
from reinit_cli.tensors.info import TensorInfo
from reinit_cli.text import plural

if TYPE_CHECKING:
    from torch.nn import Module


@dataclass(frozen=True, slots=True)
class TimmSource:
    """A model of timm; see `NamedModel`.

    Attributes:
        label: as the user names it, such as "timm:resnet50".
        name: the name of the model alone.
        tag: the tag whose configuration it is built with, or "" for the default one.
        is_pretrained: whether it has the weights of that tag.
    """

    label: str
    name: str
    tag: str
    is_pretrained: bool
    library = "timm"

    @classmethod
    def find(cls, label: str, weights: str) -> Self:
        """Return a model by the names a user gave.

        Args:
            label: "timm:", a name and perhaps a tag after a dot.
            weights: "DEFAULT", a tag, or "none".

        Raises:
            PackageError: timm is not installed.
            UnknownNameError: there is no such model, or it has no such weights.
            SourceError: the tag of the name is not that of the weights.
        """
        name, _, tag = label.removeprefix(TIMM).partition(".")
        tags = tags_of(name, label)
        if tag and tag not in tags:
            raise _no_such_tag(tag, name, tags)
        if weights.lower() == NO_WEIGHTS:
            return cls(label, name, tag, is_pretrained=False)
        pretrained = [each for each, has_weights in tags.items() if has_weights]
        wanted = weights.removeprefix(f"{name}.")
        if weights == DEFAULT_WEIGHTS:
            wanted = tag or next(iter(pretrained), "")
        if wanted not in pretrained:
            raise _no_such_weights(wanted or weights, name, pretrained)
        if tag and wanted != tag:
            problem = f"{label!r} names its weights, and other weights are asked for: {wanted!r}"
            raise SourceError(label, problem)
        return cls(label, name, wanted, is_pretrained=True)

    @property
    def stem(self) -> str:
        """What files of it are called."""
        return self.label.removeprefix(TIMM)

    @property
    def arch(self) -> str:
        """The name of its architecture, with the tag that says how many classes it has."""
        return f"{TIMM}{self._timm_name}"

    @property
    def _timm_name(self) -> str:
        return f"{self.name}.{self.tag}" if self.tag else self.name

    @property
    def weights_name(self) -> str:
        """The tag of its weights."""
        return self.tag if self.is_pretrained else NO_WEIGHTS

    @property
    def _weights(self) -> Weights:
        return Weights.of(self._timm_name, self.label)

    @property
    def reads(self) -> tuple[str, ...]:
        """The file in the cache that holds its weights, where it is there."""
        path = self._weights.cached if self.is_pretrained else None
        return (path,) if path is not None else ()

    @property
    def download(self) -> Download | None:
        """What is downloaded before it can be loaded; None where nothing is."""
        if not self.is_pretrained or self._weights.cached is not None:
            return None
        return Download(self.label, self.tag, self._weights.place, None)

    def inspected(self) -> tuple[TensorInfo, ...]:
        """Return the entries of its state dict, without its weights and offline."""
        from reinit_cli.tensors.live import infos_of_module

        return infos_of_module(self._recorded())

    def emptied(self) -> Mapping[str, Any]:
        """Return its state dict without values."""
        state: Mapping[str, Any] = self._recorded().state_dict()
        return state

    def _recorded(self) -> Module:
        # Its draws are noted and not made: memory that is never touched is never there.
        with self._of_timm(0), recording():
            return self._made(pretrained=False)

    def loaded(self, seed: int) -> Mapping[str, Any]:
        """Return its state dict, with its weights downloaded if need be.

        timm's own code puts the weights into the model, and so renames and reshapes them as it
        does for its users.
        """
        if not self.is_pretrained:
            with self._of_timm(seed_for(seed, self.label)):
                return self._made(pretrained=False).state_dict()
        path = self._weights.fetched()
        values = state_in(path, self.label)
        with (
            self._of_timm(seed_for(seed, self.label)),
            complete_loads(path, self.label, self._starts_constant),
            _given_to_timm(values),
        ):
            return self._made(pretrained=True).state_dict()

    def _starts_constant(self, key: str, shape: tuple[int, ...]) -> bool:
        try:
            return self.laws().law(key, shape).std == 0
        except UndefinedError:
            return False

    def _made(self, *, pretrained: bool) -> Module:
        import timm
        import torch

        with torch.no_grad():
            made: Module = timm.create_model(self._timm_name, pretrained=pretrained)
        return made

    @contextmanager
    def _of_timm(self, seed: int) -> Iterator[None]:
        with explained(self.label), searching_packages_alone(), own_random_state(seed):
            yield

    def changes(self, tensors: Iterable[TensorInfo]) -> Iterator[str]:
        """Say how timm changes the weights as it loads them, where they are here already."""
        path = self._weights.cached if self.is_pretrained else None
        if path is None:
            return
        from reinit_cli.checkpoints.file import file_source

        found = {each.key: each for each in file_source(path, self.label, None).tensors}
        other = [each.key for each in tensors if not _is_same(each, found.get(each.key))]
        if other:
            more = f" and {plural(len(other) - 1, 'more tensor')}" if other[1:] else ""
            yield (
                f"{other[0]!r}{more} of {self.label} have another name, shape or dtype in {path!r}: "
                "timm converts them as it loads them"
            )

    def published(self) -> tuple[PublishedWeights, ...]:
        """Return the weights that timm offers, the default first."""
        tags = tags_of(self.name, self.label)
        return tuple(PublishedWeights(tag) for tag, has_weights in tags.items() if has_weights)

    def laws(self) -> Architecture:
        """Return what its constructor fills it with."""
        return timm_model(ArchName.parse(self.arch), {}).architecture(self.inspected())


@contextmanager
def _given_to_timm(state: Mapping[str, Any]) -> Iterator[None]:
    """Let timm load a state dict that is in memory, where it would read a file."""
    from timm.models import _builder

    with replaced(_builder, "_resolve_pretrained_source", lambda _: ("state_dict", state)):
        yield


def _is_same(tensor: TensorInfo, found: TensorInfo | None) -> bool:
    same = (tensor.shape, tensor.dtype)
    return found is not None and (found.shape, found.dtype) == same


def _no_such_weights(weights: str, name: str, tags: Iterable[str]) -> UnknownNameError:
    known = (*tags, NO_WEIGHTS)
    return UnknownNameError(weights, _said(tags), known, kind="weights", of=f"{TIMM}{name}")


def _no_such_tag(tag: str, name: str, tags: Iterable[str]) -> UnknownNameError:
    return UnknownNameError(tag, _said(tags), tuple(tags), kind="tag", of=f"{TIMM}{name}")


def _said(tags: Iterable[str]) -> str:
    return f"it has {', '.join(tags) or 'none'}"
