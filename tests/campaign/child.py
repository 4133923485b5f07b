"""What commands run in where something about their process is unusual."""

from __future__ import annotations

import json
import mmap
import os
import sys
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any


def make_sources() -> None:
    """Make the sources of the commands in the current folder."""
    import torch
    from safetensors.torch import save_file

    state = {"a.weight": torch.ones(64, 32), "b.weight": torch.full((40, 60), 2.0)}
    save_file(state, "m.safetensors")
    save_file({key: tensor + 1 for key, tensor in state.items()}, "n.safetensors")
    torch.save(state, "m.pt")
    Path("folder").mkdir()
    names = {key: f"model-0000{at}-of-00002.safetensors" for at, key in enumerate(state, 1)}
    for key, name in names.items():
        save_file({key: state[key]}, f"folder/{name}")
    Path("folder/model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))
    Path("folder/config.json").write_text("{}")


def named(*argv: str) -> None:
    """Run a command where every file has a name from the start."""
    _prepare("named")
    _enter(argv)


def piped(*argv: str) -> None:
    """Run a command whose standard input is a pipe."""
    _prepare("piped")
    _enter(argv)


def _prepare(how: str) -> None:
    if how == "named":
        del os.O_TMPFILE
    elif how == "piped":
        ours, theirs = os.pipe()
        # Mapped: a fault that is meant for the command's reads would come to one of ours.
        with mmap.mmap(0, 0, access=mmap.ACCESS_READ) as mapped:
            data = mapped[:]
        assert os.write(theirs, data) == len(data)
        os.close(theirs)
        os.dup2(ours, 0)
        os.close(ours)


def short(seed: str, inner: str, *argv: str) -> None:
    """Run a command whose reads and writes do a part of what they are asked to do.

    Args:
        seed: how much each does.
        inner: how the command is run, or "".
        argv: the command.
    """
    _prepare(inner.rpartition(":")[2])
    random = Random(seed)

    def some(nbytes: int) -> int:
        return min(nbytes, random.choice((1, 7, nbytes // 2, nbytes - 1, nbytes)))

    def cut(call: Callable[..., Any], change: Callable[..., tuple[Any, ...]]) -> Callable[..., Any]:
        return lambda *args: call(*change(*args))

    def less(fd: int, nbytes: int, *rest: Any) -> tuple[Any, ...]:
        return fd, max(1, some(nbytes)) if nbytes else 0, *rest

    def first(fd: int, data: Any, *rest: Any) -> tuple[Any, ...]:
        view = memoryview(data).cast("B")
        return fd, view[: max(1, some(len(view)))], *rest

    def first_of(fd: int, buffers: list[memoryview], *rest: Any) -> tuple[Any, ...]:
        view = memoryview(buffers[0]).cast("B")
        return fd, [view[: max(1, some(len(view)))]], *rest

    def copied(source: int, target: int, nbytes: int, *rest: Any) -> tuple[Any, ...]:
        return source, target, max(1, some(nbytes)), *rest

    for name in ("read", "pread"):
        setattr(os, name, cut(getattr(os, name), less))
    for name in ("write", "pwrite"):
        setattr(os, name, cut(getattr(os, name), first))
    for name in ("readv", "preadv"):
        setattr(os, name, cut(getattr(os, name), first_of))
    os.copy_file_range = cut(os.copy_file_range, copied)
    _enter(argv)


def _enter(argv: tuple[str, ...]) -> None:
    from reinit_cli.__main__ import entry

    sys.argv = ["reinit", *argv]
    entry()
