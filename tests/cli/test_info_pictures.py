"""What a summary looks like on terminals of several widths."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tests.cli.terminals import on_terminal

LAYER = {
    "input_layernorm.weight": (16,),
    "mlp.down_proj.weight": (16, 40),
    "mlp.gate_proj.weight": (40, 16),
    "mlp.up_proj.weight": (40, 16),
    "post_attention_layernorm.weight": (16,),
    "self_attn.k_proj.weight": (8, 16),
    "self_attn.o_proj.weight": (16, 16),
    "self_attn.q_proj.weight": (16, 16),
    "self_attn.rotary_emb.inv_freq": (4,),
    "self_attn.v_proj.weight": (8, 16),
}
"""What a layer of Llama has."""


@pytest.fixture(autouse=True)
def _llama() -> None:
    layers = {f"model.layers.{at}.{name}": LAYER[name] for at in range(32) for name in LAYER}
    shapes = {
        "model.embed_tokens.weight": (1000, 16),
        **layers,
        "model.norm.weight": (16,),
        "lm_head.weight": (1000, 16),
    }
    state = {key: torch.zeros(shape, dtype=torch.bfloat16) for key, shape in shapes.items()}
    save_file(state, "llama.safetensors", metadata={"format": "pt"})


PICTURE = """\
source           llama.safetensors
format           safetensors, {size} on disk
holds            323 tensors, 119,056 parameters, 128 in buffers, 238.4 kB
dtypes           bfloat16
metadata format  pt

module                tensors  parameters  buffers     bytes
────────────────────  ───────  ──────────  ───────  ────────
lm_head                     1      16,000            32.0 kB
model.embed_tokens          1      16,000            32.0 kB
model.layers.{{0..31}}      320      87,040      128  174.3 kB
model.norm                  1          16               32 B

largest tensors                               shape    parameters    bytes
────────────────────────────────────────────  ───────  ──────────  ───────
model.layers.{{0..31}}.mlp.down_proj.weight     16x40        20,480  41.0 kB
model.layers.{{0..31}}.mlp.gate_proj.weight     40x16        20,480  41.0 kB
model.layers.{{0..31}}.mlp.up_proj.weight       40x16        20,480  41.0 kB
lm_head.weight                                1000x16      16,000  32.0 kB
model.embed_tokens.weight                     1000x16      16,000  32.0 kB
model.layers.{{0..31}}.self_attn.o_proj.weight  16x16         8,192  16.4 kB
model.layers.{{0..31}}.self_attn.q_proj.weight  16x16         8,192  16.4 kB
model.layers.{{0..31}}.self_attn.k_proj.weight  8x16          4,096   8.2 kB
… 5 more                                                    5,136  10.5 kB

not shown  count, buffers (add --wide)

next
  reinit keys llama.safetensors --tree
  reinit stats llama.safetensors 'model.layers.{{0..31}}.mlp.down_proj.weight'
  reinit llama.safetensors -r lm_head.weight=normal:std=0.02 -n
"""


def test_a_summary_fits_80_columns() -> None:
    size = f"{Path('llama.safetensors').stat().st_size / 1000:.1f} kB"
    shown = on_terminal("llama.safetensors", columns=80, rows=60)

    assert "\n".join(shown.lines) + "\n" == PICTURE.format(size=size)
    assert max(map(len, shown.lines)) <= 80


@pytest.mark.parametrize("columns", [20, 100, 160])
def test_a_summary_fits_other_terminals(columns: int) -> None:
    lines = on_terminal("llama.safetensors", columns=columns, rows=400).lines

    at = lines.index("next")
    assert max(map(len, lines[:at])) <= columns
    # Commands are not wrapped, so that they can be copied.
    assert lines[at + 1] == "  reinit keys llama.safetensors --tree"
