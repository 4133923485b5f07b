"""Read what Python users hold in their hands: paths, modules, state dicts, dtypes, devices."""

from __future__ import annotations

import operator
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from reinit_cli.checkpoints.find import find_source, may_be_model
from reinit_cli.checkpoints.model import drawn_from
from reinit_cli.checkpoints.source import Source
from reinit_cli.checkpoints.state import StateSource, state_source
from reinit_cli.errors import SourceError
from reinit_cli.lazy import LazyModule
from reinit_cli.operations.diff import keys_of
from reinit_cli.operations.keys import no_match
from reinit_cli.operations.layers import layers_for, layers_for_both
from reinit_cli.request.partial import RequestOptions
from reinit_cli.request.pattern import KeyIndex, Pattern, patterns_of
from reinit_cli.request.request import FORMER
from reinit_cli.request.values import read_arguments, read_layout, read_nbytes
from reinit_cli.storage.location import DASH
from reinit_cli.streams.stream import DEFAULT_STREAM, stream_named
from reinit_cli.tensors.info import TensorInfo
from reinit_cli.tensors.layers.layer import Layers
from reinit_cli.text import kind_of, near

if TYPE_CHECKING:
    import torch
else:
    torch = LazyModule("torch")


def both_of(
    given: tuple[object, object], weights: object, root: str | None, stream: object
) -> tuple[Source, Source]:
    """Return two sources; weights are chosen for models, and one of the two may be a file.

    Raises:
        SourceError: one of them cannot be read.
        TypeError: one of them is something else.
    """
    first, second = (
        source_of(
            each,
            weights if isinstance(each, str) and may_be_model(each) else None,
            None if is_in_memory(each) else root,
            stream,
        )
        for each in given
    )
    return first, second


def source_of(
    given: object,
    weights: object = None,
    root: str | None = None,
    stream: object = DEFAULT_STREAM,
    *,
    is_root_new: bool = False,
) -> Source:
    """Return the source that is given by its name or path, or that is in memory.

    Args:
        given: a path or URL, the name of a model, a module or a state dict.
        weights: those of a model that is given by its name.
        root: the path of the state dict in a torch file.
        stream: the random stream of a model without weights.
        is_root_new: whether the path is one in the output, which the source may have or not.

    Raises:
        SourceError: it cannot be read.
        TypeError: it is something else.
        UnknownNameError: there is no such stream.
    """
    drawn = stream_of(stream)
    if not is_in_memory(given):
        path = text_of_path(given, "a source", "a torch.nn.Module or a state dict")
        found = find_source(path, weights_of(weights), root, is_root_new=is_root_new)
        return drawn_from(found, drawn)
    for name, value in (("weights", weights), ("root", None if is_root_new else root)):
        if value is not None:
            raise SourceError(
                "", f"{name}= is for models by name and files, not for what is in memory"
            )
    return memory_of(given)


def memory_of(given: object) -> StateSource:
    """Return a module or a state dict as a source.

    Raises:
        SourceError: it has no tensors.
        TypeError: it is something else.
    """
    if not is_in_memory(given):
        taken = "a torch.nn.Module or a state dict"
        raise TypeError(f"what is changed in memory must be {taken}, not {kind_of(given)}")
    return state_source(cast("torch.nn.Module | Mapping[str, torch.Tensor]", given))


def is_in_memory(given: object) -> bool:
    """Whether something is a module or a mapping."""
    return isinstance(given, Mapping) or _is_of_torch(given, "nn.Module")


def text_of_path(given: object, what: str, also: str = "") -> str:
    """Return a path as a text; what is a `Path` is never a model's name, nor standard input.

    Args:
        given: a text or a path.
        what: what it is for.
        also: what it could be besides.

    Raises:
        TypeError: it is neither.
    """
    if isinstance(given, str):
        return given
    path = os.fspath(given) if isinstance(given, os.PathLike) else given
    if not isinstance(path, str):
        kinds = f"a text, a path, {also}" if also else "a text or a path"
        raise TypeError(f"{what} must be {kinds}, not {kind_of(given)}")
    return os.path.join(os.curdir, path) if path.isidentifier() or path == DASH else path


