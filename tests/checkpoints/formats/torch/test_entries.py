"""The entries of a state dict know the records behind them, and where these lie."""

from __future__ import annotations

import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from reinit_cli.checkpoints.formats.torch.contents.entries import Entry, entries_of
from reinit_cli.checkpoints.formats.torch.contents.state_dict import Contents, contents_of
from reinit_cli.checkpoints.formats.torch.pickles.budget import Budget
from reinit_cli.checkpoints.formats.torch.pickles.machine import read_pickle
from reinit_cli.storage.local import InputFile


def contents(value: Any, root: str | None = None) -> tuple[Any, Contents, list[Entry]]:
    """Save something; return its record, what is found in it, and all entries of the record."""
    torch.save(value, "m.pt")
    with zipfile.ZipFile("m.pt") as archive:
        Path("m.pkl").write_bytes(archive.read("m/data.pkl"))
    with InputFile("m.pkl") as file:
        budget = Budget(file.path)
        pickle = read_pickle(file, 0, file.nbytes, budget)
        found = contents_of(pickle, budget, root)
        return pickle.top, found, list(entries_of(pickle.top, budget))


@pytest.mark.parametrize("kind", [dict, OrderedDict])
def test_an_entry_of_a_dictionary_is_the_pair_that_it_says(kind: type) -> None:
    value = kind(a=torch.ones(2), epoch=3, b=torch.zeros(3))

    top, found, entries = contents(value)

    assert [entry.key for entry in entries] == list(value)
    assert [entry.key for entry in found.entries] == list(value)
    for entry in entries:
        assert entry.holder is top
        assert top.pairs[2 * entry.at : 2 * entry.at + 2] == [entry.key, entry.value]


def test_entries_of_a_module_lie_in_its_dictionaries() -> None:
    net = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))

    _, found, _ = contents(net)

    assert sorted(entry.key for entry in found.entries) == sorted(net.state_dict())
    for entry in found.entries:
        name = entry.key.rpartition(".")[2]
        assert entry.holder.pairs[2 * entry.at : 2 * entry.at + 2] == [name, entry.value]


def test_entries_of_lists_and_objects_lie_where_they_say() -> None:
    value = {"list": [torch.ones(2), (torch.ones(3),)], "more": {"w": torch.ones(4)}}

    _, found, _ = contents(value, ".")

    (first, second, third) = found.entries
    assert first.holder[first.at] is first.value
    assert second.holder == (second.value,)
    assert third.holder.pairs == ["w", third.value]
