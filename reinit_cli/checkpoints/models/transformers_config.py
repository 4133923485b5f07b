"""Read the config.json of a model of transformers as data: nothing in it selects code."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

from reinit_cli.checkpoints.formats.strict_json import JsonError, Pairs, check_unused, parse_object
from reinit_cli.errors import RuleError
from reinit_cli.storage.reader import Store

CONFIG = "config.json"

_MOST_NBYTES = 2**22
"""The most bytes of a config; those with the names of 20,000 classes have one megabyte."""

_SELECTING = frozenset(
    (
        *("auto_map", "custom_pipelines", "trust_remote_code", "quantization_config"),
        *("compression_config", "dtype", "torch_dtype", "name_or_path", "attn_implementation"),
        *("experts_implementation", "use_kernels", "kernel_config", "use_pretrained_backbone"),
        *("pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "checkpoint_path", "cache_dir"),
    )
)
"""The members that would select code, weights or a dtype; those with an underscore are private."""

_TIMM_NAMES = ("backbone", "architecture")
"""The members that name models of timm, or of a hub where they are not plain names."""

_BIG = re.compile(r"vocab|position|length|seq|token|(^|_)ids?(_|$)|window|size_per|cutoffs|max_")
_ANY = re.compile(r"theta|base|seed|freq|factor|eps|scale|rate")
_COUNT = re.compile(r"layer|depth|block|stage|head|expert|group|repeat")

_FLOAT = "__float__"
_FLOATS = ("NaN", "Infinity", "-Infinity")
"""The numbers that JSON lacks, which transformers writes as objects: {"__float__": "Infinity"}."""

_MOST_COUNT, _MOST_SIZE, _MOST_BIG = 2**14, 2**20, 2**26
"""The largest numbers of things that are built one by one, sizes, and lengths of tables."""


def config_next_to(
    path: str | None, arch: str, store: Store, *, is_folder: bool
) -> Mapping[str, Any]:
    """Return the config of a folder, or of the folder that a file is in, without what selects code.

    Args:
        path: the folder or the file; None where the source is neither.
        arch: the architecture, as the user names it.
        store: where it is.
        is_folder: whether it is a folder.

    Raises:
        RuleError: there is none, or it is not one.
    """
    if path is None:
        raise RuleError(arch, "it is that of a folder, and the source is none", kind="arch")
    folder = path if is_folder else os.path.dirname(path)
    place = os.path.join(folder, CONFIG)
    if store.kind_of(place) != "file":
        raise RuleError(arch, f"there is no {place!r}", kind="arch")
    file = store.open(place)
    try:
        if file.nbytes > _MOST_NBYTES:
            raise RuleError(arch, f"{place!r} is too large", kind="arch")
        said = parse_object(file.read(0, file.nbytes), "it", allows_floats=True)
        check_unused(said, 0)
    except JsonError as error:
        raise RuleError(arch, f"{place!r}: {error}", kind="arch") from error
    finally:
        file.close()
    config: Mapping[str, Any] = _plain(said)
    return config


def as_data(config: Mapping[str, Any], arch: str) -> dict[str, Any]:
    """Return a config without what selects code.

    Raises:
        RuleError: a number in it is too large, or it names a model elsewhere.
    """
    kept = _without_code(config)
    for name, value in _members(kept):
        if isinstance(value, int) and abs(value) > _most(name):
            raise RuleError(
                arch, f"{CONFIG} says {name} {value:,}, which is too large", kind="arch"
            )
        if name in _TIMM_NAMES and isinstance(value, str) and not re.fullmatch(r"[\w.-]+", value):
            raise RuleError(arch, f"{CONFIG} names {value!r}, which is elsewhere", kind="arch")
    return dict(kept)


def _most(name: str) -> int:
    """Return the largest number that a member may have."""
    if _COUNT.search(name):
        return _MOST_COUNT
    if _BIG.search(name):
        return _MOST_BIG
    return 2**63 if _ANY.search(name) else _MOST_SIZE


def _plain(value: Any) -> Any:
    """Return objects as dictionaries or numbers; parsing has bounded how deep they are."""
    if isinstance(value, Pairs):
        if len(value) == 1 and value[0][0] == _FLOAT and value[0][1] in _FLOATS:
            return float(value[0][1])
        return {name: _plain(each) for name, each in value}
    return [_plain(each) for each in value] if isinstance(value, list) else value


def _without_code(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {
            name: _without_code(each)
            for name, each in value.items()
            if name not in _SELECTING and not name.startswith("_")
        }
    return [_without_code(each) for each in value] if isinstance(value, list) else value


def _members(config: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the name and the value of each member, those of lists under the name of the list."""
    waiting: list[tuple[str, Any]] = list(config.items())
    while waiting:
        name, value = waiting.pop()
        if isinstance(value, Mapping):
            waiting += value.items()
        elif isinstance(value, list):
            waiting += ((name, each) for each in value)
        else:
            yield name, value
