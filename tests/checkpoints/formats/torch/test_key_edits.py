"""Entries of a state dict are renamed and dropped where the pickle holds them."""

from __future__ import annotations

import io
import pickletools
import zipfile
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from reinit_cli.checkpoints.formats.torch.contents.entries import entries_of
from reinit_cli.checkpoints.formats.torch.edits.key_edits import key_edits
from reinit_cli.checkpoints.formats.torch.edits.pickle_edits import edited
from reinit_cli.checkpoints.formats.torch.edits.span_machine import read_spans
from reinit_cli.checkpoints.formats.torch.pickles.budget import Budget
from reinit_cli.errors import UnsupportedFormatError
from reinit_cli.storage.local import InputFile
from reinit_cli.storage.segments import Copy, Literal
from tests.checkpoints.formats import hostile

PROTOCOLS = (2, 4)

Rename = Callable[[str], str | None]


def _renamed(value: Any, rename: Rename, protocol: int = 2, root: str = "") -> Any:
    """Save an object, rename the entries of its state dict, and load it again."""
    buffer = io.BytesIO()
    torch.save(value, buffer, pickle_protocol=protocol)
    with zipfile.ZipFile(buffer) as archive:
        files = {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}
    data = files["data.pkl"]
    files["data.pkl"] = _edited(data, rename, root)
    if protocol == 2:
        pickletools.dis(files["data.pkl"], io.StringIO())
    with zipfile.ZipFile(buffer := io.BytesIO(), "w") as archive:
        for name, content in files.items():
            archive.writestr(f"archive/{name}", content)
    buffer.seek(0)
    return torch.load(buffer, weights_only=False)


def _edited(data: bytes, rename: Rename, root: str) -> bytes:
    Path("x.pkl").write_bytes(data)
    with InputFile("x.pkl") as file:
        budget = Budget(file.path)
        spans = read_spans(file, 0, len(data), budget)
        record = spans.top
        if root:
            record = dict(zip(record.pairs[::2], record.pairs[1::2], strict=True))[root]
        entries = list(entries_of(record, budget))
        keys = {entry.key: rename(entry.key) for entry in entries}
        replacements = key_edits(spans, record, entries, keys, budget)
        segments = edited(file, 0, len(data), spans, replacements)
        out = b""
        for each in segments:
            assert isinstance(each, (Copy, Literal))
            is_bytes = isinstance(each, Literal)
            out += each.data if is_bytes else file.read(each.offset, each.nbytes)
    return out


def _mapping(names: dict[str, str | None]) -> Rename:
    return lambda key: names.get(key, key)


def _form(value: Any) -> Any:
    """Spell an object with the order of its keys, and its tensors by their values."""
    if isinstance(value, torch.Tensor):
        return value.tolist()
    if isinstance(value, dict):
        return type(value).__name__, [(key, _form(each)) for key, each in value.items()]
    return [*map(_form, value)] if isinstance(value, (list, tuple)) else value


A, B, C, D = (torch.full((2,), float(at)) for at in range(4))

RENAMED: dict[str, tuple[Any, Rename, Any]] = {
    "a prefix": (
        OrderedDict({"module.a": A, "module.b": B, "epoch": 3}),
        lambda key: key.removeprefix("module."),
        OrderedDict(a=A, b=B, epoch=3),
    ),
    "keys that change places": (
        {"a": A, "b": B},
        _mapping({"a": "b", "b": "a"}),
        {"b": A, "a": B},
    ),
    "all keys dropped": ({"a": A, "b": B}, lambda _: None, {}),
    "one key dropped": ({"a": A, "b": B, "c": C}, _mapping({"b": None}), {"a": A, "c": C}),
    "the only key dropped": (OrderedDict(a=A), _mapping({"a": None}), OrderedDict()),
    "a key within a dictionary": (
        {"actor": {"a": A, "b": B}, "critic": {"a": C}},
        _mapping({"actor.a": "actor.new.a"}),
        {"actor": {"new.a": A, "b": B}, "critic": {"a": C}},
    ),
    "a dictionary with all of its entries": (
        {"actor": {"a": A, "b": B}, "critic": {"a": C}},
        lambda key: key.replace("actor", "policy.net"),
        {"policy.net": {"a": A, "b": B}, "critic": {"a": C}},
    ),
    "a dictionary and a key within it": (
        {"actor": {"a": A, "b": B}},
        _mapping({"actor.a": "x.c", "actor.b": "x.b"}),
        {"x": {"c": A, "b": B}},
    ),
    "dictionaries in dictionaries": (
        {"a": {"b": {"c": A, "d": B}, "e": C}},
        _mapping({"a.b.c": "x.y.c", "a.b.d": "x.y.d", "a.e": "x.e"}),
        {"x": {"y": {"c": A, "d": B}, "e": C}},
    ),
    "a dictionary of which the rest is dropped": (
        {"a": {"b": A, "c": B}},
        _mapping({"a.b": "x.b", "a.c": None}),
        {"x": {"b": A}},
    ),
    "a list in a dictionary": (
        {"agents": [{"actor": {"a": A}}, {"actor": {"a": B}}]},
        lambda key: key.replace("agents", "team").replace("1.actor", "1.player"),
        {"team": [{"actor": {"a": A}}, {"player": {"a": B}}]},
    ),
    "a key in a list": (
        [{"a": A}, {"a": B}],
        _mapping({"0.a": "0.b", "1.a": None}),
        [{"b": A}, {}],
    ),
    "a number": (
        {0: {"a": A}, 1: {"a": B}},
        _mapping({"0.a": "x.a"}),
        {"x": {"a": A}, 1: {"a": B}},
    ),
    "dots in keys": (
        {"a": {"b.c": A}, "a.b": {"d": B}},
        _mapping({"a.b.c": "a.x", "a.b.d": "a.b.y"}),
        {"a": {"x": A}, "a.b": {"y": B}},
    ),
    "one dictionary in two places": (
        {"a": (shared := {"w": A}), "b": shared},
        lambda key: key.replace("w", "v"),
        {"a": (renamed := {"v": A}), "b": renamed},
    ),
    "a dictionary of two places in one of them": (
        {"a": shared, "b": shared},
        _mapping({"b.w": "c.w"}),
        {"a": shared, "c": shared},
    ),
    "what is not a tensor": (
        OrderedDict(a=A, extra={"version": 1}, b=B),
        _mapping({"extra": "more", "b": None}),
        OrderedDict(a=A, more={"version": 1}),
    ),
    "a dictionary with a factory": (
        defaultdict(list, {"a": A, "b": B}),
        _mapping({"a": "c"}),
        defaultdict(list, {"c": A, "b": B}),
    ),
}


