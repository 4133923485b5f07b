"""Re-initialize chosen tensors of a checkpoint and leave everything else as it was.

>>> import torch
>>> from reinit_cli import apply_
>>> model = torch.nn.Linear(3, 2)
>>> apply_(model, {"weight": "kaiming_normal:relu", "bias": "zeros"})
<Plan for Linear: 2 of 2 tensors filled by 2 rules>
"""

# What a stranger's folder holds next to a checkpoint, such as click.py, must not run: with
# `python -m` the working folder comes first, for every module that is not built in or frozen.
import os
import sys

if getattr(sys, "argv", None) and sys.argv[0] == "-m" and not sys.flags.safe_path:
    _named = "".join(sys.orig_argv[-len(sys.argv) :][:1])  # the word before the arguments
    try:
        _is_first = sys.path[:1] == [os.getcwd()]
    except OSError:  # a folder that was removed is not on the path
        _is_first = False
    # It is NAME, -mNAME or -ImNAME.
    if _is_first and (
        _named in ("reinit_cli", "reinit_cli.__main__")
        or _named[:1] + _named[-11:] == "-mreinit_cli"
    ):
        del sys.path[0]

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reinit_cli.errors import ReinitError as ReinitError
    from reinit_cli.initializers import register as register
    from reinit_cli.python.functions import apply_ as apply_
    from reinit_cli.python.functions import diff as diff
    from reinit_cli.python.functions import plan as plan
    from reinit_cli.python.functions import rewrite as rewrite
    from reinit_cli.python.functions import stats as stats
    from reinit_cli.python.functions import verify as verify
    from reinit_cli.request.rule import Rule as Rule
    from reinit_cli.streams.stream import seed_for as seed_for
    from reinit_cli.version import __version__ as __version__

_HOMES = {
    "ReinitError": "reinit_cli.errors",
    "Rule": "reinit_cli.request.rule",
    "__version__": "reinit_cli.version",
    "apply_": "reinit_cli.python.functions",
    "diff": "reinit_cli.python.functions",
    "plan": "reinit_cli.python.functions",
    "register": "reinit_cli.initializers",
    "rewrite": "reinit_cli.python.functions",
    "seed_for": "reinit_cli.streams.stream",
    "stats": "reinit_cli.python.functions",
    "verify": "reinit_cli.python.functions",
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
    from importlib import import_module as import_module

    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(_HOMES)
