"""Keep what torch says of modules with the names of their tensors.

`Module.state_dict` sets `_metadata` on the dictionary: for the path of each module a version,
by which `load_state_dict` reads tensors of older kinds. "" is the network itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from reinit_cli.checkpoints.formats.torch.contents.parts import is_mapping
from reinit_cli.checkpoints.formats.torch.edits.spans import Spans
from reinit_cli.checkpoints.formats.torch.edits.writing import written_text
from reinit_cli.checkpoints.formats.torch.pickles.budget import Budget
from reinit_cli.checkpoints.formats.torch.pickles.record_kinds import attributes_of
from reinit_cli.checkpoints.formats.torch.pickles.records import Instance, pairs_of
from reinit_cli.checkpoints.formats.torch.pickles.tensor_call import Span

METADATA = "_metadata"

_MOST_LEVELS = 100
"""The most modules around a tensor that are looked at; keys come from strangers."""


def new_paths(paths: Iterable[str], keys: Mapping[str, str]) -> dict[str, str | None]:
    """Return the new paths of modules whose tensors get other keys, and None for the replaced.

    Args:
        paths: those of all modules.
        keys: for each key of a tensor, the new one, be it the same.
    """
    known = set(paths)
    found: dict[str, str] = {}
    for old, new in keys.items():
        before, after = old.split("."), new.split(".")
        # As far as their ends are the same, the modules around both are the same.
        for _ in range(_MOST_LEVELS):
            if not (before and after and before[-1] == after[-1]):
                break
            before, after = before[:-1], after[:-1]
            if (module := ".".join(before)) in known:
                found.setdefault(module, ".".join(after))
    moved = {module: path for module, path in found.items() if module != path}
    taken = set(moved.values())
    gone = {path: None for path in known if path in taken and path not in moved}
    # Of two modules of one path, the first is kept.
    twice = set()
    for module, path in moved.items():
        if path in twice:
            gone[module] = None
        twice.add(path)
    return {**moved, **gone}


def metadata_edits(
    spans: Spans, root: Any, keys: Mapping[str, str], budget: Budget
) -> dict[Span, bytes]:
    """Return what replaces the paths of modules in the metadata of a state dict.

    Args:
        spans: of the pickle.
        root: the state dict.
        keys: for each key that it keeps, the new one, be it the same.
        budget: what is left of the file's.
    """
    metadata = attributes_of(root, budget).get(METADATA) if isinstance(root, Instance) else None
    if not is_mapping(metadata):
        return {}
    paths = [budget.text_of(key) for key, _ in pairs_of(metadata, budget)]
    new = new_paths(paths, keys)
    pairs = spans.pairs(metadata) if new else ()
    edits: dict[Span, bytes] = {}
    for path, pair in zip(paths, pairs, strict=False):
        name = new.get(path, path)
        if name is None:
            edits |= dict.fromkeys(pair.whole, b"")
        elif name != path:
            edits[pair.key] = written_text(name)
    return edits
