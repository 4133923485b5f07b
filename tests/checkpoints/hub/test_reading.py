"""`hf://ORG/MODEL`: headers by ranges, weights through the Hub's own cache."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import reinit_cli
from reinit_cli.storage.hub import downloads
from reinit_cli.storage.hub.store import hub_store
from tests.checkpoints.hub.mock import MockHub, Server, commit_of
from tests.checkpoints.hub.models import one_file, sharded
from tests.cli.conftest import Done
from tests.tools import package

ONE = "hf://org/one"
FOUR = "hf://org/four"
INDEX = "model.safetensors.index.json"
ZEROS = ("-r", "layers.0.weight=zeros")


@pytest.fixture
def one(hub: MockHub, tmp_path: Path) -> MockHub:
    """A model of one file of 400 kB."""
    hub.add("org/one", one_file(tmp_path / "one"))
    return hub


@pytest.fixture
def four(hub: MockHub, tmp_path: Path) -> MockHub:
    """A model of four files of 100 kB."""
    hub.add("org/four", sharded(tmp_path / "four"))
    return hub


def _cached(tmp_path: Path) -> set[str]:
    """Return the names of the files in the cache."""
    snapshots = (tmp_path / "home").glob("hub/models--*/snapshots/*/**/*")
    return {path.name for path in snapshots if path.is_file()}


LOOKS = {
    "keys": ("keys", ONE),
    "keys -l": ("keys", ONE, "-l"),
    "info": ("info", ONE),
    "a dry run": (ONE, "-r", "lm_head.weight=zeros", "--dry-run"),
}


@pytest.mark.parametrize("argv", LOOKS.values(), ids=LOOKS)
def test_what_looks_at_a_file_fetches_its_header_alone(
    argv: tuple[str, ...], one: MockHub, reinit: Callable[..., Done], tmp_path: Path
) -> None:
    done = reinit(*argv)

    assert done.code == 0, done.err
    assert len(one.log) <= 4
    assert one.nbytes <= 70_000
    assert not _cached(tmp_path)


@pytest.mark.parametrize("argv", [("keys", FOUR), ("info", FOUR), (FOUR, *ZEROS, "-n")])
@pytest.mark.parametrize("has_sizes", [True, False])
def test_what_looks_at_four_shards_fetches_their_headers_alone(
    argv: tuple[str, ...],
    has_sizes: bool,
    four: MockHub,
    reinit: Callable[..., Done],
    tmp_path: Path,
) -> None:
    four.has_sizes = has_sizes

    done = reinit(*argv)

    assert done.code == 0, done.err
    assert len(four.log) <= (11 if "info" not in argv else 12)
    assert four.nbytes <= 4 * 65_536 + 10_000
    assert not _cached(tmp_path)


def test_keys_are_those_of_the_file(one: MockHub, reinit: Callable[..., Done]) -> None:
    assert reinit("keys", ONE).out.split() == ["lm_head.weight", "norm.weight"]
    assert reinit("keys", f"{ONE}/model.safetensors").out.split() == [
        "lm_head.weight",
        "norm.weight",
    ]


def test_a_rewrite_is_a_folder_here_with_what_goes_with_the_weights(
    four: MockHub, reinit: Callable[..., Done], tmp_path: Path
) -> None:
    done = reinit(FOUR, *ZEROS)

    assert done.code == 0, done.err
    made, source = tmp_path / "work/four-reinit", tmp_path / "four"
    reinit(source, *ZEROS, "-o", tmp_path / "local")
    names = {path.name for path in (tmp_path / "local").iterdir()}
    assert (
        {path.name for path in made.iterdir()} == names >= {INDEX, "config.json", "tokenizer.json"}
    )
    first = "model-00001-of-00004.safetensors"
    assert torch.equal(load_file(made / first)["layers.0.weight"], torch.zeros(250, 100))
    for path in made.iterdir():
        if path.name != first:
            assert path.read_bytes() == (source / path.name).read_bytes()
    assert not any(path.is_symlink() for path in made.iterdir())


def test_a_second_run_asks_for_the_commit_alone(
    four: MockHub, reinit: Callable[..., Done], tmp_path: Path
) -> None:
    reinit(FOUR, *ZEROS)
    four.log.clear()

    done = reinit(FOUR, *ZEROS, "-o", "again")

    assert done.code == 0, done.err
    assert [each.path.partition("?")[0] for each in four.log] == ["/api/models/org/four"]
    for path in (tmp_path / "work/again").iterdir():
        assert path.read_bytes() == (tmp_path / "work/four-reinit" / path.name).read_bytes()


def test_offline_the_cache_is_read_without_a_request(
    four: MockHub,
    reinit: Callable[..., Done],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    online = reinit("stats", FOUR).out
    four.log.clear()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)

    assert reinit("stats", FOUR).out == online
    assert reinit("keys", FOUR, "-l").code == 0
    assert reinit(f"{FOUR}/model-00001-of-00004.safetensors", *ZEROS).code == 0
    assert four.log == []


def test_offline_a_rewrite_lacks_no_file_that_it_has_online(
    four: MockHub, reinit: Callable[..., Done], monkeypatch: pytest.MonkeyPatch
) -> None:
    if not hasattr(sys.modules["huggingface_hub"], "get_cached_repo_tree"):
        pytest.skip("this version of the library does not keep which files a model has")
    reinit("stats", FOUR)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)

    done = reinit(FOUR, *ZEROS)

    assert done.code == 2
    missing = f"{FOUR}/README.md"
    said = f"{missing!r} is not in the cache of the Hub, and HF_HUB_OFFLINE is set"
    assert done.err.splitlines()[0] == f"error: {said}"


def test_offline_a_list_of_files_that_may_not_be_whole_is_a_warning(
    four: MockHub, reinit: Callable[..., Done], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reinit("stats", FOUR)
    for tree in (tmp_path / "home").glob("hub/models--org--four/trees"):
        tree.rename(tmp_path / "gone")
        sys.modules["huggingface_hub._tree_cache"]._IN_MEMORY_TREE_CACHE.clear()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)

    done = reinit(FOUR, *ZEROS)

    assert done.code == 0, done.err
    said = f"warning: {FOUR!r} is read without the Hub, from a cache that may lack files of it"
    assert said in done.err.splitlines()
    assert not Path("four-reinit/config.json").exists()


def test_show_fetches_the_shard_that_has_the_tensor(
    four: MockHub, reinit: Callable[..., Done], tmp_path: Path
) -> None:
    done = reinit("show", FOUR, "layers.2.weight", "--slice", "0,:3")

    assert "tensor([2., 2., 2.])" in done.out
    assert _cached(tmp_path) == {"model-00003-of-00004.safetensors", INDEX}


def test_an_extract_fetches_what_it_takes(
    four: MockHub, reinit: Callable[..., Done], tmp_path: Path
) -> None:
    done = reinit(FOUR, "--only", "layers.3.*", "-o", "part.safetensors")

    assert done.code == 0, done.err
    assert torch.equal(
        load_file("part.safetensors")["layers.3.weight"], torch.full((250, 100), 3.0)
    )
    weights = {name for name in _cached(tmp_path) if name.startswith("model-")}
    assert weights == {"model-00004-of-00004.safetensors"}


def test_a_download_is_announced_in_one_line(
    one: MockHub, reinit: Callable[..., Done], tmp_path: Path
) -> None:
    done = reinit(ONE, "-r", "lm_head.weight=zeros")

    size = (tmp_path / "one/model.safetensors").stat().st_size + sum(
        (tmp_path / "one" / name).stat().st_size for name in ("config.json", "tokenizer.json")
    )
    assert done.err.startswith(f"downloading {ONE} ({size / 1000:.1f} kB) to {tmp_path}/home/hub\n")
    assert done.err.count("ownloading") == 1


def test_a_download_tells_how_far_it_is(
    one: MockHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(downloads, "_SECONDS", 0.001)
    store, told = hub_store(ONE), list[str]()

    store.fetch([f"{ONE}/model.safetensors"], told.append)

    assert told.pop() == ""
    shares = [re.fullmatch(r"downloading, (\d+)%", text) for text in told]
    numbers = [int(share[1]) for share in shares if share is not None]
    assert len(numbers) == len(shares) > 0
    assert numbers == sorted(numbers)
    assert _cached(tmp_path) == {"model.safetensors"}


def test_one_file_gets_its_name_here(
    one: MockHub, reinit: Callable[..., Done], tmp_path: Path
) -> None:
    done = reinit(f"{ONE}@main/model.safetensors", "-r", "lm_head.weight=ones")

    assert done.code == 0, done.err
    made = load_file(tmp_path / "work/model-reinit.safetensors")
    assert torch.equal(made["lm_head.weight"], torch.ones(1_000, 100))
    assert torch.equal(made["norm.weight"], torch.ones(100))


def test_the_output_never_goes_into_the_cache(
    one: MockHub, reinit: Callable[..., Done], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reinit("stats", ONE)
    (snapshot,) = (tmp_path / "home").glob("hub/models--org--one/snapshots/*")
    monkeypatch.chdir(snapshot)

    done = reinit(ONE, "-r", "lm_head.weight=zeros")

    assert done.code == 2
    assert done.err.splitlines()[0].startswith("error: ")
    assert [path.name for path in snapshot.iterdir()] == ["model.safetensors"]


def test_plan_info_and_record_name_the_commit(
    four: MockHub, reinit: Callable[..., Done], tmp_path: Path
) -> None:
    commit = four.add("org/four", tmp_path / "four", "v1")

    plan = json.loads(reinit(f"{FOUR}@v1", *ZEROS, "-n", "--json").out)
    info = json.loads(reinit("info", f"{FOUR}@v1", "--json").out)
    meta = json.loads(reinit("keys", f"{FOUR}@v1", "--meta", "--json").out)
    reinit(f"{FOUR}@v1", *ZEROS, "--record", "-o", "out")
    record = json.loads(Path("out/reinit.json").read_text())

    assert len(commit) == 40
    assert f"commit\t{commit} (v1)\n" in reinit("keys", f"{FOUR}@v1", "--meta").out
    for source in (plan["source"], info, meta, record["source"]):
        assert (source["revision"], source["commit"]) == ("v1", commit)
    assert plan["source"]["name"] == record["source"]["name"] == f"{FOUR}@v1"


def test_a_record_verifies_without_and_with_the_hub(
    four: MockHub, reinit: Callable[..., Done], tmp_path: Path
) -> None:
    reinit(FOUR, *ZEROS, "--record", "-o", "out")
    four.log.clear()

    assert reinit("verify", "out").code == 0
    assert four.log == []
    assert reinit("verify", "out", "--source", FOUR).code == 0


def test_a_record_of_another_commit_says_which(
    hub: MockHub, reinit: Callable[..., Done], tmp_path: Path
) -> None:
    before = hub.add("org/m", one_file(tmp_path / "before"))
    reinit("hf://org/m", "-r", "lm_head.weight=zeros", "--record", "-o", "out")
    after = one_file(tmp_path / "after")
    save_file({"lm_head.weight": torch.ones(1_000, 100)}, after / "model.safetensors")
    hub.models["org/m"][commit_of("later")] = after
    hub.revisions["org/m"]["main"] = commit_of("later")

    done = reinit("verify", "out", "--source", "hf://org/m")

    assert done.code == 1
    assert f"at the commit {before}, and is at {commit_of('later')}" in done.out + done.err
    assert reinit("verify", "out", "--source", f"hf://org/m@{before}").code == 0


REVISIONS = {
    "a branch": ("dev", "dev"),
    "a branch with a slash": ("feature/x", "feature%2Fx"),
    "a pull request": ("refs/pr/1", "refs/pr/1"),
    "a pull request, encoded": ("refs/pr/1", "refs%2Fpr%2F1"),
    "a conversion": ("refs/convert/onnx", "refs/convert/onnx"),
}


@pytest.mark.parametrize(("revision", "typed"), REVISIONS.values(), ids=REVISIONS)
@pytest.mark.parametrize("file", ["", "/model.safetensors"])
def test_a_revision_is_read(
    revision: str,
    typed: str,
    file: str,
    one: MockHub,
    reinit: Callable[..., Done],
    tmp_path: Path,
) -> None:
    folder = tmp_path / "other"
    folder.mkdir()
    save_file({"other": torch.zeros(1)}, folder / "model.safetensors")
    commit = one.add("org/one", folder, revision)

    assert reinit("keys", f"{ONE}@{typed}{file}").out.split() == ["other"]
    assert reinit("keys", f"{ONE}@{commit}{file}").out.split() == ["other"]
    done = reinit(f"{ONE}@{typed}{file}", "-r", "other=ones")
    assert done.code == 0, done.err
    made = "model-reinit.safetensors" if file else "one-reinit/model.safetensors"
    assert load_file(made)["other"].item() == 1


def test_an_old_model_has_a_name_of_one_word(
    hub: MockHub, reinit: Callable[..., Done], tmp_path: Path
) -> None:
    folder = one_file(tmp_path / "gpt2")
    save_file({"inner": torch.zeros(1)}, folder / "part.safetensors")
    hub.add("openai-community/gpt2", folder)
    hub.moved["gpt2"] = "openai-community/gpt2"

    assert reinit("keys", "hf://gpt2").out.split() == ["lm_head.weight", "norm.weight"]
    assert reinit("keys", "hf://gpt2/part.safetensors").out.split() == ["inner"]
    done = reinit("hf://gpt2", "-r", "lm_head.weight=zeros")
    assert done.code == 0, done.err
    assert Path("gpt2-reinit/model.safetensors").exists()


def test_a_folder_of_a_model_is_one_source(
    hub: MockHub, reinit: Callable[..., Done], tmp_path: Path
) -> None:
    one_file(tmp_path / "pipeline/unet")
    hub.add("org/pipeline", tmp_path / "pipeline")

    assert reinit("keys", "hf://org/pipeline/unet").out.split() == ["lm_head.weight", "norm.weight"]
    done = reinit("hf://org/pipeline/unet/", "-r", "lm_head.weight=zeros")
    assert done.code == 0, done.err
    assert load_file("unet-reinit/model.safetensors")["lm_head.weight"].sum() == 0


def test_files_of_pickles_are_read(
    hub: MockHub, reinit: Callable[..., Done], tmp_path: Path
) -> None:
    (tmp_path / "bin").mkdir()
    torch.save(
        {f"l{at}": torch.full((9, 999), 2.0) for at in range(20)},
        tmp_path / "bin/pytorch_model.bin",
    )
    hub.add("org/bin", tmp_path / "bin")

    assert len(reinit("keys", "hf://org/bin").out.split()) == 20
    assert len(hub.log) <= 4
    done = reinit("hf://org/bin", "-r", "l3=zeros")
    assert done.code == 0, done.err
    made = torch.load("bin-reinit/pytorch_model.bin", weights_only=True)
    assert [tensor.sum().item() for tensor in made.values()].count(0) == 1


def test_tensors_are_taken_from_a_model_of_the_hub(
    four: MockHub, reinit: Callable[..., Done], tmp_path: Path
) -> None:
    save_file({"layers.2.weight": torch.zeros(250, 100)}, "mine.safetensors")

    done = reinit(
        "mine.safetensors", "-r", f"layers.2.weight=rewind:{FOUR}", "-o", "new.safetensors"
    )

    assert done.code == 0, done.err
    assert torch.equal(load_file("new.safetensors")["layers.2.weight"], torch.full((250, 100), 2.0))
    assert done.err.startswith(f"downloading {FOUR} (")
    assert _cached(tmp_path) == {"model-00003-of-00004.safetensors", INDEX}


def test_an_array_is_taken_from_the_cache_of_the_hub(
    hub: MockHub, reinit: Callable[..., Done], tmp_path: Path
) -> None:
    (tmp_path / "arrays").mkdir()
    np.save(tmp_path / "arrays/a.npy", np.arange(20_000, dtype="float32"))
    hub.add("org/arrays", tmp_path / "arrays")
    save_file({"x": torch.zeros(20_000)}, "mine.safetensors")

    done = reinit(
        "mine.safetensors", "-r", "x=values:hf://org/arrays/a.npy", "-o", "new.safetensors"
    )

    assert done.code == 0, done.err
    assert torch.equal(load_file("new.safetensors")["x"], torch.arange(20_000.0))
    assert _cached(tmp_path) == {"a.npy"}


def test_two_models_of_the_hub_are_compared(
    one: MockHub, reinit: Callable[..., Done], tmp_path: Path
) -> None:
    other = one_file(tmp_path / "other")
    save_file(
        {"lm_head.weight": torch.zeros(1_000, 100), "norm.weight": torch.ones(100)},
        other / "model.safetensors",
    )
    one.add("org/other", other)

    assert reinit("diff", ONE, ONE).code == 0
    done = reinit("diff", ONE, "hf://org/other")
    assert done.code == 1
    assert "lm_head.weight" in done.out
    assert "norm.weight" not in done.out


def test_functions_take_names_of_the_hub(one: MockHub, tmp_path: Path) -> None:
    outcome = reinit_cli.rewrite(ONE, rules=["lm_head.weight=zeros"])

    assert outcome.job.destination.path == "one-reinit"
    assert load_file("one-reinit/model.safetensors")["lm_head.weight"].sum() == 0


def test_a_token_goes_to_the_hub_and_nowhere_else(
    one: MockHub, reinit: Callable[..., Done], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_good")
    one.private.add("org/one")
    one.gated.add("org/one")

    assert reinit("keys", ONE).code == 0
    assert reinit("show", ONE, "norm.weight").code == 0
    assert {each.has_token for each in one.log if each.path.startswith("/cdn/")} == {False}
    assert {each.has_token for each in one.log if not each.path.startswith("/cdn/")} == {True}


@pytest.mark.slow
def test_the_environment_of_the_library_is_obeyed(
    one: MockHub, hub_server: Server, tmp_path: Path, environment: dict[str, str]
) -> None:
    settings = {"HF_ENDPOINT": hub_server.url, "HF_HOME": str(tmp_path / "elsewhere")}
    settings |= {"NO_PROXY": "127.0.0.1,localhost", "HF_HUB_DISABLE_XET": "1"}

    def stats(**more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "reinit_cli", "stats", ONE],
            env=environment | settings | more,
            capture_output=True,
            text=True,
            check=False,
        )

    nothing = stats(HF_HUB_OFFLINE="1")
    first = stats()
    offline = stats(HF_HUB_OFFLINE="1")

    assert (nothing.returncode, first.returncode, offline.returncode) == (2, 0, 0)
    assert first.stdout == offline.stdout
    announced = f"downloading {ONE} (400.6 kB) to {tmp_path}/elsewhere/hub\n"
    assert first.stderr == announced + offline.stderr
    assert (tmp_path / "elsewhere/hub/models--org--one").is_dir()


@pytest.mark.slow
def test_the_architecture_of_a_model_is_that_of_its_config(
    hub: MockHub, reinit: Callable[..., Done], tmp_path: Path
) -> None:
    transformers = package("transformers")
    config = transformers.GPT2Config(n_layer=1, n_embd=32, n_head=2, vocab_size=100, n_positions=16)
    transformers.GPT2LMHeadModel(config).save_pretrained(tmp_path / "gpt")
    hub.add("org/gpt", tmp_path / "gpt")
    rule = ("-r", "transformer.h.0.*=default", "--arch", "transformers")

    there, here = (
        reinit("hf://org/gpt", *rule, "-o", "a"),
        reinit(tmp_path / "gpt", *rule, "-o", "b"),
    )

    assert (there.code, here.code) == (0, 0), there.err
    assert Path("a/model.safetensors").read_bytes() == Path("b/model.safetensors").read_bytes()


@pytest.mark.slow
def test_a_model_of_torchvision_takes_weights_of_the_hub(
    hub: MockHub, reinit: Callable[..., Done], tmp_path: Path
) -> None:
    torchvision = package("torchvision")
    (tmp_path / "sq").mkdir()
    torch.save(torchvision.models.squeezenet1_1().state_dict(), tmp_path / "sq/sq.pth")
    hub.add("org/sq", tmp_path / "sq")
    given = ("squeezenet1_1", "-r", "classifier.1.bias=ones", "--weights", "hf://org/sq/sq.pth")

    done = reinit(*given)

    assert done.code == 0, done.err
    made = torch.load("squeezenet1_1-reinit.pth", weights_only=True)
    before = torch.load(tmp_path / "sq/sq.pth", weights_only=True)
    assert torch.equal(made["classifier.1.bias"], torch.ones(1_000))
    assert torch.equal(made["features.0.weight"], before["features.0.weight"])
    assert _cached(tmp_path) == {"sq.pth"}
