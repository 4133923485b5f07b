"""Ask the system how much memory this process can have."""

from __future__ import annotations

import os
import re
import resource
from collections.abc import Iterator

_VERSION_1 = "/sys/fs/cgroup/memory", "memory.limit_in_bytes"
_VERSION_2 = "/sys/fs/cgroup", "memory.max"
"""Where the control groups of each version lie, and the name of the file with the limit."""

_ULIMITS = {
    "ulimit -v leaves": (resource.RLIMIT_AS, "VmSize"),
    "ulimit -d leaves": (resource.RLIMIT_DATA, "VmData"),
}
"""The limits of a process, and the name of what it uses of each."""


def limits(root: str = "/") -> dict[str, int]:
    """Return the bytes that this process can have, by what limits them.

    Args:
        root: the folder that holds proc and sys.
    """
    found: dict[str, int] = {}
    installed = _installed(root)
    if installed:
        found["this machine has"] = installed
    groups = list(_of_control_groups(root))
    if groups:
        found["its control group allows"] = min(groups)
    for name, (kind, used) in _ULIMITS.items():
        soft, _ = resource.getrlimit(kind)
        if soft != resource.RLIM_INFINITY:
            found[name] = max(0, soft - _kilobytes(root, "proc/self/status", used))
    return found


def _installed(root: str) -> int:
    """Return the memory of the machine; 0 where it does not say."""
    found = _kilobytes(root, "proc/meminfo", "MemTotal")
    if found:
        return found
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (OSError, ValueError):
        return 0


def _of_control_groups(root: str) -> Iterator[int]:
    """Yield the limits of the groups that the process is in, and of all that hold these.

    In a container the path may be that of the host, while only its last part can be seen.
    """
    for line in _text(root, "proc/self/cgroup").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if "memory" in controllers.split(","):
            folder, name = _VERSION_1
        elif not controllers:
            folder, name = _VERSION_2
        else:
            continue
        parts = [part for part in path.split("/") if part not in ("", "..")]
        for count in range(len(parts) + 1):
            limit = _text(root, os.path.join(folder, *parts[:count], name).lstrip("/")).strip()
            if limit.isdecimal():  # "max" means none
                yield int(limit)


def _kilobytes(root: str, path: str, name: str) -> int:
    """Return the bytes that a line such as "MemTotal:  24684084 kB" says; 0 without one."""
    found = re.search(rf"^{name}:\s*(\d{{1,18}}) kB$", _text(root, path), re.MULTILINE)
    return 1024 * int(found[1]) if found else 0


def _text(root: str, path: str) -> str:
    """Return what the kernel says in a file; "" where there is none."""
    try:
        with open(os.path.join(root, path), encoding="ascii", errors="replace") as file:
            return file.read()
    except OSError:
        return ""
