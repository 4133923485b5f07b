"""What goes wrong on one process ends the whole run, with one line on each and no output."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.operations.ranks import RUN_ID, begin, begin_command, ended, left_by, make_sources, tree

RULES = ("-r", "*.weight=normal:std=0.02", "-q")

FULL = """
import errno, os
from reinit_cli.__main__ import entry

write = os.pwrite

def full(descriptor, data, offset):
    if os.fstat(descriptor).st_size < 10_000:  # what ranks tell each other
        return write(descriptor, data, offset)
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

os.pwrite = full
entry()
"""
"""A command whose disk is full."""


@pytest.fixture(autouse=True)
def sources() -> None:
    make_sources()
    Path("to").mkdir()


def _with_full_disk(rank: int, *args: str) -> subprocess.Popen[str]:
    together = ("--rank", str(rank), "--world-size", "2", "--run-id", RUN_ID, "--timeout", "60")
    return subprocess.Popen(
        (sys.executable, "-c", FULL, *args, *together),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
@pytest.mark.parametrize("source", ["m.safetensors", "m.pt", "hf"])
@pytest.mark.parametrize("rank", [0, 1])
def test_a_full_disk_on_one_rank_ends_all_and_leaves_nothing(source: str, rank: int) -> None:
    output = f"to/out{Path(source).suffix}"
    args = (source, *RULES, "-o", output)
    (other,) = begin(2, *args, ranks=[1 - rank])

    full, fine = ended([_with_full_disk(rank, *args), other])

    problem = "no space left on device\n"
    assert full[:2] == (2, "")
    assert full[2].startswith(f"error: cannot write '{output}")
    assert full[2].endswith(problem)
    assert fine[:2] == (2, "")
    assert fine[2].startswith(f"error: rank {rank} failed: cannot write '{output}")
    assert fine[2].endswith(problem)
    assert os.listdir("to") == []


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize(
    ("mistake", "problem"),
    [
        (("-r", "*.bias=zeross"), "unknown initializer 'zeross'"),
        (("--dtype", "float17"), "unknown dtype 'float17'"),
        (("-c", "none.toml"), "recipe 'none.toml': no such file or directory"),
        (("--shard-size", "x"), "'--shard-size'"),
        (("--no-such",), "no such option"),
        (("-o",), "option '-o' requires an argument"),
        (("--seed",), "option '--seed' requires an argument"),
    ],
)
def test_a_command_line_that_is_wrong_on_one_rank_ends_the_others_before_their_timeout(
    rank: int, mistake: Sequence[str], problem: str
) -> None:
    args = ("m.safetensors", *RULES, "-o", "to/out.safetensors")
    others = begin(2, *args, ranks=[1 - rank])
    together = ("--rank", str(rank), "--world-size", "2", "--run-id", RUN_ID)
    wrong = begin_command(*args, *together, *mistake)

    (code, out, error), (mine, _, said) = ended([*others, wrong])

    assert (code, out, mine) == (2, "", 2)
    assert error.startswith(f"error: rank {rank} failed: ")
    assert problem in error.lower()
    assert said.startswith("error: ")
    assert not said.startswith("error: rank")
    assert os.listdir("to") == []


@pytest.mark.slow
def test_processes_that_are_all_told_rank_0_are_refused() -> None:
    """A shell that begins `srun` puts its own SLURM_PROCID into a command that is not quoted."""
    args = ("m.safetensors", *RULES, "-o", "to/out.safetensors")

    results = ended(begin(3, *args, ranks=[0, 0, 0], timeout=2))

    problem = f"error: another rank 0 of the run '{RUN_ID}' is writing 'to/out.safetensors'"
    refused = [error for _, _, error in results if error.startswith(problem)]
    assert [code for code, *_ in results] == [2, 2, 2]
    assert len(refused) == 2
    assert not Path("to/out.safetensors").exists()
    assert len(left_by("to")) == 1

    assert [code for code, *_ in ended(begin(3, *args))] == [0, 0, 0]
    assert os.listdir("to") == ["out.safetensors"]


@pytest.mark.slow
def test_ranks_may_call_source_and_output_by_other_names() -> None:
    """Hosts mount a file system where they like."""
    os.symlink("to", "link")
    Path("elsewhere").mkdir()
    first = begin(3, os.path.abspath("m.pt"), *RULES, "-o", "to/out.pt", ranks=[0])
    second = begin(3, "../m.pt", *RULES, "-o", "../to/out.pt", ranks=[1], cwd="elsewhere")
    third = begin(3, "m.pt", *RULES, "-o", "link/out.pt", ranks=[2])

    assert ended([*first, *second, *third]) == [(0, "", "")] * 3

    assert ended([begin_command("m.pt", *RULES, "-o", "one.pt")])[0][0] == 0
    assert tree("to") == {"out.pt": tree("one.pt")[""]}


@pytest.mark.slow
def test_folders_that_are_not_there_are_made_by_rank_0_and_go_when_a_rank_fails() -> None:
    args = (*RULES, "-o", "to/new/deep/out")
    assert ended(begin(2, "hf", *args)) == [(0, "", "")] * 2
    assert "config.json" in tree("to/new/deep/out")

    args = ("m.safetensors", *RULES, "-o", "to/other/deep/out.safetensors")
    (first,) = begin(2, *args, ranks=[0])
    (second,) = begin(2, *args, "--seed", "1", ranks=[1])

    assert [code for code, *_ in ended([first, second])] == [2, 2]
    assert os.listdir("to") == ["new"]


@pytest.mark.slow
def test_few_descriptors_are_enough() -> None:
    args = ("dcp-columns", *RULES, "-o", "to/out")

    results = ended(begin(4, *args, preexec_fn=_few_descriptors))

    assert results == [(0, "", "")] * 4


def _few_descriptors() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (32, 32))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "word"),
    [
        (("-o", "memory://bucket/out.safetensors"), "memory://bucket/out.safetensors"),
        (("-o", "s3://bucket/out.safetensors"), "s3://bucket/out.safetensors"),
        (("-o", "-"), "standard output"),
        (("--in-place",), "--in-place"),
        (("m.pt", "-o", "to/"), "one source"),
        (("--seed", "0,1", "-o", "to/"), "one seed"),
    ],
    ids=["memory", "s3", "stdout", "in place", "two sources", "two seeds"],
)
def test_what_ranks_cannot_write_together_is_one_line(options: Sequence[str], word: str) -> None:
    (found,) = ended(begin(2, "m.safetensors", *RULES, *options, ranks=[1], timeout=5))

    code, said, error = found
    assert (code, said) == (2, "")
    assert error.startswith("error: several ranks ")
    assert word in error
    assert error.count("\n") == 1
    assert os.listdir("to") == []


@pytest.mark.slow
@pytest.mark.slow
def test_a_fault_of_the_command_is_one_line_where_ranks_have_no_number() -> None:
    args = ("m.safetensors", *RULES, "-o", "to/x.safetensors", "--force", "--skip-existing")
    expected = [(2, "", "error: --skip-existing and --force cannot be combined\n")]
    assert ended([begin_command(*args, "--world-size", "2")]) == expected


def test_a_recipe_cannot_make_ranks() -> None:
    for line in ("rank = 0", "world_size = 2", 'run_id = "a"', "timeout = 1.0", "resume = true"):
        Path("recipe.toml").write_text(f'{line}\n[[rule]]\nmatch = "*"\ninit = "zeros"\n')
        (found,) = ended([begin_command("m.safetensors", "-c", "recipe.toml", "-o", "to/x.pt")])
        assert found[0] == 2
        assert line.split()[0] in found[2]
    assert os.listdir("to") == []
