"""The memory that a process can have is asked of the system."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from reinit_cli.storage.memory import limits

MACHINE, GROUP = "this machine has", "its control group allows"
linux = pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")


def _system(root: Path, files: dict[str, str]) -> str:
    """Write what a kernel would say."""
    files = {"proc/meminfo": "MemTotal:       1000 kB\nMemFree:         10 kB\n"} | files
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return str(root)


def test_the_machine_is_asked_first(tmp_path: Path) -> None:
    assert limits(_system(tmp_path, {})) == {MACHINE: 1000 * 1024}


@linux
def test_this_machine_has_what_its_kernel_says() -> None:
    pages = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")

    assert limits()[MACHINE] == pytest.approx(pages, rel=0.01)


def test_without_proc_the_pages_are_counted(tmp_path: Path) -> None:
    pages = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")

    assert limits(str(tmp_path)) == {MACHINE: pages}


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/b/memory.max": "5000\n"}, 5000),
        (
            {
                "proc/self/cgroup": "0::/a/b\n",
                "sys/fs/cgroup/a/b/memory.max": "max\n",
                "sys/fs/cgroup/a/memory.max": "700\n",
            },
            700,
        ),
        ({"proc/self/cgroup": "0::/gone\n", "sys/fs/cgroup/memory.max": "600\n"}, 600),
        (
            {
                "proc/self/cgroup": "9:cpu:/x\n4:memory:/x\n0::/\n",
                "sys/fs/cgroup/memory/x/memory.limit_in_bytes": "400\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
            },
            400,
        ),
        ({"proc/self/cgroup": "0::/../..\n", "sys/fs/cgroup/memory.max": "max\n"}, None),
        ({"proc/self/cgroup": "nonsense\n"}, None),
        ({"proc/self/cgroup": "0::/a\n", "sys/fs/cgroup/a/memory.max": "-1\n"}, None),
    ],
    ids=["version 2", "its parent", "in a container", "version 1", "none", "nonsense", "negative"],
)
def test_control_groups_are_asked(
    files: dict[str, str], expected: int | None, tmp_path: Path
) -> None:
    assert limits(_system(tmp_path, files)).get(GROUP) == expected


@linux
@pytest.mark.parametrize(
    ("kind", "name"),
    [(resource.RLIMIT_AS, "ulimit -v leaves"), (resource.RLIMIT_DATA, "ulimit -d leaves")],
)
def test_a_limit_of_the_process_counts_less_what_it_uses(kind: int, name: str) -> None:
    nbytes = 2**31
    code = f"from reinit_cli.storage.memory import limits; print(limits()[{name!r}])"
    done = subprocess.run(
        [sys.executable, "-c", code],
        preexec_fn=lambda: resource.setrlimit(kind, (nbytes, nbytes)),
        capture_output=True,
        text=True,
        check=True,
    )

    assert 0 < int(done.stdout) < nbytes
