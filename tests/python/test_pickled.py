"""Outcomes that come back from other processes, as pools, Dask and Ray send them."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import pytest
import torch
import torch.distributed.checkpoint as dcp
from safetensors.torch import load_file, save_file

from reinit_cli import errors, rewrite
from tests.tools import package

STATE = {"body.weight": torch.ones(8, 8), "head.weight": torch.ones(4, 8)}


def _zip() -> str:
    torch.save({"epoch": 3, "state_dict": STATE}, "m.pt")
    return "m.pt"


def _legacy() -> str:
    torch.save(STATE, "m.pth", _use_new_zipfile_serialization=False)
    return "m.pth"


def _safetensors() -> str:
    save_file(STATE, "m.safetensors")
    return "m.safetensors"


def _folder() -> str:
    Path("folder").mkdir()
    save_file(STATE, "folder/model.safetensors")
    return "folder"


def _dcp() -> str:
    dcp.save(STATE, checkpoint_id="dcp", no_dist=True)
    return "dcp"


def _remote() -> str:
    save_file(STATE, "m.safetensors")
    package("fsspec").filesystem("memory").pipe(
        "/pickled/m.safetensors", Path("m.safetensors").read_bytes()
    )
    return "memory://pickled/m.safetensors"


@pytest.mark.parametrize("make", [_zip, _legacy, _safetensors, _folder, _dcp, _remote])
def test_an_outcome_is_the_same_after_it_was_pickled(make: Callable[[], str]) -> None:
    source = make()
    outcome = rewrite(source, "head.*=normal:std=0.02", f"new-{Path(source).name}")

    again = pickle.loads(pickle.dumps(outcome))

    assert repr(again) == repr(outcome)
    assert again.job.plan == outcome.job.plan
    assert again.job.source.tensors == outcome.job.source.tensors
    assert again.job.source.format.name == outcome.job.source.format.name


@pytest.mark.slow
def test_rewrite_is_called_in_a_pool_of_processes() -> None:
    for seed in range(3):
        save_file(STATE, f"{seed}.safetensors")
    fresh = partial(rewrite, rules="head.*=normal:std=0.02")

    with ProcessPoolExecutor(2, get_context("spawn")) as pool:
        outcomes = list(pool.map(fresh, (f"{seed}.safetensors" for seed in range(3))))
        with pytest.raises(errors.OutputExistsError, match="exists"):
            pool.submit(fresh, "0.safetensors").result()

    assert [each.job.destination.path for each in outcomes] == [
        f"{seed}-reinit.safetensors" for seed in range(3)
    ]
    assert load_file("2-reinit.safetensors")["head.weight"].std() < 0.1
