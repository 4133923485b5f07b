"""Read the names of timm's models without importing timm, which takes seconds."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

_REGISTERED = re.compile(r"^@register_model\ndef (\w+)\(", re.MULTILINE)
"""How timm's modules say which of their functions are models."""


_TAGGED = r"^ +['\"]{}\.([\w.]+)['\"] *: "
"""How the modules write the tags of a model, of which each has a configuration."""


def timm_names_in_source() -> list[str]:
    """Return the names that timm's modules register; none where it is not installed."""
    return sorted(name for text in _source_texts() for name in _REGISTERED.findall(text))


def timm_tags_in_source(name: str) -> list[str]:
    """Return the tags of a model, as far as timm's modules can be read; `tags_of` knows."""
    tagged = re.compile(_TAGGED.format(re.escape(name)), re.MULTILINE)
    return [tag for text in _source_texts() for tag in tagged.findall(text)]


def _source_texts() -> Iterator[str]:
    spec = find_spec("timm")
    for folder in (spec and spec.submodule_search_locations) or ():
        for path in Path(folder, "models").glob("*.py"):
            with suppress(OSError, UnicodeDecodeError):
                yield path.read_text(encoding="utf-8")
