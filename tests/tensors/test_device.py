"""How many threads torch and its BLAS use for an operation."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from reinit_cli.tensors.device import one_thread, use_one_thread
from reinit_cli.threads import side_by_side


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def _mkl_threads() -> int:
    """Return how many threads MKL would use in this thread, as it says itself."""
    lines = torch.__config__.parallel_info().splitlines()
    counts = [line for line in lines if "get_max_threads" in line]
    return max(int(line.rpartition(" ")[2]) for line in counts)


def test_the_count_is_set_back_in_the_thread_that_set_it() -> None:
    with one_thread():
        with one_thread():
            assert (torch.get_num_threads(), _mkl_threads()) == (1, 1)
        assert (torch.get_num_threads(), _mkl_threads()) == (1, 1)

    assert (torch.get_num_threads(), _mkl_threads()) == (2, 2)


def test_threads_that_overlap_have_one_thread_each_and_get_their_own_back() -> None:
    first_has_left = threading.Event()
    both_are_in = threading.Barrier(2)

    def first() -> tuple[int, int]:
        with one_thread():
            both_are_in.wait()
            within = _mkl_threads()
        first_has_left.set()
        return within, _mkl_threads()

    def second() -> tuple[int, int]:
        with one_thread():
            both_are_in.wait()
            first_has_left.wait()
            within = _mkl_threads()
        return within, _mkl_threads()

    with ThreadPoolExecutor(2) as pool:
        runs: list[Callable[[], tuple[int, int]]] = [first, second]
        assert [each.result() for each in [pool.submit(run) for run in runs]] == [(1, 2), (1, 2)]
    assert torch.get_num_threads() == 2


def test_a_worker_s_blas_has_one_thread_before_its_first_work() -> None:
    def count(_: int) -> int:
        return _mkl_threads()

    assert set(side_by_side(count, range(8), use_one_thread)) == {1}
