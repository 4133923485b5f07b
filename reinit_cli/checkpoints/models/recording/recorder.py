"""Record what a function does to tensors: its draws are noted, and everything else is done."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Any

from reinit_cli.checkpoints.models.borrowing import own_random_state
from reinit_cli.checkpoints.models.recording import known_functions
from reinit_cli.checkpoints.models.recording.calls import Call
from reinit_cli.checkpoints.models.recording.memory import Memory
from reinit_cli.checkpoints.models.recording.operations import obey
from reinit_cli.lazy import LazyModule

if TYPE_CHECKING:
    import torch
else:
    torch = LazyModule("torch")


@contextmanager
def recording(seed: int = 0) -> Iterator[Memory]:
    """Record what fills tensors in this block, instead of drawing it.

    Args:
        seed: of all chance that is not torch's, and of what has to be drawn.
    """
    from torch.overrides import TorchFunctionMode
    from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

    memory = Memory(seed)
    functions = _Functions(memory)

    class Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            del types
            call = Call(func, args, kwargs or {})
            frame = functions.running(call)
            return obey(memory, call) if frame is None else functions.passed(frame, call)

    class Looks(TorchFunctionMode):
        """See to it that who takes the bytes of a tensor finds a draw in them."""

        def __torch_function__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            del types
            if getattr(func, "__name__", "") in _LOOKS and isinstance(args[0], torch.Tensor):
                with _disable_current_modes(), torch.no_grad():
                    memory.draw(args[0])
                    if func.__name__ == "numpy" and memory.is_random(args[0]):
                        memory.note_unknown(args[0], _AS_ARRAY, args[:1])
            done = func(*args, **(kwargs or {}))
            is_copy = getattr(func, "__name__", "") == "__deepcopy__"
            if is_copy and not isinstance(args[0], torch.nn.Parameter):  # these are cloned
                with _disable_current_modes():
                    memory.adopt(args[0], done)
            return done

    with own_random_state(seed), Recorder(), Looks():  # type: ignore[no-untyped-call]
        yield memory


_LOOKS = frozenset(("numpy", "tolist", "__array__", "__dlpack__", "data_ptr", "__reduce_ex__"))
"""The methods that take the bytes of a tensor past torch's operations."""

_AS_ARRAY = "its constructor takes it as an array of numpy, which may change it"

_COMPARISONS = frozenset(("lt", "le", "gt", "ge"))


class _Functions:
    """The functions whose law is known, while they run."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._entered: FrameType | None = None

    def running(self, call: Call) -> FrameType | None:
        """Return the frame of such a function where an operation is a part of it."""
        begins = call.draws or call.changes or any(map(self._memory.knows, call.tensors))
        if self._entered is None and not begins:
            return None
        frame = known_functions.running()
        if frame is None:
            self._entered = None
        return frame

    def passed(self, frame: FrameType, call: Call) -> Any:
        """Note the law of a function with its first operation, and let it end without drawing."""
        if frame is not self._entered:
            self._entered = frame
            self._memory.note_draw(frame.f_locals["tensor"], known_functions.law_of(frame))
        if call.base in _COMPARISONS:
            return torch.zeros((), dtype=torch.bool)
        if call.base == "linalg_qr":
            rows, cols = call.args[0].shape
            least = min(rows, cols)
            return call.args[0].new_empty(rows, least), call.args[0].new_empty(least, cols)
        if call.changes and not call.is_view:
            return call.kwargs.get("out", call.args[0] if call.args else None)
        return call.run()
