"""How the process imports the libraries that it needs."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

_COUNT_THREADS = """
import os
from reinit_cli.cli.imports import import_apart
import_apart()
import numpy
print(len(os.listdir("/proc/self/task")), os.environ.get("OPENBLAS_NUM_THREADS"))
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/task"), reason="counts threads as Linux does")
@pytest.mark.parametrize("asked", [None, "1"])
def test_numpy_starts_no_threads_of_its_own(asked: str | None) -> None:
    environment = {name: value for name, value in os.environ.items() if "THREADS" not in name}
    environment |= {} if asked is None else {"OPENBLAS_NUM_THREADS": asked}

    command = [sys.executable, "-c", _COUNT_THREADS]
    done = subprocess.run(
        command, env=environment, check=True, capture_output=True, text=True, timeout=60
    )

    assert done.stdout.split() == ["1", str(asked)]
