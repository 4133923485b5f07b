"""Whatever shares tensors and containers with a state dict is afterwards as Python would have it."""

from __future__ import annotations

import io
import random
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from reinit_cli.checkpoints.formats.respelling import NewEntry, Respelling
from reinit_cli.checkpoints.formats.torch.contents.state_dict import contents_of
from reinit_cli.checkpoints.formats.torch.edits.optimizer_numbers import Renumbering
from reinit_cli.checkpoints.formats.torch.edits.pieces import Joined
from reinit_cli.checkpoints.formats.torch.edits.respelled import respelled
from reinit_cli.checkpoints.formats.torch.pickles.budget import Budget
from reinit_cli.checkpoints.formats.torch.pickles.machine import read_pickle
from reinit_cli.errors import UnsupportedFormatError
from reinit_cli.storage.local import InputFile


def _object(chance: random.Random) -> dict[str, Any]:
    """Draw a file whose state dict shares tensors and containers with what lies next to it."""
    base = torch.arange(12.0) + chance.randrange(100)
    parameter = nn.Parameter(torch.ones(2, 2))
    tensors = [base, base[2:5], base.view(3, 4).t(), parameter, parameter.data, torch.zeros(3)]
    pool: list[Any] = [*tensors, *tensors]

    def container() -> Any:
        count = chance.randrange(1, 4)
        parts = [chance.choice(pool) for _ in range(count)]
        names = chance.sample("abcdefg", count)
        kind = chance.choice((dict, OrderedDict, list, tuple))
        return kind(zip(names, parts, strict=True)) if issubclass(kind, dict) else kind(parts)

    for each in range(chance.randrange(1, 5)):
        pool.insert(each, container())
    model = OrderedDict((name, chance.choice(pool)) for name in "uvwxyz"[: chance.randrange(2, 7)])
    model["t"] = chance.choice(tensors)
    others = [chance.choice((*pool, model)) for _ in range(chance.randrange(4))]
    parts = [("model", model), ("others", others), ("epoch", 3)]
    chance.shuffle(parts)
    return dict(parts)


