"""`keys`, `show`, `stats` and `diff` on terminals of several widths."""

from __future__ import annotations

import re

import pytest
import torch
from safetensors.torch import save_file

from tests.cli.terminals import Shown, on_terminal

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def llama() -> None:
    """Two checkpoints with the keys that most language models have; one has a NaN."""
    state = {"model.embed_tokens.weight": torch.ones(32, 8), "lm_head.weight": torch.zeros(32, 8)}
    for at in range(32):
        layer = f"model.layers.{at}"
        state[f"{layer}.self_attn.q_proj.weight"] = torch.eye(8)
        state[f"{layer}.self_attn.k_proj.weight"] = torch.eye(8)
        state[f"{layer}.post_attention_layernorm.weight"] = torch.full((8,), 1.0 + at)
    save_file(state, "a.safetensors")
    state["lm_head.weight"][3, 4] = float("nan")
    save_file(state, "b.safetensors")


LONGEST = "model.layers.31.post_attention_layernorm.weight"


def test_a_tree_of_many_layers_is_a_screen_with_lines() -> None:
    shown = on_terminal("keys", "a.safetensors", "--tree", columns=80, PAGER="cat")

    rows = shown.lines[2 : shown.lines.index("")]
    assert [re.split(r"(?<=\S)  ", line)[0] for line in rows] == [
        "lm_head.weight",
        "model",
        "├─ embed_tokens.weight",
        "└─ layers.{0..31} ×32",
        "   ├─ post_attention_layernorm.weight",
        "   └─ self_attn",
        "      ├─ k_proj.weight",
        "      └─ q_proj.weight",
    ]


def test_a_terminal_of_ascii_has_lines_of_its_own() -> None:
    ascii_alone = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    shown = on_terminal(
        "keys", "a.safetensors", "--tree", "--depth", "2", PAGER="cat", **ascii_alone
    )

    rows = shown.lines[2 : shown.lines.index("")]
    assert [re.split(r"(?<=\S)  ", line)[0] for line in rows] == [
        "lm_head.weight",
        "model",
        "|- embed_tokens.weight",
        "`- layers.{0..31} x32",
    ]


@pytest.mark.parametrize("columns", [20, 80, 160])
@pytest.mark.parametrize(
    "args",
    [
        ("keys", "a.safetensors", LONGEST),
        ("keys", "a.safetensors", "--tree"),
        ("keys", "a.safetensors", "--group"),
        ("stats", "b.safetensors", LONGEST, "lm_head.weight", "--same-range"),
        ("diff", "a.safetensors", "b.safetensors", LONGEST, "lm_head.*", "--all"),
        ("diff", "a.safetensors", "b.safetensors", "--all", "--stat"),
        ("show", "a.safetensors", LONGEST.replace("31", "{30,31}")),
    ],
    ids=" ".join,
)
def test_a_view_fits_the_terminal(args: tuple[str, ...], columns: int) -> None:
    shown = on_terminal(*args, columns=columns, PAGER="cat")

    assert shown.code == (1 if args[0] == "diff" else 0)
    assert max(map(len, shown.lines)) <= columns
    assert "post_attention" in "".join(shown.text.split())  # which may be wrapped


def test_what_is_longer_than_the_screen_is_abbreviated_by_show() -> None:
    save_file({"w": torch.arange(800.0).view(50, 16)}, "w.safetensors")

    def values(*args: str) -> Shown:
        return on_terminal("show", "w.safetensors", "w", *args, PAGER="cat")

    assert any(line.strip() == "...," for line in values().lines)
    assert len(values().lines) < 20
    assert not any("..." in line for line in values("--full").lines)
    assert values().lines[1] == "mean 399.5, std 230.9, min 0, max 799, 1 zero"


def test_what_is_not_finite_has_the_color_of_errors() -> None:
    shown = on_terminal("stats", "b.safetensors", "lm_head.weight", PAGER="cat")

    assert "\x1b[31m1\x1b[0m" in shown.text
