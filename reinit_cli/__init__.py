"""Re-initialise chosen tensors of a checkpoint and leave everything else as it was.

>>> from reinit_cli import plan
>>> decided = plan("alexnet", ["features.*.weight=xavier_uniform:relu"])
>>> [step.key for step in decided.fills][:2]
['features.0.weight', 'features.3.weight']
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reinit_cli.applying import apply_ as apply_
    from reinit_cli.comparing import diff as diff
    from reinit_cli.errors import ReinitError as ReinitError
    from reinit_cli.initializers import register as register
    from reinit_cli.measuring import stats as stats
    from reinit_cli.rewriting import plan as plan
    from reinit_cli.rewriting import rewrite as rewrite
    from reinit_cli.rules import Rule as Rule
    from reinit_cli.seeds import seed_for as seed_for
    from reinit_cli.verifying import verify as verify

__version__ = "0.1.0"

_HOMES = {
    "ReinitError": "reinit_cli.errors",
    "Rule": "reinit_cli.rules",
    "apply_": "reinit_cli.applying",
    "diff": "reinit_cli.comparing",
    "plan": "reinit_cli.rewriting",
    "register": "reinit_cli.initializers",
    "rewrite": "reinit_cli.rewriting",
    "seed_for": "reinit_cli.seeds",
    "stats": "reinit_cli.measuring",
    "verify": "reinit_cli.verifying",
}
"""Where each public name lives; it is imported when it is first asked for."""

__all__ = [
    "ReinitError",
    "Rule",
    "apply_",
    "diff",
    "plan",
    "register",
    "rewrite",
    "seed_for",
    "stats",
    "verify",
]


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted((*globals(), *_HOMES))
