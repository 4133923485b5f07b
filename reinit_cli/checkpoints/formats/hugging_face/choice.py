"""Choose which files of a folder hold its weights."""

from __future__ import annotations

from reinit_cli.checkpoints.formats.hugging_face.names import INDEX_SUFFIX, WEIGHTS, is_index
from reinit_cli.errors import UnreadableSourceError

_PREFERRED = ("model.safetensors", "diffusion_pytorch_model.safetensors", "pytorch_model.bin")
"""What is read where several are there, as transformers prefers them."""


def chosen(folder: str, names: list[str]) -> tuple[str | None, tuple[str, ...]]:
    """Return the index, or the one file, that holds the weights of a folder."""
    for name in _PREFERRED:
        if (index := name + INDEX_SUFFIX) in names:
            return index, ()
        if name in names:
            return None, (name,)
    indices = [name for name in names if is_index(name)]
    weights = [name for name in names if WEIGHTS.fullmatch(name)]
    if len(indices) == 1:
        return indices[0], ()
    if not indices and len(weights) == 1:
        return None, (weights[0],)
    found = f"{len(indices or weights)} that could be: " + ", ".join((indices or weights)[:5])
    what = found if indices or weights else "none"
    raise UnreadableSourceError(
        folder, f"a folder needs an index or one file of weights; it has {what}"
    )
