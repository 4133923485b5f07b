"""A state dict is found wherever torch.save was given it, and has every tensor once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from reinit_cli.checkpoints.formats.base import Located
from reinit_cli.storage.local import InputFile
from tests.checkpoints.formats.locating import locate
from tests.checkpoints.formats.torch.nestings import NESTINGS

pytestmark = pytest.mark.filterwarnings("ignore:Couldn't retrieve source code:UserWarning")


def save(value: Any, *, is_zip: bool = True) -> None:
    torch.save(value, "m.pt", _use_new_zipfile_serialization=is_zip)


def located(root: str | None = None) -> Located:
    with InputFile("m.pt") as file:
        return locate(file, root)


def step(value: Any, key: Any) -> Any:
    """Go one step into what torch.load returned."""
    if isinstance(value, torch.nn.Module):
        return getattr(value, key)
    try:
        return value[key]
    except (TypeError, KeyError):
        return getattr(value, key)


def reached(value: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        value = step(value, key)
    return value


def at_root(value: Any, root: str) -> Any:
    for name in root.split(".") if root else ():
        value = step(value, int(name) if name.isdigit() else name)
    return value


def values_of(found: Located) -> dict[str, bytes]:
    data = Path("m.pt").read_bytes()
    return {
        tensor.key: data[place.offset : place.offset + place.nbytes]
        for tensor in found.tensors
        for place in found.places.get(tensor.key, ())
    }


@pytest.mark.parametrize("is_zip", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("name", NESTINGS)
def test_the_state_dict_is_found(name: str, is_zip: bool) -> None:
    nesting = NESTINGS[name]
    save(nesting.saves(), is_zip=is_zip)

    found = located()

    loaded = at_root(torch.load("m.pt", weights_only=False), nesting.root)
    tensors = {key: reached(loaded, path) for key, path in nesting.keys.items()}
    assert found.root == nesting.root
    assert [each.key for each in found.tensors if not each.is_no_tensor] == list(nesting.keys)
    assert values_of(found) == {
        key: each.detach().contiguous().numpy().tobytes() for key, each in tensors.items()
    }
    assert tuple(each.root for each in found.neighbors) == nesting.networks
    assert set(nesting.lost) <= set(found.rest)