def _tensors_in(value: Any, prefix: str) -> Iterator[tuple[str, Tensor, Any, Any]]:
    """Yield the tensors of a state dict: the key, the tensor, what holds it, and its key there."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, part in items:
        if isinstance(part, Tensor):
            yield f"{prefix}{key}", part, value, key
        else:
            yield from _tensors_in(part, f"{prefix}{key}.")


def _form(top: Any, *, has_objects: bool) -> str:
    """Spell an object: its values, and which containers, tensors and storages are one."""
    numbers: dict[tuple[str, int], int] = {}

    def number(kind: str, id_: int) -> str:
        return f"{kind}{numbers.setdefault((kind, id_), len(numbers))}"

    def spelled(each: Any) -> str:
        if isinstance(each, Tensor):
            which = number("object ", id(each)) if has_objects else ""
            where = number("storage ", each.untyped_storage().data_ptr())
            kind = type(each).__name__, each.dtype, each.requires_grad, each.storage_offset()
            return f"{kind} {each.tolist()} {which} {where}"
        if isinstance(each, tuple):
            return f"({[spelled(part) for part in each]})"
        if not isinstance(each, (dict, list)):
            return repr(each)
        known = ("", id(each)) in numbers
        name = f"{type(each).__name__} {number('', id(each))}"
        if known:
            return name
        items = each.items() if isinstance(each, dict) else enumerate(each)
        return f"{name} {[(key, spelled(part)) for key, part in items]}"

    return spelled(top)


def _cast(value: Any, chosen: set[int], memo: dict[int, Any]) -> Any:
    """Cast tensors of a state dict as Python would: each object once, and what holds one."""
    if id(value) in memo:
        return memo[id(value)]
    new = value
    if isinstance(value, Tensor):
        new = _halved(value) if id(value) in chosen else value
    elif isinstance(value, dict):
        parts = {key: _cast(part, chosen, memo) for key, part in value.items()}
        if any(parts[key] is not part for key, part in value.items()):
            new = type(value)(parts)
    else:
        items = [_cast(part, chosen, memo) for part in value]
        if any(item is not part for item, part in zip(items, value, strict=True)):
            new = type(value)(items)
    memo[id(value)] = new
    return new


def _halved(value: Tensor) -> Tensor:
    new = value.detach().contiguous().half().clone()
    return nn.Parameter(new) if isinstance(value, nn.Parameter) else new


def _check(chance: random.Random, protocol: int) -> str:
    value = _object(chance)
    torch.save(value, buffer := io.BytesIO(), pickle_protocol=protocol)
    with zipfile.ZipFile(buffer) as archive:
        files = {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}
    Path("x.pkl").write_bytes(files["data.pkl"])
    expected = _loaded(files)
    entries = list(_tensors_in(expected["model"], ""))
    chosen = {id(tensor) for _, tensor, *_ in entries if chance.random() < 0.6}
    dropped = {key for key, *_, held in entries if "." not in key and chance.random() < 0.2}
    with InputFile("x.pkl") as file:
        nbytes = len(files["data.pkl"])
        found = contents_of(read_pickle(file, 0, nbytes, Budget("x")), Budget("x"), "model")
        infos = {tensor.key: tensor for tensor in found.tensors}
        changes: dict[str, NewEntry | None] = {}
        data: dict[str, tuple[()]] = {}
        labels: dict[str, Tensor] = {}
        for key, tensor, *_ in entries:
            if key in dropped:
                changes[key] = None
            elif id(tensor) in chosen:
                label = str(id(tensor))
                labels[label] = tensor
                old = infos[key]
                new = replace(
                    old, dtype="float16", nbytes=2 * old.numel, storage=label, offset=0, stride=None
                )
                changes[key], data[label] = NewEntry(key, new), ()
        try:
            new_file = respelled(
                file, Renumbering(0, nbytes, "model"), Respelling(changes, data, {})
            )
        except UnsupportedFormatError as error:
            return str(error).rpartition(": ")[2]
        joined = Joined("x", new_file.pickle)
        files["data.pkl"] = joined.read(0, joined.nbytes)
    names = {}
    for label, tensor in labels.items():
        names[label] = bytes(_halved(tensor).detach().untyped_storage())
    # The names that the pickle gives to the new storages are those that `respelled` reports.
    order = dict(zip(data, new_file.storages, strict=True))
    files |= {f"data/{order[label]}": content for label, content in names.items()}
    for name in new_file.gone:
        files.pop(f"data/{name}", None)
    found_object = _loaded(files)

    model = _cast(expected["model"], chosen, {})
    if dropped:
        model = OrderedDict((key, part) for key, part in model.items() if key not in dropped)
    expected["model"] = model
    has_objects = protocol == 2
    assert _form(found_object, has_objects=has_objects) == _form(expected, has_objects=has_objects)
    return ""


def _loaded(files: dict[str, bytes]) -> Any:
    with zipfile.ZipFile(buffer := io.BytesIO(), "w") as archive:
        for name, content in files.items():
            archive.writestr(f"archive/{name}", content)
    buffer.seek(0)
    return torch.load(buffer, weights_only=False)


# What Python makes of it has one tensor for each object; with protocol 4 there may be more.
def _check_many(count: int) -> None:
    chance = random.Random(count)
    for protocol in (2, 4):
        refused = [_check(chance, protocol) for _ in range(count)]
        allowed = {
            "",
            "a part of the state dict lies outside it too",
            "it shares a value with what that value is made of",
        }
        assert set(refused) <= allowed
        assert refused.count("") > 0.8 * count


def test_what_objects_share_stays_shared() -> None:
    _check_many(30)


@pytest.mark.slow
def test_what_many_objects_share_stays_shared() -> None:
    _check_many(1000)
