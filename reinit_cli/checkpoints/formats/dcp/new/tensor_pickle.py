"""Write the pickle of a tensor alone in its storage, as `torch.save` does."""

from __future__ import annotations

from math import prod

from reinit_cli.checkpoints.formats.torch.edits.writing import (
    FALSE,
    written_name,
    written_number,
    written_sizes,
    written_text,
)
from reinit_cli.checkpoints.formats.torch.pickles.record_kinds import UTILS, WITH_DTYPE
from reinit_cli.checkpoints.formats.torch.pickles.tensor_records import STORAGE_CLASSES

_START = b"\x80\x02"
_MARK = b"("
_TUPLE = b"t"
_OF_STORAGE = b"Q"
_CALLED = b"R"
_CALLED_WITHOUT = b")R"
_END = b"."

_UNTYPED = "torch.storage", "UntypedStorage"


def pickle_of(dtype: str, shape: tuple[int, ...], nbytes: int) -> bytes:
    """Return the pickle of a contiguous tensor.

    Args:
        dtype: torch's name of its dtype.
        shape: its dimensions.
        nbytes: what its elements take.
    """
    # Dtypes that are younger than the classes of storages have storages of bytes.
    class_ = STORAGE_CLASSES.get(dtype)
    rebuild = "_rebuild_tensor_v2" if class_ else WITH_DTYPE
    pickle = _Pickle()
    pickle.store(_START + written_name(UTILS, rebuild))
    pickle.put(_MARK + _MARK)
    pickle.store(written_text("storage"))
    pickle.store(written_name(*(("torch", class_) if class_ else _UNTYPED)))
    pickle.store(written_text("0"))
    pickle.store(written_text("cpu"))
    pickle.store(written_number(prod(shape) if class_ else nbytes) + _TUPLE)
    pickle.put(_OF_STORAGE + written_number(0))
    pickle.store_sizes(shape)
    pickle.store_sizes(_strides(shape))
    pickle.put(FALSE)
    pickle.store(written_name("collections", "OrderedDict"))
    pickle.store(_CALLED_WITHOUT)
    if not class_:
        pickle.store(written_name("torch", dtype))
    pickle.store(_TUPLE)
    pickle.store(_CALLED)
    pickle.put(_END)
    return bytes(pickle.data)


class _Pickle:
    """A pickle of protocol 2, whose parts are stored in the memo one after the other."""

    def __init__(self) -> None:
        self.data = bytearray()
        self._stored = 0

    def put(self, opcodes: bytes) -> None:
        self.data += opcodes

    def store(self, opcodes: bytes) -> None:
        self.data += opcodes + b"q" + bytes((self._stored,))
        self._stored += 1

    def store_sizes(self, sizes: tuple[int, ...]) -> None:
        """Put a tuple; the empty one is not stored."""
        write = self.store if sizes else self.put
        write(written_sizes(sizes))


def _strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the strides that torch gives a new tensor, where a dimension of none counts as one."""
    return tuple(prod(max(1, dim) for dim in shape[at + 1 :]) for at in range(len(shape)))
