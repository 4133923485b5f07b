"""Say which numbers of tokens lie beyond a new vocabulary."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from reinit_cli.planning.config_sizes import Resized
from reinit_cli.planning.json_edit import Node, objects
from reinit_cli.text import plural

TOKENIZERS = ("tokenizer.json", "vocab.json", "added_tokens.json", "vocab.txt")
"""The files that number tokens."""

_ENDS = ("token_id", "token_ids", "token_index", "suppress_tokens")
"""How the members of configs end that number tokens."""


def token_notes(
    texts: Mapping[str, str], nodes: Mapping[str, Node], resized: Sequence[Resized]
) -> Iterator[str]:
    """Say which tokens of configs and of a tokenizer have no row in a new vocabulary.

    Args:
        texts: the files of a folder, by name.
        nodes: those of them that are configs.
        resized: the tensors of its vocabulary that are resized.
    """
    if not resized:
        return
    least = min(resized, key=lambda each: each.now)
    for file, root in nodes.items():
        for path, node in objects(root):
            for name, member in (node.members or {}).items():
                if name.endswith(_ENDS):
                    beyond = [
                        each for each in _integers(member.value) if least.now <= each < least.was
                    ]
                    if beyond:
                        where = ".".join((*path, name))
                        yield f"{file}: {where} {beyond[0]} is beyond the {least.now} rows of {least.key!r}"
    for file in TOKENIZERS:
        count = _tokens(file, texts[file]) if file in texts else 0
        if count > least.now:
            yield f"{file} has {plural(count, 'token')}, and {least.key!r} now {least.now:,} rows"
            return


def _integers(value: object) -> Iterator[int]:
    """Yield the integers of a value, of a list those in it."""
    values = value if isinstance(value, list) else [value]
    return (each for each in values if isinstance(each, int) and not isinstance(each, bool))


def _tokens(file: str, text: str) -> int:
    """Return how many tokens a file of a tokenizer numbers."""
    if file.endswith(".txt"):
        return len(text.splitlines())
    try:
        form: Any = json.loads(text)
    except RecursionError:
        return 0
    if file != "tokenizer.json":
        return 1 + max(_integers(list(form.values())), default=-1) if isinstance(form, dict) else 0
    if not isinstance(form, dict):
        return 0
    model, added = form.get("model"), form.get("added_tokens")
    vocabulary = model.get("vocab") if isinstance(model, dict) else None
    of_added = added if isinstance(added, list) else []
    ids = [each.get("id") for each in of_added if isinstance(each, dict)]
    if isinstance(vocabulary, dict):
        ids += vocabulary.values()
    count = len(vocabulary) if isinstance(vocabulary, list) else 0
    return max(count, 1 + max(_integers(ids), default=-1))
