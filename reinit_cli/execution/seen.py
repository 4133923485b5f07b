"""Show to who watches what each of several rules fills of a tensor."""

from __future__ import annotations

from functools import partial

from reinit_cli.execution.fill import Observe, Observer
from reinit_cli.execution.patches import Patchwork
from reinit_cli.tensors.elements import Elements
from reinit_cli.tensors.moments import Moments, moments_of


class Seen:
    """Who watches the shares of a tensor."""

    def __init__(self, patchwork: Patchwork, observe: Observe) -> None:
        """Show them the present values, if these are to be measured.

        Args:
            patchwork: the tensor.
            observe: who is shown the draw of a share.
        """
        shares = patchwork.fill.shares
        self._observers: dict[int, tuple[Observer, ...]] = {
            at: tuple(observe(share.step))
            for at, share in enumerate(shares)
            if share.step.action == "fill"
        }
        for at, observers in self._observers.items():
            if observers and patchwork.fill.before is not None:
                was = partial(patchwork.present, at)
                before = sum(map(moments_of, was()), start=Moments())
                for observer in observers:
                    observer.see_before(was, before)

    def see(self, at: int, block: Elements) -> None:
        """Show them elements that a share fills.

        Args:
            at: the position of the share.
            block: the elements.
        """
        observers = self._observers[at]
        if observers:
            moments = moments_of(block)
            for observer in observers:
                observer.see(block, moments)
