"""Write files from their segments: copies, draws and digests, overlapped.

Every place in the output is known beforehand. Into a file, some threads copy while others
draw, in any order; into a pipe the segments go in their order. Draws run side by side
within a budget of memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext

from reinit_cli.execution import budget
from reinit_cli.execution.ahead import Ahead
from reinit_cli.execution.budget import Share
from reinit_cli.execution.copy import Copier, without_cloned
from reinit_cli.execution.fetch import announce, are_in_any_order
from reinit_cli.execution.fill import UNWATCHED, Form, Watcher
from reinit_cli.execution.forked import Forked, can_fork
from reinit_cli.execution.joined import joined_by_draws
from reinit_cli.execution.pieces import OpenFile, Pen, Piece, put
from reinit_cli.execution.produce import (
    Producer,
    Product,
    products_of,
    refuse_lost,
    refuse_overflown,
)
from reinit_cli.storage.local_writer import LocalWriter
from reinit_cli.storage.segments import Late, Segment
from reinit_cli.storage.writer import Output, Writer
from reinit_cli.threads import Progress, Result, Work, aside, cores, stop_here

_FORKED_NBYTES = 2**28
"""What other processes draw at least: of less, threads are as fast."""

_COPYING_THREADS = 2
"""While one waits for the kernel's copy, which takes the output's lock, another digests."""


def total_nbytes(segments: Iterable[Segment]) -> int:
    """Return the size of a file."""
    return sum(segment.nbytes for segment in segments)


Written = Callable[[str, Writer], bool]
"""Called with a file that is written and not yet closed; returns whether to go on."""


def run(
    files: Mapping[str, Sequence[Segment]],
    output: Output,
    device: str,
    progress: Progress,
    watcher: Watcher,
    written: Written,
) -> None:
    """Write the files of an output, each opened and closed when its turn comes.

    Files that have a draw in common are written together, all others one after the other.

    Args:
        files: the segments of each, by its path in the output.
        output: where they go.
        device: where to draw.
        progress: called after every write.
        watcher: looks at draws.
        written: called with each file that is whole.

    Raises:
        OutputUnwritableError, UnreadableSourceError, SourceChangedError: as they say.
    """
    for group in joined_by_draws(files):
        writers = {name: output.file(name, total_nbytes(files[name])) for name in group}
        write_together(files, writers, device, progress, watcher)
        for name, writer in writers.items():
            if not written(name, writer):
                return
            writer.close()


def write_together(
    files: Mapping[str, Sequence[Segment]],
    writers: Mapping[str, Writer],
    device: str,
    progress: Progress,
    watcher: Watcher = UNWATCHED,
) -> None:
    """Write files side by side; what is drawn for several of them is drawn once.

    Args:
        files: the segments of each.
        writers: where each of some of them goes; a seekable one where segments look ahead,
            or where there are several files.
        device: where to draw.
        progress: called after every write.
        watcher: looks at draws.

    Raises:
        OutputUnwritableError, UnreadableSourceError, SourceChangedError: as they say.
        TensorError: a cast makes an infinity or NaN of a number.
    """
    write_open(
        [OpenFile(files[name], writer, progress) for name, writer in writers.items()],
        device,
        watcher,
    )


def write_open(opened: Sequence[OpenFile], device: str, watcher: Watcher) -> None:
    """Write open files side by side; arguments and raises as `write_together`."""
    run = _Run(opened, device, watcher)

    def write() -> None:
        try:
            run.write(forked)
        finally:
            run.budget.give_all_back()
        refuse_lost(run.producer.lost)
        refuse_overflown(run.producer.overflown)

    with run.forked() as forked:
        aside(write)


class _Run:
    """Files that are written together."""

    def __init__(self, files: Sequence[OpenFile], device: str, watcher: Watcher) -> None:
        self._is_in_order = not all(file.writer.is_seekable for file in files)
        self.producer = Producer(device, watcher.observe, keeps_whole=self._is_in_order)
        self.budget = Share(budget.BUDGET)
        self._files = files
        self._watcher = watcher
        self._products = products_of(piece for file in files for piece in file.pieces)
        self._copier = Copier()
        self._alone = self._drawn_alone()

    def forked(self) -> Forked:
        """Return processes that draw for it; if it held them, both would wait for the collector."""
        return Forked(min(cores(), len(self._alone)), self._draw_alone)

    def write(self, forked: Forked) -> None:
        with Work() as work, self._one_thread():
            if self._is_in_order:
                (file,) = self._files
                self._write_in_order(work, file)
            else:
                self._write_anywhere(work, forked)

    def _one_thread(self) -> AbstractContextManager[None]:
        """Hold torch to one thread for each draw, since draws run side by side."""
        if not self._need_torch:
            return nullcontext()
        from reinit_cli.tensors.device import one_thread

        return one_thread()

    @property
    def _need_torch(self) -> bool:
        """Whether any draws do."""
        return any(product.needs_torch for product in self._products)

    # --- in any order -------------------------------------------------------------------

    def _write_anywhere(self, work: Work, forked: Forked) -> None:
        """Copy in some threads while others draw; what depends on digests comes last."""
        copies = [piece for file in self._files for piece in without_cloned(file)]
        announce(copies)
        threads = _COPYING_THREADS if are_in_any_order(copies) else 1
        copying = work.each(self._copier.write, copies, threads)
        # The largest first: a large one that comes last would be drawn while others idle.
        largest_first = sorted(self._products, key=lambda each: -each.nbytes)
        drawing = self._drawing(work, lambda each: self._produce(each, forked), largest_first)
        for results in (copying, drawing):
            for _ in results:
                pass
        for file in self._files:
            write_late(file)

    def _produce(self, product: Product, forked: Forked) -> None:
        try:
            with product.followed():
                if not self._was_drawn_alone(product, forked):
                    self._produce_anywhere(product)
        finally:
            self.budget.give_back(self.producer.peak_nbytes(product))

    def _produce_anywhere(self, product: Product) -> None:
        if product.is_strided:
            self.producer.lay(product)
            return
        pens = {id(piece): Pen(piece) for piece, _ in product.places}
        for piece, data in self.producer.parts(product):
            pens[id(piece)].write(data)
        for pen in pens.values():
            pen.end()

    # --- in other processes -------------------------------------------------------------

    def _drawn_alone(self) -> dict[int, int]:
        """Return the draws that other processes are to write, by identity, each with its number."""
        is_local = all(isinstance(file.writer, LocalWriter) for file in self._files)
        if not is_local or self._threads < 2 or not can_fork():
            return {}
        alone = {id(each): at for at, each in enumerate(self._products) if each.stands_alone}
        nbytes = sum(self._products[at].nbytes for at in alone.values())
        return alone if nbytes >= _FORKED_NBYTES else {}

    def _draw_alone(self, number: int, progress: Progress) -> Form:
        """Write a draw in another process, and return what this one is to know of it."""
        product = self._products[number]
        for file in self._files:
            file.progress = progress
        self._watcher.forget()
        self.producer.overflown.clear()
        self._produce_anywhere(product)
        return {
            "digests": [piece.file.crc_of(piece) for piece, _ in product.places],
            "overflown": sum(self.producer.overflown.values()),
            "seen": self._watcher.form(),
        }

    def _was_drawn_alone(self, product: Product, forked: Forked) -> bool:
        """Have a draw written by another process, if one can."""
        number = self._alone.get(id(product))
        if number is None:
            return False
        form = forked.draw(number, product.places[0][0].file.progress)
        if form is None:
            return False
        for (piece, _), crc in zip(product.places, form["digests"], strict=True):
            piece.file.note(piece, crc)
        self.producer.count_overflow(product, form["overflown"])
        self._watcher.take_over(form["seen"])
        return True

    # --- one after the other ------------------------------------------------------------

    def _write_in_order(self, work: Work, file: OpenFile) -> None:
        """Write one piece after the other, drawing ahead up to a bound."""
        announce(file.pieces)
        ahead = Ahead(work)
        drawing = self._drawing(work, lambda each: self._drawn_ahead(each, ahead), self._products)
        drawn: dict[int, memoryview] = {}
        left = {piece.at: product for product in self._products for piece, _ in product.places}
        for piece in file.pieces:
            stop_here()
            product = left.pop(piece.at, None)
            if product is not None and self.producer.flows(product):
                self._put_from(ahead, piece)
            elif product is not None:
                while piece.at not in drawn:
                    drawn |= next(drawing)[1]
                self._put(piece, [drawn.pop(piece.at)])
                self._give_back(product, left)
            elif self.producer.is_refused:
                continue
            elif isinstance(piece.segment, Late):
                put(piece, file.computed(piece.segment))
            else:
                self._copier.write(piece)
        for _ in drawing:
            pass

    def _put_from(self, ahead: Ahead, piece: Piece) -> None:
        """Write a piece as it is drawn."""
        left = piece.segment.nbytes

        def taken() -> Iterator[bytes]:
            nonlocal left
            while left:
                data = ahead.take(piece.at)
                left -= len(data)
                yield data

        self._put(piece, taken())

    def _put(self, piece: Piece, parts: Iterable[bytes | memoryview]) -> None:
        """Write a piece, but nothing from the first refused number on.

        What is in a pipe cannot be taken back. A reader must find the file cut short, not whole
        with infinities in it.
        """
        pen = Pen(piece)
        for data in parts:
            if not self.producer.is_refused:
                pen.write(data)
        if not self.producer.is_refused:
            pen.end()

    def _drawn_ahead(self, product: Product, ahead: Ahead) -> dict[int, memoryview]:
        """Hand over what comes in blocks, and return everything else, by its place in the file."""
        with product.followed():
            return self._produce_ahead(product, ahead)

    def _produce_ahead(self, product: Product, ahead: Ahead) -> dict[int, memoryview]:
        if not self.producer.flows(product):
            return self._produced_whole(product)
        try:
            for piece, data in self.producer.parts(product):
                ahead.put(piece.at, data)
        finally:
            self.budget.give_back(self.producer.peak_nbytes(product))
        return {}

    def _produced_whole(self, product: Product) -> dict[int, memoryview]:
        """Return the bytes of each piece, by its position in the file."""
        if len(product.places) == 1:  # all of it comes together
            return {piece.at: data for piece, data in self.producer.parts(product)}
        whole = {piece.at: bytearray() for piece, _ in product.places}
        for piece, data in self.producer.parts(product):  # each is gone with the next: no join
            whole[piece.at] += data
        return {at: memoryview(data) for at, data in whole.items()}

    def _give_back(self, product: Product, left: Mapping[int, Product]) -> None:
        """Give back the memory of a draw whose last piece has been written."""
        if not any(piece.at in left for piece, _ in product.places):
            self.budget.give_back(self.producer.peak_nbytes(product))

    # --- both ---------------------------------------------------------------------------

    def _drawing(
        self, work: Work, produce: Callable[[Product], Result], products: Iterable[Product]
    ) -> Iterator[tuple[int, Result]]:
        """Begin to draw, each thread with a BLAS of one thread."""
        from reinit_cli.tensors.device import use_one_thread

        begin = use_one_thread if self._need_torch else None
        return work.each(produce, self._within_budget(products), self._threads, begin)

    @property
    def _threads(self) -> int:
        """How many threads draw."""
        if not self._products:
            return 0
        return cores() if self.producer.device == "cpu" else 1

    def _within_budget(self, products: Iterable[Product]) -> Iterator[Product]:
        """Yield products in their order, each when there is memory for it.

        Threads take their turns here, so none that comes later takes what an earlier one
        waits for.
        """
        for product in products:
            self.budget.take(self.producer.peak_nbytes(product))
            yield product


def write_late(file: OpenFile) -> None:
    """Write what depends on digests, of which some are those of others."""
    waiting = [piece for piece in file.pieces if isinstance(piece.segment, Late)]
    while waiting:
        unready = []
        for piece in waiting:
            if file.is_ready(_late(piece)):
                put(piece, file.computed(_late(piece)))
            else:
                unready.append(piece)
        assert len(unready) < len(waiting)
        waiting = unready


def _late(piece: Piece) -> Late:
    assert isinstance(piece.segment, Late)
    return piece.segment