def weights_of(given: object) -> str | None:
    """Return the name of a model's weights, or their path.

    Raises:
        TypeError: they are neither, nor a member of an enumeration of torchvision.
    """
    if given is None:
        return None
    return given.name if isinstance(given, Enum) else text_of_path(given, "weights")


def patterns_given(given: Iterable[Any]) -> Iterable[Any]:
    """Return patterns, renames or the like, where one alone may be given as a text."""
    return (given,) if isinstance(given, str) else given


def chosen_of(source: Source, patterns: str | Iterable[Pattern | str]) -> list[TensorInfo]:
    """Return the tensors of a source that patterns match, or all where none is given.

    Raises:
        PatternError: one of them is not valid.
        UnknownNameError: one of them matches no key.
    """
    keys = [tensor.key for tensor in source.tensors]
    chosen = _chosen(keys, patterns, source.name, lambda read: layers_for(read, source))
    return [tensor for tensor in source.tensors if tensor.key in chosen]


def chosen_of_both(
    first: Source,
    second: Source,
    names: Mapping[str, str],
    patterns: str | Iterable[Pattern | str],
) -> AbstractSet[str]:
    """Return the keys of two sources that patterns match, or all where none is given.

    Args:
        first: one source.
        second: the other.
        names: new names of keys of the first.
        patterns: one or several.

    Raises:
        PatternError: one of them is not valid.
        UnknownNameError: one of them matches no key.
    """
    keys = keys_of((first, second), names)
    return _chosen(
        keys, patterns, first.name, lambda read: layers_for_both(read, first, second, names)
    )


def _chosen(
    keys: Sequence[str],
    patterns: str | Iterable[Pattern | str],
    of: str,
    layers: Callable[[Sequence[Pattern]], Layers | None],
) -> AbstractSet[str]:
    """Return the keys that patterns match, or all where none is given.

    Args:
        keys: those of the source.
        patterns: one or several.
        of: the name of the source.
        layers: returns the layers of its tensors, where patterns ask for a kind.

    Raises:
        PatternError: one of them is not valid.
        UnknownNameError: one of them matches no key.
    """
    read = patterns_of(patterns_given(patterns))
    index = KeyIndex(keys, layers(read))
    for pattern in read:
        if not index.select(pattern):
            missed = index.missed(pattern)
            known = () if missed.kinds else keys
            raise no_match(pattern, known, missed.in_source(of), of)
    return {keys[at] for pattern in read for at in index.select(pattern)} if read else {*keys}


def device_of(given: object) -> str:
    """Return the name of a device.

    Raises:
        TypeError: it is not one.
    """
    if isinstance(given, str) or _is_of_torch(given, "device"):
        return str(given)
    raise TypeError(f"device must be a text such as 'cuda' or a torch.device, not {kind_of(given)}")


def dtype_of(given: object) -> str:
    """Return the name of a dtype.

    Raises:
        TypeError: it is not one.
    """
    if isinstance(given, str) or _is_of_torch(given, "dtype"):
        return str(given).removeprefix("torch.")
    raise TypeError(
        f"dtype must be a text such as 'bfloat16' or a torch.dtype, not {kind_of(given)}"
    )


def seed_of(given: object) -> int:
    """Return a seed.

    Raises:
        TypeError: it is not an integer.
    """
    return _integer_of("seed", given)


def _integer_of(name: str, given: object) -> int:
    try:
        return operator.index(cast("int", given))
    except TypeError:
        raise TypeError(f"{name} must be an integer, not {kind_of(given)}") from None


def _rank_of(name: str, given: object) -> int | None:
    return None if given is None else _integer_of(name, given)


def _seconds_of(given: object) -> float:
    if isinstance(given, int | float) and not isinstance(given, bool):
        return float(given)
    raise TypeError(f"timeout must be a number of seconds, not {kind_of(given)}")


