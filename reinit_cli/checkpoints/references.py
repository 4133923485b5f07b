"""Find what rules refer to besides the tensors that they fill: checkpoints, architectures."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import field
from types import MappingProxyType

from reinit_cli.checkpoints.array import array_source
from reinit_cli.checkpoints.fetching import fetch, files_of
from reinit_cli.checkpoints.find import find_source
from reinit_cli.checkpoints.source import Contents, Source
from reinit_cli.initializers import Architecture, Elsewhere, Init, Law, Transform
from reinit_cli.initializers.prefixes import Prefix, fitting_prefixes
from reinit_cli.initializers.site import Arch
from reinit_cli.lazy import dataclass
from reinit_cli.storage.segments import View
from reinit_cli.tensors.info import TensorInfo


@dataclass(frozen=True, slots=True)
class References:
    """What the rules of a job refer to.

    Attributes:
        donors: other checkpoints, by the names that rules have for them.
        architecture: the model that the tensors are of, where it is known.
        prefixes: for each donor, those that make the keys of the tensors keys of it.
        origin: what a record says of where the architecture's constructor is from.
    """

    donors: Mapping[str, Source] = field(default_factory=dict)
    architecture: Architecture | None = None
    prefixes: Mapping[str, tuple[Prefix, ...]] = field(default_factory=dict)
    origin: Mapping[str, str] = field(default_factory=dict)

    @property
    def reads(self) -> tuple[str, ...]:
        """The path of every file that is read."""
        return tuple(path for source in self.donors.values() for path in source.reads)

    @property
    def elsewhere(self) -> Elsewhere:
        """What planning needs to know of them."""
        donors = {
            name: {tensor.key: tensor for tensor in source.tensors}
            for name, source in self.donors.items()
        }
        return Elsewhere(self.architecture, donors, self.prefixes)

    @contextmanager
    def opened(
        self,
        laws: Iterable[Law | None],
        seed: int,
        masks: Iterable[str] = (),
        keys: Mapping[str, Collection[str]] = MappingProxyType({}),
    ) -> Iterator[OpenDonors]:
        """Open the checkpoints that some laws take tensors from.

        Args:
            laws: what fills tensors.
            seed: the seed of a model that is built.
            masks: the checkpoints of masks that are read.
            keys: the tensors that are taken from each of the others; all where it is left out.
        """
        used = {law.donor for law in laws if isinstance(law, Transform) and law.donor is not None}
        used |= set(masks)
        for name in sorted(used):
            donor = self.donors[name]
            fetch(donor, files_of(donor, keys[name]) if name in keys else None)
        with ExitStack() as stack:
            contents = {
                name: stack.enter_context(self.donors[name].open(seed)) for name in sorted(used)
            }
            yield OpenDonors(contents, self.elsewhere.donors if used else {})


@dataclass(frozen=True, slots=True)
class OpenDonors:
    """Other checkpoints that are open.

    Attributes:
        contents: their bytes.
        tensors: what each has, by key.
    """

    contents: Mapping[str, Contents]
    tensors: Mapping[str, Mapping[str, TensorInfo]]

    def view(self, donor: str, key: str) -> View:
        """Return a tensor of one of them as it lies in bytes."""
        return self.contents[donor].view(self.tensors[donor][key])

    def check_unchanged(self, written: Collection[str] | None = None) -> None:
        """Compare them with what was located; see `Contents`.

        Raises:
            SourceChangedError: one differs.
        """
        for each in self.contents.values():
            each.check_unchanged(written)


def find_references(
    inits: Iterable[Init],
    tensors: Sequence[TensorInfo],
    arch: Arch | None,
    otherwise: Architecture | None = None,
    origins: Mapping[str, str] = MappingProxyType({}),
    masks: Iterable[str] = (),
) -> References:
    """Find what initializers refer to.

    Args:
        inits: those that fill tensors.
        tensors: the tensors of the source.
        arch: the architecture that a user names, or None.
        otherwise: the architecture where none is named.
        origins: for tensors that were renamed, the key before.
        masks: the checkpoints that say which parts of tensors are filled.

    Raises:
        SourceError: a checkpoint or an architecture is not there, or cannot be read.
    """
    inits = tuple(inits)
    of_inits = (name for init in inits for name in init.checkpoints)
    names = dict.fromkeys((*of_inits, *masks))
    arrays = {name for init in inits for name in init.arrays}
    architecture = otherwise
    if arch is not None:
        from reinit_cli.checkpoints.models.architecture import architecture_of

        architecture = architecture_of(arch, tensors, origins)
    donors: dict[str, Source] = {
        name: array_source(name) if name in arrays else find_source(name) for name in names
    }
    mine = {tensor.key: tensor.shape for tensor in tensors}
    prefixes = {
        name: fitting_prefixes(mine, {tensor.key: tensor.shape for tensor in donor.tensors})
        for name, donor in donors.items()
    }
    return References(donors, architecture, prefixes, getattr(arch, "origin", {}))
