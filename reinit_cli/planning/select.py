"""Leave tensors out, and give others new names, before anything else is decided."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from reinit_cli.errors import RuleError
from reinit_cli.lazy import dataclass
from reinit_cli.request.pattern import NO_KEY, KeyIndex, Missed, Pattern, patterns_of
from reinit_cli.request.regex import Clock
from reinit_cli.request.rename import renames_of
from reinit_cli.request.request import Request
from reinit_cli.tensors.layers.layer import Layers
from reinit_cli.text import plural, quoted


@dataclass(frozen=True, slots=True)
class Selection:
    """The keys of a source that an output has, and their names there.

    Attributes:
        names: the new name of each key that is taken, in the order of the source.
        dropped: the keys that are left out.
        warnings: what matched nothing where that is allowed.
    """

    names: Mapping[str, str]
    dropped: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def origins(self) -> Mapping[str, str]:
        """The key in the source of each name that is new."""
        return {name: key for key, name in self.names.items() if name != key}


def selection_of(
    source: str, keys: Sequence[str], request: Request, layers: Layers | None = None
) -> Selection:
    """Return which keys are taken and what they are called.

    `only` and `drop` see the names in the source; then each rename sees the names that those
    before it gave.

    Args:
        source: the name of what has the keys.
        keys: all of them.
        request: what is asked for.
        layers: the layers of their tensors.

    Raises:
        RuleError: something matches no key, nothing is left, or two keys get one name.
    """
    selecting = _Selecting(source, request, KeyIndex(keys, layers), keys, [])
    only = selecting.matched("only", request.only)
    drop = selecting.matched("drop", request.drop)
    taken = [
        key for at, key in enumerate(keys) if (not request.only or at in only) and at not in drop
    ]
    if keys and not taken:
        raise RuleError(source, f"no key of {source} is left")
    names = selecting.renamed(taken)
    _refuse_collisions(source, taken, names)
    left = dict(zip(taken, names, strict=True))
    dropped = tuple(key for key in keys if key not in left)
    return Selection(left, dropped, tuple(selecting.warnings))


@dataclass(frozen=True, slots=True)
class _Selecting:
    """What a selection depends on."""

    source: str
    request: Request
    index: KeyIndex
    keys: Sequence[str]
    warnings: list[str]

    def matched(self, option: str, patterns: Sequence[Pattern | str]) -> set[int]:
        """Return the positions of the keys that one of some patterns matches."""
        found: set[int] = set()
        for pattern in patterns_of(patterns):
            positions = self.index.select(pattern)
            if not positions:
                missed = self.index.missed(pattern)
                known = () if missed.kinds else self.keys
                self._refuse(option, pattern.text, pattern.text, known, missed=missed)
            found.update(positions)
        return found

    def renamed(self, keys: Sequence[str]) -> list[str]:
        """Return the names of keys after every rename.

        All keys are renamed together, so that two can change places by a third name.
        """
        names, clock = list(keys), Clock()
        for number, rename in enumerate(renames_of(self.request.rename)):
            new = rename.renamed(names, clock)
            if not new:
                after = ", as the renames before it name them" if number else ""
                self._refuse("rename", rename.text, rename.pattern.text, names, after)
            for at, name in new.items():
                if not name:
                    problem = f"rename {quoted(rename.text)} leaves nothing of {names[at]!r}"
                    raise RuleError(rename.text, problem)
                names[at] = name
        return names

    def _refuse(
        self,
        option: str,
        text: str,
        pattern: str,
        keys: Sequence[str],
        after: str = "",
        missed: Missed = NO_KEY,
    ) -> None:
        """Refuse what matches nothing, or note it where that is allowed."""
        what, instead = missed.what, missed.instead
        problem = f"{option} {quoted(text)} matches no {what} of {self.source}{instead}{after}"
        if not self.request.allow_unmatched:
            raise RuleError(text, problem, keys, kind=option, word=pattern, of=self.source)
        self.warnings.append(problem)


def _refuse_collisions(source: str, keys: Sequence[str], names: Sequence[str]) -> None:
    """Refuse names that two keys would have.

    Raises:
        RuleError: there is one.
    """
    if len(set(names)) == len(names):
        return
    first: dict[str, str] = {}
    clashes = []
    for key, name in zip(keys, names, strict=True):
        other = first.setdefault(name, key)
        if other != key:
            clashes.append((other, key, name))
    one, two, name = clashes[0]
    more = (
        f", and {plural(len(clashes) - 1, 'more name')} would be given twice" if clashes[1:] else ""
    )
    problem = f"{one!r} and {two!r} of {source} would both be named {name!r}{more}"
    raise RuleError(name, problem, kind="clash")
