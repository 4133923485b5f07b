"""What torch says of modules goes with the names of their tensors."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn.modules.utils import consume_prefix_in_state_dict_if_present

from reinit_cli import rewrite
from reinit_cli.checkpoints.formats.torch.edits.module_versions import new_paths


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


class _Versioned(nn.Module):
    _version = 7

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))


def _wrapped() -> OrderedDict[str, torch.Tensor]:
    state: OrderedDict[str, torch.Tensor] = nn.ModuleDict({"module": _Versioned()}).state_dict()
    return state


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize("is_nested", [False, True], ids=["plain", "nested"])
def test_a_prefix_is_taken_from_modules_as_torch_takes_it(legacy: bool, is_nested: bool) -> None:
    state = _wrapped()
    saved = {"epoch": 1, "model": state} if is_nested else state
    torch.save(saved, "m.pt", _use_new_zipfile_serialization=not legacy)

    rewrite("m.pt", [], "out.pt", rename=["module.*=*"])

    found = torch.load("out.pt")
    found = found["model"] if is_nested else found
    consume_prefix_in_state_dict_if_present(state, "module.")
    assert found._metadata == state._metadata  # type: ignore[attr-defined]
    assert found._metadata[""]["version"] == 7
    assert list(found) == list(state)
    _Versioned().load_state_dict(found)


def test_a_prefix_in_front_is_put_in_front_of_modules() -> None:
    state = _Versioned().state_dict()
    torch.save(state, "m.pt")

    rewrite("m.pt", [], "out.pt", rename=["*=model.*"])

    found = torch.load("out.pt")._metadata
    assert found["model"]["version"] == 7
    assert found["model.body.1"] == state._metadata["body.1"]


def test_nothing_is_said_of_modules_where_no_key_changes() -> None:
    state = _wrapped()
    torch.save(state, "m.pt")

    rewrite("m.pt", [], "out.pt", drop=["module.body.0.bias"])

    assert torch.load("out.pt")._metadata == state._metadata  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("paths", "keys", "new"),
    [
        (["", "m", "m.a"], {"m.a.w": "a.w"}, {"m": "", "m.a": "a", "": None}),
        (["", "a", "b"], {"a.w": "b.w", "b.w": "a.w"}, {"a": "b", "b": "a"}),
        (["", "a"], {"a.w": "b.w", "a.v": "a.v"}, {"a": "b"}),
        (["", "a"], {"a.w": "a.v"}, {}),
        (["", "a", "b"], {"a.w": "c.w", "b.v": "c.v"}, {"a": "c", "b": None}),
    ],
)
def test_modules_move_with_their_tensors(
    paths: list[str], keys: dict[str, str], new: dict[str, str | None]
) -> None:
    assert new_paths(paths, keys) == new
