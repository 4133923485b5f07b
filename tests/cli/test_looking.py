"""`keys`, `inits`, `draw`, `models`: looking without changing anything."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from itertools import groupby
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from reinit_cli import __version__, seed_for
from tests.cli.conftest import Done


def test_keys_in_a_pipe_are_one_to_a_line(reinit: Callable[..., Done], checkpoint: Path) -> None:
    with safe_open(checkpoint, "pt") as file:
        expected = set(file.keys())

    done = reinit("keys", "model.safetensors")

    assert (done.code, done.err) == (0, "")
    assert set(done.out.splitlines()) == expected


def test_keys_are_those_that_match_any_pattern(
    reinit: Callable[..., Done], checkpoint: Path
) -> None:
    done = reinit("keys", "model.safetensors", "*.bias", "features.*")

    assert sorted(done.out.splitlines()) == [
        "classifier.bias",
        "features.0.bias",
        "features.0.weight",
    ]


def test_keys_as_json_have_a_line_each(reinit: Callable[..., Done], checkpoint: Path) -> None:
    done = reinit("keys", "model.safetensors", "classifier.weight", "--json")

    assert json.loads(done.out) == {
        "key": "classifier.weight",
        "shape": [10, 8],
        "dtype": "bfloat16",
        "nbytes": 160,
        "alias_of": None,
        "is_buffer": False,
    }


def test_hostile_keys_are_raw_in_a_pipe_and_end_with_nul_if_asked(
    reinit: Callable[..., Done],
) -> None:
    save_file({"a\nb\x1b[31m": torch.zeros(1)}, "hostile.safetensors")

    assert reinit("keys", "hostile.safetensors", "-0").out == "a\nb\x1b[31m\0"


def test_keys_of_a_model_need_no_weights(reinit: Callable[..., Done]) -> None:
    done = reinit("keys", "alexnet", "features.*.weight")

    assert done.out.splitlines() == [f"features.{layer}.weight" for layer in (0, 3, 6, 8, 10)]


def test_the_version_is_the_package_s(reinit: Callable[..., Done]) -> None:
    assert reinit("--version") == Done(0, f"reinit {__version__}\n", "")


def test_inits_lists_every_initializer(reinit: Callable[..., Done]) -> None:
    from reinit_cli.initializers import REGISTRY

    done = reinit("inits")

    header, *rows = done.out.splitlines()
    assert header == "purpose\tname\tsummary\targuments\tdefined for\tlaw"
    assert sorted(row.split("\t")[1] for row in rows) == sorted(each.name for each in REGISTRY)


def test_inits_lists_what_serves_one_purpose_together(reinit: Callable[..., Done]) -> None:
    rows = [row.split("\t")[:2] for row in reinit("inits").out.splitlines()[1:]]

    purposes = [purpose for purpose, _ in groupby(row[0] for row in rows)]
    assert len(purposes) == len(set(purposes)) == 6
    found = {name: purpose for purpose, name in rows}
    assert found["xavier_normal"] == found["kaiming_uniform"] != found["normal"]
    assert found["zeros"] == found["prior_bias"] == "Fill with one value"


def test_inits_explains_one(reinit: Callable[..., Done]) -> None:
    assert reinit("inits", "he_uniform").out == (
        "name\tkaiming_uniform or he_uniform\n"
        "summary\tPreserve variance through ReLU, forward (fan_in) or backward.\n"
        "law\tU(-bound, bound), bound = gain·√(3 / fan)\n"
        "defined for\t2 dimensions or more; any with fan\n"
        "argument\ta: a number\n"
        "argument\tmode=fan_in: one of fan_in, fan_out, fan_avg, fan_geo_avg\n"
        "argument\tnonlinearity=leaky_relu: a number of at least 0 or a nonlinearity (linear, "
        "conv1d, conv2d, conv3d, conv_transpose1d, conv_transpose2d, conv_transpose3d, sigmoid, "
        "tanh, relu, selu, leaky_relu, gelu, silu, mish, elu, softplus, hardswish, hardtanh, "
        "softsign, relu6)\n"
        "argument\tfan: an integer of at least 1; replaces both fans for any shape\n"
        "argument\tgroups=1: an integer of at least 1; for a grouped convolution: divides fan_out "
        "(its fan_in is already per group)\n"
        "argument\ttransposed=false: true or false; for a transposed convolution, whose weight is "
        "(in, out / groups, *kernel)\n"
        "argument\taxes: a letter for each dimension: o output, i input, k kernel, b a stack of "
        "matrices; oi is torch's Linear, io its transpose, bio a stack of experts\n"
        "argument\tndim: an integer of at least 0; match only tensors with this many dimensions\n"
        "argument\tmin_ndim=0: an integer of at least 0; match only tensors with at least this many\n"
        "argument\tkeep_zeros=false: true or false; keep the zeros of the source\n"
        "paper\tHe, Zhang, Ren & Sun 2015, Delving deep into rectifiers: surpassing human-level "
        "performance on ImageNet classification, ICCV\n"
        'example\treinit SOURCE -r "*.weight=kaiming_uniform:a=2.2360679"\n'
    )


def test_draw_shows_the_fans_that_were_used(reinit: Callable[..., Done]) -> None:
    form = json.loads(reinit("draw", "xavier_uniform:axes=bio", "2,3,5", "--json").out)

    (step,) = form["tensors"]
    assert (step["fan_in"], step["fan_out"]) == (3, 5)
    assert step["law"]["high"] == pytest.approx((6 / 8) ** 0.5)
    assert form["rule"] == [
        {"match": "weight", "init": "xavier_uniform", "gain": 1.0, "axes": "bio"}
    ]
    assert "\nfan_in\t4\nfan_out\t2\n" in reinit("draw", "icnr", "8,4").out


USED = {
    "mamba_a": ["layers.0.mixer.A_log"],
    "mamba_dt": ["layers.0.mixer.dt_proj.bias"],
    "prior_bias": ["head.cls_logits.bias"],
    "bilinear": ["upscore2.weight"],
    "lora_orthogonal": ["q_proj.lora_A.weight", "q_proj.lora_B.weight"],
    "mean": ["embed_tokens.weight"],
}
"""What the example of an initializer fills, of a file that has all of these."""


@pytest.mark.parametrize("name", USED)
def test_the_example_of_an_initializer_fills_what_it_is_for(
    name: str, reinit: Callable[..., Done]
) -> None:
    state = {key: torch.zeros(4, 4) for keys in USED.values() for key in keys}
    state |= {"head.cls_logits.bias": torch.zeros(9), "fc.weight": torch.zeros(4, 4)}
    state |= {"layers.0.mixer.dt_proj.bias": torch.zeros(9)}
    state |= {"upscore2.weight": torch.zeros(4, 4, 4, 4)}
    save_file(state, "all.safetensors")
    shown = reinit("inits", name).out.splitlines()[-1]
    program, source, *options = shlex.split(shown.removeprefix("example\t"))
    assert (program, source) == ("reinit", "SOURCE")

    done = reinit("all.safetensors", *options, "-n", "--json")

    steps = json.loads(done.out)["tensors"]
    assert [each["key"] for each in steps if each["action"] in ("fill", "resize")] == USED[name]


def test_inits_as_json_have_a_version(reinit: Callable[..., Done]) -> None:
    form = json.loads(reinit("inits", "sparse", "--json").out)

    assert form["version"] == 1
    assert [argument["name"] for argument in form["initializers"][0]["arguments"]] == [
        "sparsity",
        "std",
        "ndim",
        "min_ndim",
        "keep_zeros",
    ]


def test_draw_prints_the_tensor_that_a_rewrite_would_write(reinit: Callable[..., Done]) -> None:
    generator = torch.Generator().manual_seed(seed_for(0, "weight"))
    expected = torch.nn.init.xavier_uniform_(torch.empty(3, 5), gain=2**0.5, generator=generator)

    done = reinit("draw", "xavier_uniform:relu", "3,5", "--stream=torch")

    tensor, facts = done.out.split("\n\n") if "\n\n" in done.out else (done.out[:0], done.out)
    assert str(expected) in done.out
    assert dict(line.split("\t") for line in facts.splitlines() if "\t" in line) == {
        "initializer": "xavier_uniform relu (gain 1.414)",
        "shape": "3x5, float32",
        "fan_in": "5",
        "fan_out": "3",
        "gain": "1.4142",
        "bound": "1.2247",
        "std": f"0.70711 expected, {expected.std(correction=0).item():.5g} drawn",
        "seed": f"0 (stream torch-1), key weight, generator {seed_for(0, 'weight')}",
    }, tensor


@pytest.mark.parametrize("shape", ["2,3", "2x3", "(2, 3)", "[2,3]"])
def test_draw_takes_a_shape_as_people_write_it(shape: str, reinit: Callable[..., Done]) -> None:
    form = json.loads(reinit("draw", "ones", shape, "--dtype", "bfloat16", "--json").out)

    assert form["values"] == [[1, 1, 1], [1, 1, 1]]
    assert form["tensors"][0]["dtype"] == "bfloat16"


def test_draw_takes_a_scalar_and_a_key_with_wild_characters(reinit: Callable[..., Done]) -> None:
    form = json.loads(
        reinit("draw", "normal", "scalar", "--key", "a[*]{b}?", "--json", "--stream=torch").out
    )

    generator = torch.Generator().manual_seed(seed_for(0, "a[*]{b}?"))
    assert form["values"] == torch.empty(()).normal_(generator=generator).item()


def test_models_are_listed_by_glob(reinit: Callable[..., Done]) -> None:
    done = reinit("models", "alex*", "resnet18")

    assert done.out == (
        "name\tkind\tparameters\tfile\tweights (default first)\n"
        "alexnet\tclassification\t61100840\t244409434\tIMAGENET1K_V1\n"
        "resnet18\tclassification\t11689512\t46830453\tIMAGENET1K_V1\n"
    )


@pytest.mark.slow
def test_models_lists_all_of_torchvision(reinit: Callable[..., Done]) -> None:
    import torchvision

    form = json.loads(reinit("models", "--json").out)

    assert form["version"] == 1
    assert [model["name"] for model in form["models"]] == torchvision.models.list_models()


_NO_ROOT = "warning: --root has no effect: 'model.safetensors' has no nested state dict\n"


@pytest.mark.usefixtures("checkpoint")
@pytest.mark.parametrize(
    "command",
    [
        ["keys", "model.safetensors"],
        ["keys", "model.safetensors", "--meta"],
        ["info", "model.safetensors"],
        ["show", "model.safetensors", "norm.weight"],
        ["stats", "model.safetensors"],
        ["run", "model.safetensors", "-r", "classifier.bias=zeros", "-n"],
    ],
)
def test_a_path_of_a_state_dict_that_nothing_can_have_is_not_ignored_in_silence(
    command: list[str], reinit: Callable[..., Done]
) -> None:
    expected = reinit(*command)
    done = reinit(*command, "--root", "model_ema")

    assert done.code == 0
    assert done.out.splitlines()[:4] == expected.out.splitlines()[:4]
    assert done.err == _NO_ROOT + expected.err


@pytest.mark.usefixtures("checkpoint")
def test_one_of_two_sources_may_lack_the_path_and_so_may_the_source_of_a_dcp_folder(
    reinit: Callable[..., Done],
) -> None:
    state = load_file("model.safetensors")
    torch.save({"model": {"other": torch.ones(3)}, "model_ema": state}, "run.pt")
    to_dcp = ("model.safetensors", "--to", "dcp", "--root", "model", "-n")

    same = reinit("diff", "run.pt", "model.safetensors", "--root", "model_ema")

    assert (same.code, "no effect" in same.err) == (0, False)
    assert "no effect" not in reinit("run", *to_dcp).err
    assert "no effect" in reinit("diff", *["model.safetensors"] * 2, "--root", "a").err


def test_an_initializer_that_changes_values_cannot_be_drawn_alone(
    reinit: Callable[..., Done],
) -> None:
    done = reinit("draw", "shuffle", "3,5")

    said = "error: shuffle changes existing values, and a drawn tensor has none"
    assert (done.code, done.err.splitlines()[0]) == (2, said)


@pytest.mark.parametrize("command", ["keys", "stats", "show"])
@pytest.mark.usefixtures("checkpoint")
def test_a_second_file_is_answered_with_the_command_that_compares_two(
    command: str, reinit: Callable[..., Done]
) -> None:
    Path("other.safetensors").write_bytes(Path("model.safetensors").read_bytes())
    hint = reinit(command, "model.safetensors", "other.safetensors").err.splitlines()[-1]

    meant = ("diff", "model.safetensors", "other.safetensors")
    assert hint == f"hint: to compare two files, type: reinit {' '.join(meant)}"
    assert reinit(*meant).code == 0


def test_who_finds_no_model_learns_where_those_of_timm_are_listed(
    reinit: Callable[..., Done],
) -> None:
    done = reinit("models", "timm")

    assert done.code == 1
    assert done.err.endswith("torchvision, and reinit models timm: those of timm\n")
