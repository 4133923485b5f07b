"""Run segments: copies, draws and digests, overlapped.

Every place in the output is known beforehand. Into a file, one thread copies while the
others draw, in any order; into a stream the segments go in their order. Draws run side by
side within a budget of memory.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from itertools import accumulate
from typing import TYPE_CHECKING

from reinit_cli.errors import CorruptError
from reinit_cli.execution import budget
from reinit_cli.execution.budget import Share
from reinit_cli.execution.draw import Piece, draw_fill, peak_nbytes
from reinit_cli.execution.fill import Fill, Filled, Observe, Observer, Recast
from reinit_cli.storage.crc32 import crc32, crc32_joined
from reinit_cli.storage.local import OutputFile
from reinit_cli.storage.segments import Check, Copy, Late, Literal, Reserved, Segment
from reinit_cli.storage.writer import Sink
from reinit_cli.tensors.convert import bytes_at, read
from reinit_cli.threads import Progress, Stopped, aside

if TYPE_CHECKING:
    from reinit_cli.planning.plan import Step
    from reinit_cli.storage.local import InputFile


_CHUNK_NBYTES = 2**18
"""What is read at once, into a buffer that is used again and stays in the processor's cache;
a new one each time, or one of 1 to 8 MB, took up to six times as long."""


_KERNEL_COPY_NBYTES = 16 * 2**20
"""What the kernel is asked to copy at once: short enough to stop soon after Ctrl-C."""


_COPYING_THREADS = 2
"""While one waits for the kernel's copy, which takes the output's lock, another digests."""


_COPIED = (Copy, Literal, Check, Reserved)


def total_nbytes(segments: Iterable[Segment]) -> int:
    """Return the size of the output."""
    return sum(segment.nbytes for segment in segments)


def run(
    segments: Sequence[Segment],
    sink: Sink,
    device: str,
    progress: Progress,
    observe: Observe | None = None,
) -> dict[str, Filled]:
    """Write the segments.

    Args:
        segments: in the order of the output.
        sink: where to; a seekable one where the segments look ahead.
        device: where to draw.
        progress: told of every write.
        observe: who is shown each draw.

    Returns:
        For each filled key, what became of it.

    Raises:
        OutputUnwritableError, UnreadableSourceError, SourceChangedError: as they say.
    """
    offsets = accumulate((segment.nbytes for segment in segments), initial=0)
    pieces = [
        Piece(at, offset, segment)
        for at, (offset, segment) in enumerate(zip(offsets, segments, strict=False))
    ]
    wanted = {
        at
        for segment in segments
        if isinstance(segment, Late)
        for span in segment.of
        for at in span
    }

    def work(stopped: Stopped) -> dict[str, Filled]:
        job = _Job(sink, device, progress, observe or _nobody, frozenset(wanted), stopped)
        try:
            (job.run_anywhere if sink.is_seekable else job.run_in_order)(pieces)
        finally:
            job.budget.give_all_back()
        return job.filled

    return aside(work)


class _Job:
    """One run: what its threads share."""

    def __init__(
        self,
        sink: Sink,
        device: str,
        progress: Progress,
        observe: Observe,
        wanted: frozenset[int],
        stopped: Stopped,
    ) -> None:
        self.sink = sink
        self.device = device
        self.progress = progress
        self.observe = observe
        self.wanted = wanted
        self.digests: dict[int, tuple[int, int]] = {}  # CRC-32 and bytes of a segment
        self.filled: dict[str, Filled] = {}
        self.budget = Share(budget.BUDGET)
        self.stopped = stopped
        self.buffers: list[bytearray] = []  # read buffers that wait to be used again

    def run_anywhere(self, pieces: Sequence[Piece]) -> None:
        """Copy in one thread while others draw; what depends on digests comes last."""
        copies = [piece for piece in pieces if isinstance(piece.segment, _COPIED)]
        fills = [piece for piece in pieces if isinstance(piece.segment, (Fill, Recast))]
        todo = iter(self._without_cloned(pieces, copies))  # its threads take turns
        threads = _COPYING_THREADS if all(map(_is_seekable, copies)) else 1
        with self._pool(threads) as copying:
            copied = [copying.submit(self._write_all, todo) for _ in range(threads)]
            if fills:
                self._draw_all(fills)
            for each in copied:
                each.result()
        self._write_late([piece for piece in pieces if isinstance(piece.segment, Late)])

    def _write_late(self, waiting: Sequence[Piece]) -> None:
        """Write what depends on digests, of which some are those of others."""
        while waiting and not self.stopped.is_set():
            unready = []
            for piece in waiting:
                assert isinstance(piece.segment, Late)
                if all(at in self.digests for span in piece.segment.of for at in span):
                    self._write(piece)
                else:
                    unready.append(piece)
            assert len(unready) < len(waiting)
            waiting = unready

    def _draw_all(self, fills: Iterable[Piece]) -> None:
        with self._drawing() as pool:
            futures = []
            # The largest first: a large one that comes last would be drawn while others idle.
            for piece in sorted(fills, key=lambda piece: -piece.segment.nbytes):
                self.budget.take(peak_nbytes(piece, self.device))
                futures.append(pool.submit(self._draw_and_write, piece))
            for future in futures:
                future.result()

    def run_in_order(self, pieces: Sequence[Piece]) -> None:
        """Write one piece after the other, drawing ahead as far as the budget goes."""
        waiting = deque(piece for piece in pieces if isinstance(piece.segment, (Fill, Recast)))
        drawn: dict[int, Future[memoryview]] = {}
        with ExitStack() as stack:
            pool = stack.enter_context(self._drawing()) if waiting else None
            for piece in pieces:
                if self.stopped.is_set():
                    return
                while pool and waiting and self._has_taken_for(waiting[0], at=piece.at):
                    ahead = waiting.popleft()
                    drawn[ahead.at] = pool.submit(self._drawn_whole, ahead)
                if piece.at in drawn:
                    self._put(piece, drawn.pop(piece.at).result())
                    self.budget.give_back(peak_nbytes(piece, self.device))
                else:
                    self._write(piece)

    def _has_taken_for(self, piece: Piece, at: int) -> bool:
        """Take the memory of a draw: of the piece to be written next whatever it costs."""
        nbytes = peak_nbytes(piece, self.device)
        if piece.at > at:
            return self.budget.take_if_there(nbytes)
        self.budget.take(nbytes)
        return True

    def _without_cloned(self, pieces: Sequence[Piece], copies: Sequence[Piece]) -> Sequence[Piece]:
        """Clone the source as a whole where the output is the source with fills."""
        files = {piece.segment.file for piece in copies if isinstance(piece.segment, Copy)}
        in_place = all(
            isinstance(piece.segment, Check)
            or (isinstance(piece.segment, Copy) and piece.segment.offset == piece.offset)
            for piece in copies
        )
        if len(files) != 1 or not in_place or self.wanted or not isinstance(self.sink, OutputFile):
            return copies
        (file,) = files
        if not file.is_seekable or file.nbytes != sum(piece.segment.nbytes for piece in pieces):
            return copies
        if not self.sink.clone(file):
            return copies
        checked = []
        for piece in copies:
            self.progress(piece.segment.nbytes)
            if isinstance(piece.segment, Check):
                checked.append(piece)
            elif isinstance(piece.segment, Copy) and piece.segment.check is not None:
                checked.append(replace(piece, segment=piece.segment.check))
        return checked

    @contextmanager
    def _drawing(self) -> Iterator[ThreadPoolExecutor]:
        from reinit_cli.tensors.device import one_thread

        threads = (os.cpu_count() or 1) if self.device == "cpu" else 1
        with one_thread(), self._pool(threads) as pool:
            yield pool

    @contextmanager
    def _pool(self, threads: int) -> Iterator[ThreadPoolExecutor]:
        """A pool whose threads stop at the next chunk when anything goes wrong."""
        pool = ThreadPoolExecutor(threads)
        try:
            yield pool
        except BaseException:
            self.stopped.set()
            raise
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _write_all(self, pieces: Iterable[Piece]) -> None:
        for piece in pieces:
            if self.stopped.is_set():
                return
            self._write(piece)

    def _write(self, piece: Piece) -> None:
        segment = piece.segment
        if isinstance(segment, Copy):
            self._copy(piece, segment)
        elif isinstance(segment, Literal):
            self._put(piece, segment.data)
        elif isinstance(segment, Check):
            self._read_through(segment)
        elif isinstance(segment, Reserved):
            self.progress(segment.nbytes)
        elif isinstance(segment, Late):
            data = segment.compute([self._digest(span) for span in segment.of])
            assert len(data) == segment.nbytes
            self._put(piece, data)

    def _digest(self, span: range) -> int:
        digest = 0
        for at in span:
            crc, nbytes = self.digests[at]
            digest = crc32_joined(digest, crc, nbytes) if digest else crc
        return digest

    def _put(self, piece: Piece, data: bytes | memoryview) -> None:
        self._put_blocks(piece, (data,))

    def _put_blocks(self, piece: Piece, blocks: Iterable[bytes | memoryview]) -> None:
        crc = 0
        done = 0
        for data in blocks:
            if self.stopped.is_set():
                return
            if piece.at in self.wanted:
                crc = crc32(data, crc)
            self.sink.write_at(piece.offset + done, data)
            self.progress(len(data))
            done += len(data)
        if piece.at in self.wanted:
            self.digests[piece.at] = crc, done

    def _copy(self, piece: Piece, segment: Copy) -> None:
        """Copy block by block: its CRC-32, if one is asked for, and then by the kernel."""
        has_crc = piece.at in self.wanted or segment.check is not None
        crc = 0
        done = 0
        while done < segment.nbytes and not self.stopped.is_set():
            start, offset, left = segment.offset + done, piece.offset + done, segment.nbytes - done
            asked = min(left, _KERNEL_COPY_NBYTES)
            is_kernels = segment.file.is_seekable
            count = self.sink.copy_from(segment.file, start, offset, asked) if is_kernels else 0
            for data in (
                self._blocks(segment.file, start, count or asked) if has_crc or not count else ()
            ):
                crc = crc32(data, crc) if has_crc else 0
                if not count:
                    self.sink.write_at(offset, data)
                    offset += len(data)
            done += count or asked
            self.progress(count or asked)
        if piece.at in self.wanted:
            self.digests[piece.at] = crc, segment.nbytes
        if segment.check is not None and done == segment.nbytes:
            _compare(segment.check, crc)

    def _read_through(self, check: Check) -> None:
        crc = 0
        for data in self._blocks(check.file, check.offset, check.length):
            if self.stopped.is_set():
                return
            crc = crc32(data, crc)
        _compare(check, crc)

    def _blocks(self, file: InputFile, offset: int, nbytes: int) -> Iterator[memoryview]:
        """Yield a range of a file, piece by piece; each is gone with the next."""
        owned = self.buffers.pop() if self.buffers else bytearray(_CHUNK_NBYTES)
        buffer = memoryview(owned)
        try:
            while nbytes:
                count = file.read_into(buffer[:nbytes], offset)
                yield buffer[:count]
                offset += count
                nbytes -= count
        finally:
            self.buffers.append(owned)

    def _draw_and_write(self, piece: Piece) -> None:
        try:
            if not self.stopped.is_set():
                self._put_blocks(piece, self._drawn_blocks(piece))
        except BaseException:
            self.stopped.set()
            raise
        finally:
            self.budget.give_back(peak_nbytes(piece, self.device))

    def _drawn_whole(self, piece: Piece) -> memoryview:
        whole = bytearray()
        for block in self._drawn_blocks(piece):  # each is gone with the next: no join
            whole += block
        return memoryview(whole)

    def _drawn_blocks(self, piece: Piece) -> Iterator[memoryview]:
        """Yield the bytes of a piece, block by block; each is gone with the next."""
        from reinit_cli.tensors.convert import bytes_of, recast, rounded, strided
        from reinit_cli.tensors.moments import Moments, moments_of

        segment = piece.segment
        if isinstance(segment, Recast):
            yield bytes_of(recast(read(segment.view), segment.dtype))
            return
        assert isinstance(segment, Fill)
        step = segment.step
        assert step.law is not None
        tensor = step.tensor
        observers = self.observe(step)
        before = None
        if segment.before is not None:
            was = read(segment.before)
            before = moments_of(was)
            for observer in observers:
                observer.see_before(was, before)
            del was
        moments = Moments()
        kept = []
        for block in draw_fill(segment, self.device):
            of_block = moments_of(block)
            moments += of_block
            for observer in observers:
                observer.see(block, of_block)
            values = rounded(block, tensor.dtype)
            if segment.stride is None:
                yield bytes_of(values)
            else:
                kept.append(values.flatten().clone())
        self.filled[step.key] = Filled(step.key, moments, before)
        if segment.stride is not None:
            under = bytes_at(segment.under) if segment.under is not None else bytes(segment.nbytes)
            yield strided(kept, tensor.shape, segment.stride, under)


def _nobody(step: Step) -> Sequence[Observer]:
    del step
    return ()


def _is_seekable(piece: Piece) -> bool:
    return not isinstance(piece.segment, Copy) or piece.segment.file.is_seekable


def _compare(check: Check, crc: int) -> None:
    # 0 is what torch records where it was told not to compute any.
    if check.crc not in (0, crc):
        raise CorruptError(check.file.path, check.name)