@pytest.mark.parametrize("name", RENAMED)
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_keys_change_where_they_lie(protocol: int, name: str) -> None:
    value, rename, expected = RENAMED[name]

    assert _form(_renamed(value, rename, protocol)) == _form(expected)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_what_lies_next_to_the_state_dict_stays(protocol: int) -> None:
    state = OrderedDict(a=A, b=B)
    state._metadata = {"": {"version": 1}}
    value = {"a": [1, "a"], "model": state, "b": {"a": A, "b": "b"}, "best": B}

    loaded = _renamed(value, _mapping({"a": "c", "b": None}), protocol, "model")

    assert _form(loaded["model"]) == _form(OrderedDict(c=A))
    assert loaded["model"]._metadata == {"": {"version": 1}}
    assert _form({**loaded, "model": 0}) == _form({**value, "model": 0})
    assert loaded["model"]["c"] is loaded["b"]["a"]


REFUSED: dict[str, tuple[Any, Rename, str, str]] = {
    "out of its dictionary": (
        {"a": {"b": A}},
        _mapping({"a.b": "b"}),
        "",
        "'a.b' lies in a dictionary of its own, whose keys start with 'a'",
    ),
    "without the others": (
        {"a": {"b": A, "c": B}},
        _mapping({"a.b": "x.b"}),
        "",
        "lies in a dictionary of its own",
    ),
    "in a list": ([A, B], _mapping({"0": "first"}), "", "'0' does not lie in a dictionary"),
    "dropped from a list": ({"a": [A, B]}, _mapping({"a.1": None}), "", "cannot be dropped"),
    "in a module": (
        torch.nn.Linear(2, 2),
        _mapping({"weight": "w"}),
        "",
        "'weight' does not lie in a dictionary",
    ),
    "to a key that is there": ({"a": A, "b": B}, _mapping({"a": "b"}), "", "holds 'b' already"),
    "to the key of something else": (
        {"m": {"a": {"w": A}, "b": {"c": [1]}}},
        _mapping({"a.w": "b.w"}),
        "m",
        "holds 'b' already",
    ),
    "of one dictionary in two ways": (
        {"a": shared, "b": shared},
        _mapping({"a.w": "a.v"}),
        "",
        "in two places",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_key_without_a_place_is_refused(name: str) -> None:
    value, rename, root, problem = REFUSED[name]

    with pytest.raises(UnsupportedFormatError, match=problem):
        _renamed(value, rename, root=root)


def test_a_dictionary_of_python_2_gets_other_keys() -> None:
    def pair(key: str) -> bytes:
        return b"](X\x01\0\0\0" + key.encode() + hostile.tensor(2) + b"e"

    data = b"\x80\x02ccollections\nOrderedDict\n](" + pair("a") + pair("b") + b"e\x85R."

    found = _edited(data, _mapping({"a": "new", "b": None}), "")

    assert found == (
        b"\x80\x02ccollections\nOrderedDict\n](](X\x03\0\0\0new" + hostile.tensor(2) + b"ee\x85R."
    )
