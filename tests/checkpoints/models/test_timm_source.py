"""Models of timm as sources: built offline, and with the weights that timm itself would load."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from reinit_cli import rewrite
from reinit_cli.checkpoints.find import find_source
from reinit_cli.checkpoints.models.timm_names import timm_names_in_source, timm_tags_in_source
from reinit_cli.cli import main
from reinit_cli.errors import PackageError, SourceError, SourceNotFoundError, UnknownNameError
from tests.pages import ROOT
from tests.tools import package

pytestmark = pytest.mark.slow  # timm takes seconds to import

_COMMIT = "a" * 40
_TINY = "test_vit.r160_in1k"


@pytest.fixture(autouse=True)
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the Hub, and no network."""
    constants = package("huggingface_hub.constants")
    cache = tmp_path / "hub"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return cache


def _cache(hub: Path, name: str, state: Any, file: str = "model.safetensors") -> Path:
    """Put a file of weights where the Hub's own code would have downloaded it for timm."""
    folder = hub / f"models--timm--{name}"
    for each in ("refs", f"snapshots/{_COMMIT}"):
        (folder / each).mkdir(parents=True, exist_ok=True)
    (folder / "refs" / "main").write_text(_COMMIT)
    path = folder / "snapshots" / _COMMIT / file
    if file.endswith(".safetensors"):
        save_file(state, path)
    else:
        torch.save(state, path)
    return path


def _state(name: str) -> dict[str, torch.Tensor]:
    """Other values than a model starts with, so that no constructor makes them by chance."""
    state = package("timm").create_model(name).state_dict()
    generator = torch.Generator().manual_seed(1)
    return {
        key: torch.randn(each.shape, generator=generator) if each.is_floating_point() else each
        for key, each in state.items()
    }


def _loaded_by_timm(name: str) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = (
        package("timm").create_model(name, pretrained=True).state_dict()
    )
    return state


