"""Say of options what Python calls them, where a text names those of the command line."""

from __future__ import annotations

import re
from dataclasses import replace

from reinit_cli.planning.plan import Plan
from reinit_cli.python.options import RewriteOptions

_FLAG = re.compile(r"(?<![\w-])--([a-z][a-z-]+)")


_OTHERWISE = {"shard-size": "shard_nbytes"}
"""The keywords of options that have another name."""


def in_python(text: str) -> str:
    """Return a text with the keywords of `rewrite` for the options of `reinit run`."""
    return _FLAG.sub(_keyword, text)


def with_words_of_python(plan: Plan) -> Plan:
    """Return a plan whose warnings name keywords."""
    return replace(plan, warnings=tuple(map(in_python, plan.warnings)))


def _keyword(flag: re.Match[str]) -> str:
    name = _OTHERWISE.get(flag[1], flag[1].replace("-", "_"))
    kind = RewriteOptions.__annotations__.get(name)
    if kind is None:
        return flag[0]
    return f"{name}={'True' if _is_flag(kind) else ''}"


def _is_flag(kind: object) -> bool:
    return getattr(kind, "__forward_arg__", kind) in ("bool", bool)
