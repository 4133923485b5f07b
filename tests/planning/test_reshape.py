"""First dimensions are resized: heads, vocabularies, numbers of classes."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torchvision.models import get_model

from reinit_cli import plan, rewrite, seed_for
from reinit_cli.errors import (
    OutputUnwritableError,
    RuleError,
    UnknownNameError,
    UnwritableContentError,
)
from reinit_cli.request.resize import Resize
from reinit_cli.streams.stream import DEFAULT_STREAM


def _generator(name: str = "", key: str = "embed.weight") -> torch.Generator:
    return torch.Generator().manual_seed(seed_for(0, key, name))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    generator = torch.Generator().manual_seed(4)
    path = tmp_path / "m.safetensors"
    state = {
        "embed.weight": torch.empty(50, 8).normal_(1, 2, generator=generator),
        "head.weight": torch.empty(50, 8).normal_(generator=generator),
        "head.bias": torch.empty(50).normal_(generator=generator),
        "ids": torch.arange(4),
        "steps": torch.tensor(7),
    }
    save_file(state, path, {"format": "pt", "who": "me"})
    return path


def _rewritten(
    path: Path,
    *resizes: str,
    rules: tuple[str, ...] = (),
    suffix: str = "",
    stream: str = DEFAULT_STREAM,
) -> Path:
    out = path.with_name(f"out{suffix or path.suffix}")
    rewrite(str(path), rules, str(out), resize=resizes, stream=stream)
    return out


def test_fewer_rows_are_the_first_ones(model: Path) -> None:
    before, after = load_file(model), load_file(_rewritten(model, "head.*=10"))

    assert list(after) == list(before)
    assert torch.equal(after["head.weight"], before["head.weight"][:10])
    assert torch.equal(after["head.bias"], before["head.bias"][:10])
    assert torch.equal(after["embed.weight"], before["embed.weight"])


def test_new_rows_are_drawn_as_a_tensor_of_their_own_with_the_fans_of_the_whole(
    model: Path,
) -> None:
    before = load_file(model)

    out = _rewritten(model, "embed.weight=60:xavier_normal", stream="torch")
    after = load_file(out)["embed.weight"]

    std = math.sqrt(2 / (60 + 8))
    expected = torch.empty(10, 8).normal_(0, std, generator=_generator())
    assert torch.equal(after[:50], before["embed.weight"])
    torch.testing.assert_close(after[50:], expected, rtol=1e-6, atol=0)


ELEMENTWISE = (
    "normal:std=2",
    "uniform:-1,3",
    "trunc_normal:std=0.1",
    "kaiming_normal:relu",
    "kaiming_uniform:fan=7",
    "lecun_normal",
    "lecun_uniform",
    "he_truncated",
    "constant:0.5",
)
"""Initializers whose parameters do not depend on the number of rows."""


@pytest.mark.parametrize("init", ELEMENTWISE)
def test_new_rows_of_an_indexed_stream_are_those_that_the_whole_would_have(
    init: str, model: Path
) -> None:
    """So rows that are added later never repeat those before."""
    key, rules = "embed.weight", (f"embed.weight={init}",)
    filled = _rewritten(model, f"{key}=70", rules=rules, suffix=".f.safetensors", stream="philox")
    once = _rewritten(model, f"{key}=60:{init}", suffix=".o.safetensors", stream="philox")
    twice = _rewritten(once, f"{key}=70:{init}", stream="philox")
    named = _rewritten(
        model, f"{key}=70", rules=(f"{key}[50:]={init}",), suffix=".n.safetensors", stream="philox"
    )

    whole = load_file(filled)[key]
    assert torch.equal(load_file(once)[key], torch.cat([load_file(model)[key], whole[50:60]]))
    assert torch.equal(load_file(twice)[key][50:], whole[50:])
    assert torch.equal(load_file(named)[key], load_file(twice)[key])


@pytest.mark.parametrize(
    "init", ["normal", "xavier_normal", "orthogonal", "sparse:0.1", "identity:std=0.1", "mean"]
)
def test_rows_that_are_added_in_two_steps_are_not_the_same(init: str, model: Path) -> None:
    key = "embed.weight"
    first = _rewritten(model, f"{key}=53:{init}", suffix=".1.safetensors", stream="philox")
    second = load_file(_rewritten(first, f"{key}=56:{init}", stream="philox"))[key]

    assert torch.equal(second[:53], load_file(first)[key])
    rows = [tuple(row.tolist()) for row in second]
    assert len(set(rows)) == len(rows)


@pytest.mark.parametrize("init", ["normal", "xavier_uniform", "orthogonal", "sparse:0.1"])
def test_rows_that_are_added_to_a_draw_are_not_its_first(init: str, model: Path) -> None:
    key = "embed.weight"
    drawn = _rewritten(model, rules=(f"{key}={init}",), suffix=".1.safetensors", stream="philox")
    grown = load_file(_rewritten(drawn, f"{key}=53:{init}", stream="philox"))[key]

    assert not any(torch.equal(new, old) for new in grown[50:] for old in grown[:50])


@pytest.mark.parametrize(
    ("init", "parts", "rows"),
    [
        *(("block:parts=2,inner", 2, rows) for rows in (50, 52, 64, 96)),
        *(("icnr:upscale=2,inner", 4, rows) for rows in (52, 64, 96)),
    ],
)
def test_the_fans_of_new_rows_are_those_of_the_whole_whatever_its_size(
    init: str, parts: int, rows: int, model: Path
) -> None:
    """Parts of a multiple of 16 elements are drawn together, with the fans of the whole tensor all the same."""
    save_file({"w": torch.zeros(48, 7)}, model.with_name("s.safetensors"))
    out = _rewritten(model.with_name("s.safetensors"), f"w={rows}:{init}=kaiming_uniform:fan_out")
    new = load_file(out)["w"][48:]

    bound = math.sqrt(6 / (rows // parts))
    assert 0.75 * bound < new.abs().max() <= bound


REPEATED = (
    "the new rows of 'embed.weight'{more} are drawn from the first random numbers of their key: in "
    "torch-1, rows that are added later with the same seed repeat them, and they repeat a draw of "
    "the whole tensor; philox-1 or another seed avoids that"
)


def test_new_rows_of_a_stream_that_is_not_indexed_repeat_others_and_a_warning_says_so(
    model: Path,
) -> None:
    key = "embed.weight"
    first = _rewritten(model, f"{key}=53:normal", suffix=".1.safetensors", stream="torch")
    second = load_file(_rewritten(first, f"{key}=56:normal", stream="torch"))[key]
    assert torch.equal(second[50:53], second[53:])

    def warned(*resizes: str, stream: str = "torch") -> tuple[str, ...]:
        found = plan(str(model), [], resize=resizes, stream=stream).warnings
        return tuple(each for each in found if "new rows" in each)

    assert warned(f"{key}=53:normal") == (REPEATED.format(more=""),)
    assert warned("*.weight=53:mean") == (REPEATED.format(more=" and of 2 other tensors"),)
    assert warned(f"{key}=53:zeros") == warned(f"{key}=40") == ()
    assert warned(f"{key}=53:normal", stream="philox") == ()


def test_a_law_of_rows_and_columns_together_is_made_for_the_new_rows(model: Path) -> None:
    after = load_file(_rewritten(model, "embed.weight=56:orthogonal"))["embed.weight"]

    assert torch.allclose(after[50:] @ after[50:].T, torch.eye(6), atol=1e-5)


def test_a_rule_fills_the_whole_in_its_new_shape(model: Path) -> None:
    rule = "embed.weight=kaiming_normal:fan_out,relu"
    out = _rewritten(model, "embed.weight=60", rules=(rule,), stream="torch")
    after = load_file(out)["embed.weight"]

    expected = torch.nn.init.kaiming_normal_(
        torch.empty(60, 8), mode="fan_out", nonlinearity="relu", generator=_generator()
    )
    assert torch.equal(after, expected)


@pytest.mark.parametrize("layout", ["contiguous", "transposed"])
def test_new_embedding_rows_have_the_mean_of_the_old_and_their_covariance_scaled(
    layout: str, tmp_path: Path
) -> None:
    generator = torch.Generator().manual_seed(2)
    mixing = torch.tensor([[2.0, 1, 0], [0, 1, 0], [0, 0, 0.5]])
    rows = torch.empty(400, 3).normal_(generator=generator) @ mixing + torch.tensor([3.0, -1, 0])
    stored = rows.t().contiguous().t() if layout == "transposed" else rows
    torch.save({"embed.weight": stored}, tmp_path / "m.pt")

    rewrite(
        str(tmp_path / "m.pt"),
        [],
        str(tmp_path / "out.pt"),
        resize=["embed.weight=9400:mean"],
        dtype="float64",
    )
    new = torch.load(tmp_path / "out.pt")["embed.weight"]

    assert torch.equal(new[:400], rows.double())
    # 9000 rows: the sample's mean and covariance lie within a few percent.
    scale = math.sqrt(1e-9)
    torch.testing.assert_close(
        new[400:].mean(0), rows.double().mean(0), rtol=0, atol=5 * scale * 2.3 / math.sqrt(9000)
    )
    expected = torch.cov(rows.double().T, correction=0) * 1e-9
    torch.testing.assert_close(torch.cov(new[400:].T), expected, rtol=0, atol=0.06e-9 * 4)


def test_the_mean_is_the_same_from_any_layout(tmp_path: Path) -> None:
    rows = torch.empty(70, 5).normal_(generator=torch.Generator().manual_seed(1))
    save_file({"embed.weight": rows}, tmp_path / "a.safetensors")
    torch.save({"embed.weight": rows.t().contiguous().t()}, tmp_path / "b.pt")

    for name in ("a.safetensors", "b.pt"):
        out = str(tmp_path / f"out-{name}.safetensors")
        rewrite(str(tmp_path / name), [], out, resize=["embed.weight=73:mean"])

    assert torch.equal(
        *(
            load_file(tmp_path / f"out-{name}.safetensors")["embed.weight"]
            for name in ("a.safetensors", "b.pt")
        )
    )


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize("rows", [3, 50, 55])
def test_tied_tensors_change_together_and_stay_tied(rows: int, suffix: str, tmp_path: Path) -> None:
    weight = torch.empty(50, 4).normal_(generator=torch.Generator().manual_seed(1))
    torch.save(
        {"head.weight": weight, "embed.weight": weight, "b": torch.ones(2)}, tmp_path / "m.pt"
    )

    out = _rewritten(tmp_path / "m.pt", f"head.weight={rows}:ones", suffix=suffix)

    got = torch.load(out) if suffix == ".pt" else load_file(out)
    kept = min(rows, 50)
    expected = torch.cat([weight[:kept], torch.ones(rows - kept, 4)])
    assert torch.equal(got["head.weight"], expected)
    assert torch.equal(got["embed.weight"], expected)
    if suffix == ".pt":
        assert got["embed.weight"].data_ptr() == got["head.weight"].data_ptr()


def test_a_torch_file_is_what_torch_would_save(tmp_path: Path) -> None:
    state = {"fc.weight": torch.ones(10, 3), "fc.bias": torch.ones(10), "x": torch.ones(4)}
    torch.save(state, tmp_path / "m.pt")

    out = _rewritten(tmp_path / "m.pt", "fc.*=4")

    expected = {**state, "fc.weight": torch.ones(4, 3), "fc.bias": torch.ones(4)}
    (tmp_path / "expected").mkdir()
    # The archive keeps the name that it has inside: that of the source when it was saved.
    torch.save(expected, tmp_path / "expected" / "m.pt")
    assert out.read_bytes() == (tmp_path / "expected" / "m.pt").read_bytes()


def test_the_plan_shows_what_a_shape_was(model: Path) -> None:
    decided = plan(str(model), ["head.weight=zeros"], resize=["head.*=60:ones"])

    shown = {step.key: (step.action, step.was, step.tensor.shape) for step in decided.steps}
    assert shown["head.weight"] == ("fill", (50, 8), (60, 8))
    assert shown["head.bias"] == ("resize", (50,), (60,))
    assert shown["embed.weight"] == ("copy", None, (50, 8))


def test_the_last_resize_that_matches_decides(model: Path) -> None:
    after = load_file(_rewritten(model, "head.*=10", "head.bias=20"))

    assert (after["head.weight"].shape[0], after["head.bias"].shape[0]) == (10, 20)


def test_other_content_than_tensors_is_kept_or_named(tmp_path: Path) -> None:
    torch.save({"state_dict": {"w": torch.ones(3, 2)}, "epoch": 3}, tmp_path / "m.pt")

    kept = torch.load(_rewritten(tmp_path / "m.pt", "w=2"))

    assert (kept["epoch"], kept["state_dict"]["w"].shape) == (3, (2, 2))
    with pytest.raises(UnwritableContentError, match="epoch"):
        rewrite(str(tmp_path / "m.pt"), [], str(tmp_path / "m.safetensors"), resize=["w=2"])


@pytest.mark.parametrize(
    ("resizes", "rules", "problem"),
    [
        (["head.*=60"], [], "no initializer for the new rows of 'head.bias'"),
        (["haed.*=60"], [], "matches no key"),
        (["steps=3"], [], "matches no tensor with a first dimension"),
        (["head.*"], [], "needs a size: PATTERN=N"),
        (["head.*=0"], [], "needs a size: PATTERN=N"),
        (["head.*=60:nromal"], [], "unknown initializer 'nromal'"),
        (["head.bias=60:xavier_normal"], [], "cannot fill the new rows of 'head.bias'"),
        (["ids=9:normal:std=1"], [], "int64 takes zeros, ones and constant only"),
        (["head.bias=60:keep"], [], "there is nothing in them yet"),
        (["head.bias=60:shuffle"], [], "there is nothing in them yet"),
        (["head.bias=60"], ["head.bias=scale:2"], "cannot be resized and transformed at once"),
        (["head.bias=60"], ["head.bias=ones:keep_zeros=true"], "resized and transformed"),
        ([], ["head.weight=mean"], "it fills new rows of resize= next to old ones"),
    ],
)
def test_what_cannot_be_is_refused_before_a_byte_is_written(
    resizes: list[str], rules: list[str], problem: str, model: Path
) -> None:
    with pytest.raises((RuleError, UnknownNameError), match=problem):
        rewrite(str(model), rules, str(model.with_name("out.safetensors")), resize=resizes)
    assert not model.with_name("out.safetensors").exists()


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_an_output_that_is_too_large_is_refused(suffix: str, model: Path) -> None:
    with pytest.raises(OutputUnwritableError, match=r"addressed|too large|no space"):
        _rewritten(model, "embed.weight=1000000000000:zeros", suffix=suffix)
    assert [each.name for each in model.parent.iterdir()] == [model.name]


def test_tied_keys_cannot_get_two_sizes(tmp_path: Path) -> None:
    weight = torch.ones(5, 4)
    torch.save({"a": weight, "b": weight}, tmp_path / "m.pt")

    with pytest.raises(RuleError, match="say different things of 'a', which is tied"):
        plan(str(tmp_path / "m.pt"), [], resize=["a=3", "b=4"])


def test_a_key_with_an_equals_sign_can_be_resized() -> None:
    resize = Resize.parse("a=b.weight=12:normal:std=1")

    assert (resize.pattern.text, resize.rows, str(resize.init)) == (
        "a=b.weight",
        12,
        "normal:mean=0.0,std=1.0",
    )


# --- numbers of classes ------------------------------------------------------------------------

HEADS = {
    "alexnet": ["classifier.6.weight", "classifier.6.bias"],
    "densenet121": ["classifier.weight", "classifier.bias"],
    "squeezenet1_0": ["classifier.1.weight", "classifier.1.bias"],
    "vit_b_16": ["heads.head.weight", "heads.head.bias"],
    "googlenet": [
        "aux1.fc2.weight",
        "aux1.fc2.bias",
        "aux2.fc2.weight",
        "aux2.fc2.bias",
        "fc.weight",
        "fc.bias",
    ],
    "fcn_resnet50": [
        "classifier.4.weight",
        "classifier.4.bias",
        "aux_classifier.4.weight",
        "aux_classifier.4.bias",
    ],
    "maskrcnn_resnet50_fpn": [
        "roi_heads.box_predictor.cls_score.weight",
        "roi_heads.box_predictor.cls_score.bias",
        "roi_heads.box_predictor.bbox_pred.weight",
        "roi_heads.box_predictor.bbox_pred.bias",
        "roi_heads.mask_predictor.mask_fcn_logits.weight",
        "roi_heads.mask_predictor.mask_fcn_logits.bias",
    ],
    "r3d_18": ["fc.weight", "fc.bias"],
}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*:UserWarning", "ignore:.*:FutureWarning")
@pytest.mark.parametrize("name", HEADS)
def test_a_model_of_any_kind_gets_a_head_of_so_many_classes(name: str) -> None:
    decided = plan(name, [], weights="none", num_classes=7)
    wanted = get_model(
        name,
        weights=None,
        num_classes=7,
        **({"weights_backbone": None} if "resnet50" in name else {}),
    ).state_dict()

    changed = {step.key: step for step in decided.steps if step.was is not None}
    shapes = {step.key: step.tensor.shape for step in decided.steps}
    assert sorted(changed) == sorted(set(HEADS[name]) & set(shapes))
    assert all(tuple(wanted[key].shape) == shape for key, shape in shapes.items())
    assert {step.action for step in changed.values()} == {"fill"}
    assert {step.action for step in decided.steps if step.was is None} == {"copy"}


def test_a_pretrained_backbone_keeps_its_bytes_under_a_new_head(tmp_path: Path) -> None:
    with torch.random.fork_rng():
        torch.save(get_model("resnet18").state_dict(), tmp_path / "weights.pth")
    before = torch.load(tmp_path / "weights.pth")

    done = rewrite(
        "resnet18",
        [],
        str(tmp_path / "out.pt"),
        weights=str(tmp_path / "weights.pth"),
        num_classes=7,
        check=True,
    )

    after = torch.load(tmp_path / "out.pt")
    assert not done.failures
    assert get_model("resnet18", num_classes=7).load_state_dict(after)
    assert after["fc.weight"].shape == (7, 512)
    assert 0.9 / math.sqrt(512) < after["fc.weight"].abs().max() <= 1 / math.sqrt(512)
    assert all(torch.equal(after[key], before[key]) for key in before if "fc" not in key)


def test_a_rule_may_fill_the_new_head_otherwise(tmp_path: Path) -> None:
    rewrite(
        "resnet18",
        ["fc.bias=zeros"],
        str(tmp_path / "out.safetensors"),
        weights="none",
        num_classes=7,
    )

    after = load_file(tmp_path / "out.safetensors")
    assert after["fc.bias"].tolist() == [0] * 7
    assert after["fc.weight"].any()


@pytest.mark.parametrize("count", [0, -3])
def test_a_head_has_at_least_a_class(count: int) -> None:
    with pytest.raises(RuleError, match="at least a class"):
        plan("resnet18", [], weights="none", num_classes=count)


def test_a_new_head_is_not_a_rule_of_the_user() -> None:
    decided = plan("resnet18", ["fc.bias=zeros", "bn1.bias=ones"], weights="none", num_classes=7)

    steps = {step.key: (step.rule, step.head) for step in decided.fills}
    assert steps["fc.weight"] == (None, "fc.weight")
    assert steps["fc.bias"] == (0, "")
    assert steps["bn1.bias"] == (1, "")
    assert [rule.text for rule in decided.rules] == ["fc.bias=zeros", "bn1.bias=ones"]
    assert decided.heads == ("fc.weight", "fc.bias")
    assert decided.warnings == ("'fc.bias' of the new head follows your rule, not its constructor",)


def test_a_head_with_the_same_number_of_classes_is_drawn_again() -> None:
    decided = plan("resnet18", [], weights="none", num_classes=1000)

    assert [step.key for step in decided.fills] == ["fc.weight", "fc.bias"]


@pytest.mark.parametrize("prefix", ["", "module.", "backbone.net."])
def test_a_checkpoint_of_a_named_model_gets_a_new_head_under_any_prefix(
    prefix: str, tmp_path: Path
) -> None:
    with torch.random.fork_rng():
        state = get_model("resnet18", num_classes=4).state_dict()
    path = tmp_path / "m.pt"
    torch.save({prefix + key: value for key, value in state.items()}, path)

    decided = plan(str(path), [], arch="resnet18", num_classes=7)

    assert {step.key: step.tensor.shape for step in decided.fills} == {
        f"{prefix}fc.weight": (7, 512),
        f"{prefix}fc.bias": (7,),
    }


def test_a_checkpoint_without_the_head_of_its_model_is_refused(model: Path) -> None:
    with pytest.raises(RuleError, match="has no head of resnet18"):
        plan(str(model), [], arch="resnet18", num_classes=7)


def test_what_has_no_classes_is_refused(model: Path) -> None:
    with pytest.raises(RuleError, match="'raft_small' tells no classes apart"):
        plan("raft_small", [], weights="none", num_classes=7)
    with pytest.raises(RuleError, match="name its model with arch="):
        plan(str(model), [], num_classes=7)


@pytest.mark.parametrize(
    ("resize", "hint"),
    [
        ("half=9:normal:std=1e6", "saturate=True makes them the largest numbers of the dtype"),
        ("full=9:constant:1e39", "give them another initializer"),
        ("full=9:bilinear", "give them another initializer"),
        ("empty=9:mean", "give them another initializer"),
        ("full=9", "write it as 'PATTERN=N:INIT', such as 'embed.weight=50300:mean'"),
    ],
)
def test_new_rows_that_cannot_be_filled_come_with_a_way_on(
    resize: str, hint: str, tmp_path: Path
) -> None:
    state = {
        "half": torch.zeros(4, 4).half(),
        "full": torch.zeros(4, 4),
        "empty": torch.zeros(0, 4),
    }
    save_file(state, tmp_path / "m.safetensors")

    with pytest.raises(RuleError) as error:
        rewrite(tmp_path / "m.safetensors", [], tmp_path / "o.safetensors", resize=[resize])

    assert error.value.hint == hint
