"""Read the weights of a file into memory, and put them into a model by its library's own code."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from reinit_cli.checkpoints.file import file_source
from reinit_cli.checkpoints.models.borrowing import replaced
from reinit_cli.checkpoints.models.model import not_the_weights, some
from reinit_cli.errors import MalformedFileError, ReinitError
from reinit_cli.storage.crc32 import crc32
from reinit_cli.storage.segments import Check, View

if TYPE_CHECKING:
    from torch import Tensor

_BLOCK_NBYTES = 2**20


def state_in(path: str, model: str) -> dict[str, Any]:
    """Return the tensors of a file of weights, nested as they are in it.

    Args:
        path: the file.
        model: the model that they are for.

    Raises:
        SourceError: it cannot be read, or does not say which of several networks it is.
    """
    source = file_source(path, model, None)
    if source.located.neighbors:
        raise not_the_weights(model, path, "it holds several networks")
    state: dict[str, Any] = {}
    with source.open(0) as contents:
        for check in contents.checks():
            _compare(check)
        for tensor in source.tensors:
            if tensor.carried is None:
                state[tensor.key] = _tensor(contents.view(tensor))
    for name in reversed(source.located.root.split(".") if source.located.root else ()):
        state = {name: state}  # a library may look for the weights below such names itself
    return state


def _tensor(view: View) -> Tensor:
    from reinit_cli.tensors.convert import read
    from reinit_cli.tensors.rounding import torch_tensor

    return torch_tensor(read(view))


def _compare(check: Check) -> None:
    """Refuse bytes that have another CRC-32 than the file records."""
    crc, end = 0, check.offset + check.length
    for start in range(check.offset, end, _BLOCK_NBYTES):
        crc = crc32(check.file.read(start, min(_BLOCK_NBYTES, end - start)), crc)
    if check.crc not in (0, crc):
        problem = f"the CRC-32 of {check.name!r} does not match"
        raise MalformedFileError(check.file.path, problem, "crc")


@contextmanager
def complete_loads(
    path: str, model: str, starts_constant: Callable[[str, tuple[int, ...]], bool]
) -> Iterator[None]:
    """Refuse weights that leave a tensor of a module as it was, or that do not fit.

    A library may load them leniently, and what is missing would be random.

    Args:
        path: the file that they are from.
        model: what people call the model.
        starts_constant: whether its constructor fills a tensor with what is not random.

    Raises:
        SourceError: they are loaded into a module in this block.
    """
    import torch

    load_state_dict = torch.nn.Module.load_state_dict

    def load(module: Any, state_dict: Mapping[str, Any], *args: Any, **kwargs: Any) -> Any:
        done = load_state_dict(module, state_dict, *args, **kwargs)
        shapes = {key: tuple(each.shape) for key, each in module.state_dict().items()}
        lost = [key for key in done.missing_keys if not starts_constant(key, shapes[key])]
        if lost:
            raise not_the_weights(model, path, f"{some(lost)} missing")
        return done

    with replaced(torch.nn.Module, "load_state_dict", load):
        try:
            yield
        except ReinitError:
            raise
        except Exception as error:
            raise not_the_weights(model, path, _said(error)) from error


def _said(error: Exception) -> str:
    """Return an error in one line, without the title that torch gives those of loading."""
    title, *lines = str(error).splitlines() or [""]
    if lines and "loading state_dict" in title:
        return lines[0].strip().partition(",")[0]
    return f"{type(error).__name__}: {title.strip()}".removesuffix(": ")
