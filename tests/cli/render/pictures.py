"""Pictures of what terminals show: `python -m tests.cli.render.pictures` makes them.

They are to be looked at: a change that makes one of them harder to read is a fault, although
every test passes.
"""

from __future__ import annotations

import contextlib
import io
import os
import tempfile
from pathlib import Path
from unittest.mock import patch

import torch
from safetensors.torch import save_file

from reinit_cli.cli import main

FOLDER = Path(__file__).parent / "golden"

WIDTHS = (80, 100, 160)

RULES = (
    *("-r", "*_proj.weight=kaiming_normal:relu,fan_out"),
    *("-r", "*norm.weight=ones"),
    *("-r", "lm_head.weight=normal:std=0.02"),
)

COMMANDS: dict[str, tuple[str, ...]] = {
    "keys": ("keys", "model.safetensors", "--head", "9"),
    "keys-group": ("keys", "model.safetensors", "--group"),
    "keys-tree": ("keys", "model.safetensors", "--tree"),
    "info": ("info", "model.safetensors"),
    "stats": ("stats", "model.safetensors", "*.{0,31}.*"),
    "diff": ("diff", "model.safetensors", "other.safetensors", "*.{0,31}.*"),
    "models": ("models", "resnet*", "vit*", "keypoint*"),
    "inits": ("inits",),
    "inits-one": ("inits", "kaiming_normal"),
    "draw": ("draw", "xavier_uniform:relu", "3,5"),
    "show": ("show", "model.safetensors", "*.31.self_attn.k_proj.weight"),
    "run": ("model.safetensors", *RULES, "-n"),
    "run-verbose": (
        "model.safetensors",
        "-r",
        "*.31.*_proj.weight=xavier_uniform:relu",
        "-n",
        "-v",
    ),
    "run-several": ("model.safetensors", "other.safetensors", *RULES, "-o", "new/", "-n"),
}
"""Command lines whose output is always the same."""


def make_checkpoints() -> None:
    """Write two checkpoints with the keys and shapes of a small language model."""
    generator = torch.Generator().manual_seed(1)

    def drawn(*shape: int) -> torch.Tensor:
        return (torch.randn(*shape, generator=generator) * 0.02).bfloat16()

    state = {"model.embed_tokens.weight": drawn(320, 32), "lm_head.weight": drawn(320, 32)}
    for layer in range(32):
        at = f"model.layers.{layer}"
        state[f"{at}.self_attn.q_proj.weight"] = drawn(32, 32)
        state[f"{at}.self_attn.k_proj.weight"] = drawn(8, 32)
        state[f"{at}.mlp.gate_proj.weight"] = drawn(96, 32)
        state[f"{at}.mlp.down_proj.weight"] = drawn(32, 96)
        state[f"{at}.input_layernorm.weight"] = torch.ones(32).bfloat16()
        state[f"{at}.post_attention_layernorm.weight"] = torch.ones(32).bfloat16()
    save_file(state, "model.safetensors")
    state["model.layers.31.mlp.down_proj.weight"] *= 2
    state["model.layers.0.input_layernorm.weight"][3] = torch.nan
    save_file(state, "other.safetensors")


class Terminal(io.StringIO):
    """Standard output that says it is a terminal."""

    encoding = "utf-8"  # type: ignore[assignment]  # of StringIO it is None

    def isatty(self) -> bool:
        return True


def shown(args: tuple[str, ...], columns: int, *, has_color: bool = False) -> str:
    """Return what a terminal of some width shows of a command line."""
    terminal = Terminal()
    variables = {"COLUMNS": str(columns), "TERM": "xterm", "PAGER": "cat"}
    colors = dict.fromkeys(("NO_COLOR", "FORCE_COLOR", "CLICOLOR", "CLICOLOR_FORCE"), "")
    with (
        patch.dict(os.environ, variables | colors | ({} if has_color else {"NO_COLOR": "1"})),
        contextlib.redirect_stdout(terminal),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        main(args)
    return terminal.getvalue()


def picture(name: str, columns: int) -> str:
    """Return a command and what a terminal of some width shows."""
    return f"$ reinit {' '.join(COMMANDS[name])}\n{shown(COMMANDS[name], columns)}"


def make_all() -> None:
    """Make all pictures again."""
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        make_checkpoints()
        for name in COMMANDS:
            for width in WIDTHS:
                (FOLDER / f"{name}-{width}.txt").write_text(picture(name, width))


if __name__ == "__main__":
    make_all()