def _run_id_of(given: object) -> str | None:
    if given is None or isinstance(given, str):
        return given
    raise TypeError(f"run_id must be a text, not {kind_of(given)}")


def stream_of(given: object) -> str:
    """Return the exact name of a random stream.

    Raises:
        UnknownNameError: there is no such stream.
        TypeError: it is not a text.
    """
    if not isinstance(given, str):
        raise TypeError(f"stream must be a text such as 'torch', not {kind_of(given)}")
    return stream_named(given).name


def _dtypes_of(given: object) -> str | list[str] | None:
    if given is None:
        return None
    if isinstance(given, Mapping):
        return [f"{pattern}={dtype_of(dtype)}" for pattern, dtype in given.items()]
    if isinstance(given, list | tuple):
        return [dtype_of(each) for each in given]
    return dtype_of(given)


def _record_of(given: object) -> str | bool:
    return given if isinstance(given, bool) else text_of_path(given, "record")


def _nbytes_of(given: object) -> int | None:
    if given is None or (isinstance(given, int) and not isinstance(given, bool)):
        return given
    try:
        return read_nbytes(given)
    except ValueError as error:
        raise TypeError(f"shard_nbytes must be {error}, not {given!r}") from None


def _paths_of(given: object) -> list[str]:
    several = given if isinstance(given, list | tuple) else (given,)
    return [text_of_path(each, "an entry of allow_paths") for each in several]


def arguments_of(given: object) -> dict[str, object] | None:
    """Return the arguments of a constructor.

    Raises:
        TypeError: they are not a mapping of names to what JSON can hold.
    """
    if given is None:
        return None
    try:
        return read_arguments(dict(given) if isinstance(given, Mapping) else given)
    except ValueError as error:
        raise TypeError(f"arch_args must be {error}, not {kind_of(given)}") from None


def _layout_of(given: object) -> str | None:
    try:
        return None if given is None else read_layout(given)
    except ValueError as error:
        raise TypeError(f"to must be {error}, not {given!r}") from None


_READERS: Mapping[str, Callable[[Any], object]] = {
    "to": _layout_of,
    "seed": seed_of,
    "stream": stream_of,
    "device": device_of,
    "dtype": _dtypes_of,
    "record": _record_of,
    "allow_paths": _paths_of,
    "shard_nbytes": _nbytes_of,
    "arch_args": arguments_of,
    "weights": weights_of,
    "rank": partial(_rank_of, "rank"),
    "world_size": partial(_rank_of, "world_size"),
    "run_id": _run_id_of,
    "timeout": _seconds_of,
    "optimizer_order": lambda given: (
        None if given is None else text_of_path(given, "optimizer_order")
    ),
    **dict.fromkeys(("rename", "drop", "only", "resize", "copy"), patterns_given),
}
"""What reads each option that may be given in several ways."""


def options_of(function: str, given: Mapping[str, Any], known: type) -> RequestOptions:
    """Return the options of a function as a request has them.

    Args:
        function: its name.
        given: its options by name.
        known: the dictionary that declares them.

    Raises:
        TypeError: there is no such option, or it is of another type.
    """
    given = {FORMER.get(name, name): value for name, value in given.items()}
    for name in given:
        if name not in known.__annotations__:
            meant = near(name, known.__annotations__, 1)
            hint = f"; did you mean {meant[0]!r}?" if meant else ""
            raise TypeError(f"{function}() has no option {name!r}{hint}")
    read = {
        name: _READERS[name](value) if name in _READERS else value for name, value in given.items()
    }
    return cast("RequestOptions", read)


def _is_of_torch(given: object, name: str) -> bool:
    """Whether something is of a type of torch, which is not imported to find out."""
    found: Any = sys.modules.get("torch")
    for part in name.split("."):
        found = getattr(found, part, None)
    return isinstance(found, type) and isinstance(given, found)