def _assert_equal(written: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> None:
    assert written.keys() == wanted.keys()
    for key, values in wanted.items():
        assert written[key].dtype == values.dtype, key
        assert torch.equal(written[key], values), key


def _as_it_is(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return state


def _in_halves(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {key: each.half() for key, each in state.items()}


def _of_larger_images(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    there = state["pos_embed"]
    first, width = there[:, :1], there.shape[2]
    return {**state, "pos_embed": torch.cat([first, torch.randn(1, 144, width)], 1)}


@pytest.mark.parametrize("file", ["model.safetensors", "pytorch_model.bin"])
@pytest.mark.parametrize("change", [_as_it_is, _in_halves, _of_larger_images])
def test_pretrained_weights_are_those_that_timm_loads(
    hub: Path, file: str, change: Callable[[Any], Any]
) -> None:
    _cache(hub, _TINY, change(_state(_TINY)), file)

    rewrite("timm:test_vit", [], "all.safetensors")

    _assert_equal(load_file("all.safetensors"), _loaded_by_timm(_TINY))


def test_weights_of_another_layout_are_renamed_as_timm_does(hub: Path) -> None:
    state = _state("test_convnext")
    old = {_as_facebook_had_it(key): each for key, each in state.items()}
    _cache(hub, "test_convnext.r160_in1k", {"model": old}, "pytorch_model.bin")

    outcome = rewrite("timm:test_convnext", "stem.0.bias=zeros", "new.safetensors")

    wanted = _loaded_by_timm("test_convnext.r160_in1k")
    assert torch.equal(
        wanted["stages.1.downsample.1.weight"], state["stages.1.downsample.1.weight"]
    )
    wanted["stem.0.bias"] = torch.zeros_like(wanted["stem.0.bias"])
    _assert_equal(load_file("new.safetensors"), wanted)
    (warning,) = outcome.job.plan.warnings
    assert "timm converts them as it loads them" in warning


def _as_facebook_had_it(key: str) -> str:
    """Return what a tensor of ConvNeXt was called before timm renamed it."""
    key = re.sub(r"^stem\.", "downsample_layers.0.", key)
    key = re.sub(r"^stages\.(\d)\.downsample\.", r"downsample_layers.\1.", key)
    key = key.replace("head.norm.", "norm.").replace("head.fc.", "head.")
    return key.replace(".blocks.", ".").replace("conv_dw", "dwconv").replace("mlp.fc", "pwconv")


def test_a_norm_that_the_weights_lack_starts_as_timm_has_it(hub: Path) -> None:
    state = _state("convnextv2_atto.fcmae")
    del state["head.norm.weight"], state["head.norm.bias"]  # as the weights of an encoder alone
    _cache(hub, "convnextv2_atto.fcmae", state)

    rewrite("timm:convnextv2_atto.fcmae", [], "new.safetensors")

    written = load_file("new.safetensors")
    _assert_equal(written, _loaded_by_timm("convnextv2_atto.fcmae"))
    assert written["head.norm.weight"].eq(1).all()


def test_weights_at_a_url_are_those_in_the_cache_of_torch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _at_url(monkeypatch, "https://127.0.0.1:9/tiny-0000.pth")
    path = Path(torch.hub.get_dir(), "checkpoints", "tiny-0000.pth")
    path.parent.mkdir(parents=True)
    state = _state(_TINY)
    torch.save({"state_dict": state, "epoch": 3}, path)

    assert find_source("timm:test_vit").reads == (str(path),)
    rewrite("timm:test_vit", [], "all.safetensors")

    _assert_equal(load_file("all.safetensors"), state)


def _at_url(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    registry = package("timm").models._registry
    for name in ("test_vit", _TINY):
        known = registry._model_pretrained_cfgs[name]
        there = replace(known, url=url, hf_hub_id=None)
        monkeypatch.setitem(registry._model_pretrained_cfgs, name, there)


def test_weights_that_lack_a_tensor_are_refused_where_timm_would_leave_it_random(
    hub: Path,
) -> None:
    state = _state("dla46x_c.in1k")  # timm loads those of dla leniently
    del state["fc.weight"]
    path = _cache(hub, "dla46x_c.in1k", state)

    with pytest.raises(SourceError) as refused:
        rewrite("timm:dla46x_c", ["*.bias=zeros"], "new.safetensors")

    assert str(refused.value) == (
        f"{str(path)!r} does not hold the weights of timm:dla46x_c: 1 key ('fc.weight') missing"
    )
    assert not Path("new.safetensors").exists()


def test_other_weights_in_the_cache_are_one_error(hub: Path) -> None:
    path = _cache(hub, _TINY, {"other": torch.zeros(1)})

    with pytest.raises(SourceError, match="does not hold the weights of timm:test_vit") as refused:
        rewrite("timm:test_vit", ["*.bias=zeros"])

    assert str(path) in str(refused.value)
    assert "\n" not in str(refused.value)


class Touch:
    """Writes a file when it is unpickled."""

    def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
        return Path.touch, (Path("touched"),)  # type: ignore[return-value]


def test_nothing_in_a_file_of_weights_is_executed(hub: Path) -> None:
    state = _state(_TINY)
    _cache(hub, _TINY, {"state_dict": state, "args": Touch()}, "pytorch_model.bin")

    rewrite("timm:test_vit", [], "all.safetensors")

    _assert_equal(load_file("all.safetensors"), state)
    assert not Path("touched").exists()


def test_weights_that_cannot_be_had_are_an_error_that_names_what_downloads_them(
    hub: Path,
) -> None:
    with pytest.raises(SourceNotFoundError) as refused:
        rewrite("timm:resnet50.a1_in1k", ["*.bias=zeros"])

    place = hub / "models--timm--resnet50.a1_in1k"
    assert str(refused.value).startswith(
        f"the pretrained weights of timm:resnet50.a1_in1k are not at {str(place)!r} "
        "and cannot be downloaded ("
    )
    assert "hf download timm/resnet50.a1_in1k" in refused.value.hint
    assert [*Path().iterdir()] == []


def test_keys_and_plans_need_no_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a download")

    monkeypatch.setattr(package("timm").models._hub, "hf_hub_download", refuse)
    state = package("timm").create_model("resnet50d").state_dict()

    source = find_source("timm:resnet50d")

    assert {each.key: each.shape for each in source.tensors} == {
        key: tuple(each.shape) for key, each in state.items()
    }
    assert source.weights == package("timm").get_pretrained_cfg("resnet50d").tag
    assert main(["timm:resnet50d", "-r", "fc.*=zeros", "-n"]) == 0


def test_a_model_without_weights_is_drawn_by_the_laws_of_its_constructor() -> None:
    rewrite("timm:resnet18", [], "drawn.safetensors", weights="none", seed=3)
    state = _state("resnet18")
    save_file(state, "other.safetensors")
    rewrite("other.safetensors", "*=default", "same.safetensors", arch="timm:resnet18", seed=3)

    drawn, same = load_file("drawn.safetensors"), load_file("same.safetensors")

    fresh = package("timm").create_model("resnet18").state_dict()
    assert drawn.keys() == fresh.keys()
    for key, values in fresh.items():
        if values.is_floating_point():  # rules leave counters of batches alone
            assert torch.equal(drawn[key], same[key]), key
        if values.numel() > 1000:
            assert drawn[key].std().item() == pytest.approx(values.std().item(), rel=0.1), key


def test_a_file_of_ones_own_is_the_weights_of_a_model_if_every_key_and_shape_fits() -> None:
    state = _state("resnet18")
    save_file(state, "own.safetensors")
    save_file({**state, "fc.bias": torch.ones(3)}, "three.safetensors")

    rewrite("timm:resnet18", "fc.*=default", "new.safetensors", weights="own.safetensors")

    written = load_file("new.safetensors")
    assert torch.equal(written["conv1.weight"], state["conv1.weight"])
    assert written["fc.weight"].abs().max().item() == pytest.approx(1 / 512**0.5, rel=0.01)
    with pytest.raises(SourceError, match=r"of timm:resnet18: 'fc\.bias' is 3, not 1000"):
        find_source("timm:resnet18", "three.safetensors")


def test_a_new_head_gets_as_many_rows_as_there_are_classes(hub: Path) -> None:
    state = _state(_TINY)
    _cache(hub, _TINY, state)

    rewrite("timm:test_vit", [], "ten.safetensors", num_classes=10)

    ten = load_file("ten.safetensors")
    assert ten["head.weight"].shape == (10, state["head.weight"].shape[1])
    assert torch.equal(ten["norm.weight"], state["norm.weight"])


def test_a_record_names_the_model_its_weights_and_timm_and_is_verified(
    hub: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _cache(hub, _TINY, _state(_TINY))
    rewrite("timm:test_vit", "head.*=default", "new.safetensors", record=True)

    code = main(["verify", "new.safetensors", "--source", "timm:test_vit", "--json"])

    verdict = json.loads(capsys.readouterr().out)
    assert code == 0
    assert set(verdict["drawn"]) == {"head.bias", "head.weight"}
    assert verdict["record"]["source"]["name"] == "timm:test_vit"
    assert verdict["record"]["source"]["weights"] == "r160_in1k"
    assert verdict["record"]["arch"] == "timm:test_vit.r160_in1k"
    assert verdict["record"]["constructor"]["package"] == "timm"


def test_kinds_of_layers_are_those_of_the_module(hub: Path) -> None:
    _cache(hub, _TINY, _state(_TINY))

    outcome = rewrite("timm:test_vit", "kind=norm=ones", "new.safetensors")

    keys = {step.key for step in outcome.job.plan.fills}
    assert "norm.weight" in keys
    assert "blocks.0.norm1.weight" in keys


@pytest.mark.parametrize(
    ("name", "weights", "said"),
    [
        ("timm:resnet05", None, "there is no timm model 'resnet05'"),
        ("timm:", None, "there is no timm model ''"),
        ("timm:hf-hub:timm/resnet18", None, "there is no timm model 'hf-hub:timm/resnet18'"),
        ("timm:resnet18.a9", None, "timm:resnet18 has no weights 'a9'; it has a1_in1k, a2_in1k"),
        ("timm:resnet18", "a9", "timm:resnet18 has no weights 'a9'; it has a1_in1k, a2_in1k"),
        ("timm:nfnet_f0", None, "timm:nfnet_f0 has no weights 'DEFAULT'; it has none"),
        ("timm:convnext_tiny_in22ft1k", None, "there is no timm model 'convnext_tiny_in22ft1k'"),
    ],
)
def test_what_timm_does_not_have_is_one_error(name: str, weights: str | None, said: str) -> None:
    with pytest.raises(UnknownNameError) as refused:
        find_source(name, weights)
    assert str(refused.value).startswith(said)


def test_a_tag_in_the_name_and_another_one_in_the_option_are_refused() -> None:
    with pytest.raises(SourceError, match="names its weights, and other weights are asked for"):
        find_source("timm:resnet18.a1_in1k", "a2_in1k")
    assert find_source("timm:resnet18.a2_in1k", "a2_in1k").weights == "a2_in1k"
    assert find_source("timm:resnet18", "resnet18.a2_in1k").weights == "a2_in1k"
    assert find_source("timm:resnet18.a2_in1k", "none").weights == "none"


def test_a_missing_package_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)

    with pytest.raises(PackageError) as refused:
        find_source("timm:resnet18")
    assert str(refused.value) == "the model 'timm:resnet18' needs timm, which is not installed"


def test_names_and_tags_are_read_from_the_source_of_timm() -> None:
    timm = package("timm")

    assert set(timm.list_models()) <= set(timm_names_in_source())
    for name in ("resnet50", "vit_base_patch16_224", "convnext_tiny", "efficientnet_b0"):
        tags = {each.partition(".")[2] for each in timm.models.get_arch_pretrained_cfgs(name)}
        assert set(timm_tags_in_source(name)) == tags, name


@pytest.mark.parametrize(
    ("globs", "names"),
    [
        (["timm:resnet18"], {"timm:resnet18"}),
        (["timm:resnet{18,34}"], {"timm:resnet18", "timm:resnet34"}),
        (["timm:*.dino", "alexnet"], {"alexnet", "timm:vit_small_patch8_224"}),
        (["timm:edgenext_x"], {"timm:edgenext_x_small", "timm:edgenext_xx_small"}),
    ],
)
def test_models_of_timm_are_listed_by_patterns_and_by_parts_of_their_names(
    globs: list[str], names: set[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["models", *globs, "--json"]) == 0

    found = {each["name"]: each for each in json.loads(capsys.readouterr().out)["models"]}
    assert names <= found.keys()
    pretrained = package("timm").list_pretrained()
    for name in names - {"alexnet"}:
        of_timm = [f"{name}.{each}".removeprefix("timm:") for each in found[name]["weights"]]
        assert set(of_timm) == {
            each for each in pretrained if each.startswith(f"{name.removeprefix('timm:')}.")
        }


def test_a_model_of_timm_that_is_misspelled_is_offered(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["models", "timm:resnet05"]) == 1
    assert "reinit models timm:resnet50" in capsys.readouterr().err
    assert main(["keys", "timm:resnet05"]) == 2
    assert "did you mean timm:resnet50" in capsys.readouterr().err


class _Files(BaseHTTPRequestHandler):
    """A Hub that has the files of one repository, and counts who asks."""

    root: Path
    asked: list[str]

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def _answer(self, *, with_body: bool) -> None:
        self.asked.append(f"{self.command} {self.path}")
        path = self.root / self.path.rpartition("/")[2]
        body = path.read_bytes() if path.is_file() else b""
        self.send_response(200 if path.is_file() else 404)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Repo-Commit", _COMMIT)
        if path.is_file():
            self.send_header("ETag", f'"{"b" * 40}"')
        else:
            self.send_header("X-Error-Code", "EntryNotFound")
        self.end_headers()
        if with_body:
            self.wfile.write(body)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[str, Path, list[str]]]:
    root = tmp_path / "served"
    root.mkdir()
    asked: list[str] = []
    handler = type("Handler", (_Files,), {"root": root, "asked": asked})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", root, asked
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("file", ["model.safetensors", "pytorch_model.bin"])
def test_weights_are_downloaded_once_and_by_the_code_of_the_hub(
    served: tuple[str, Path, list[str]], tmp_path: Path, file: str
) -> None:
    url, root, asked = served
    state = _state(_TINY)
    save = save_file if file.endswith(".safetensors") else torch.save
    save(state, root / file)
    environment = {
        **os.environ,
        "HF_ENDPOINT": url,
        "HF_HOME": str(tmp_path / "home"),
        "HF_HUB_DISABLE_XET": "1",
        "PYTHONPATH": str(ROOT),
        "NO_PROXY": "127.0.0.1",
        "no_proxy": "127.0.0.1",
    }
    environment.pop("HF_HUB_OFFLINE", None)

    def run(*args: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "reinit_cli", "timm:test_vit", *args]
        return subprocess.run(command, env=environment, text=True, capture_output=True, check=False)

    planned = run("-r", "head.*=zeros", "-n")
    before = list(asked)
    first = run("-o", "one.safetensors")
    fetched = len(asked)
    second = run("-o", "two.safetensors")

    assert (planned.returncode, first.returncode, second.returncode) == (0, 0, 0), first.stderr
    assert before == []
    assert [each for each in asked if each.startswith("GET /timm/")] == [
        f"GET /timm/test_vit.r160_in1k/resolve/main/{file}"
    ]
    assert len(asked) == fetched
    assert "downloading the weights of timm:test_vit (r160_in1k) to" in first.stderr
    assert "%|" not in first.stderr  # no bar of the Hub's library where nobody looks
    assert "downloading" not in second.stderr
    _assert_equal(load_file("one.safetensors"), state)
    assert Path("one.safetensors").read_bytes() == Path("two.safetensors").read_bytes()
