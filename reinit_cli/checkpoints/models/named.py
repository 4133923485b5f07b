"""Turn the name of an architecture into what makes the module."""

from __future__ import annotations

from reinit_cli.checkpoints.source import Source
from reinit_cli.errors import RuleError
from reinit_cli.initializers.arch import ArchName, Arguments
from reinit_cli.initializers.site import Arch


def arch_given(
    arch: Arch | None, arguments: Arguments, source: Source | None = None
) -> Arch | None:
    """Return an architecture as a user gives it: a torchvision model's name, or what makes one.

    Args:
        arch: a name or a constructor; None for that of the source.
        arguments: those of the constructor.
        source: the checkpoint, which may be a model by its name, or have a config in its folder.

    Raises:
        RuleError: there are arguments, and nothing that takes them.
        UnknownNameError, SourceError: there is nothing of that name.
    """
    if arch is None and arguments:
        raise RuleError("", kind="no arch")
    arch = arch or (source.architecture if source is not None else None)
    if arch is None:
        return None
    named = ArchName.parse(arch) if isinstance(arch, str) else None
    if not arguments and (named is None or named.library == "torchvision"):
        return arch
    return _called(arch, named, arguments, source)


def _called(
    arch: Arch, named: ArchName | None, arguments: Arguments, source: Source | None
) -> Arch:
    from reinit_cli.checkpoints.models import called

    if named is None:
        name = getattr(arch, "__name__", "the constructor")
        return called.Called(name, lambda: arch, arguments)  # type: ignore[arg-type, return-value]
    match named.library:
        case "torchvision":
            return called.torchvision_model(named.name, arguments)
        case "timm":
            from reinit_cli.checkpoints.models.timm import timm_model

            return timm_model(named, arguments)
        case "transformers":
            from reinit_cli.checkpoints.fetching import store_with
            from reinit_cli.checkpoints.models.transformers import transformers_model
            from reinit_cli.checkpoints.models.transformers_config import config_next_to

            path, is_folder = (source.path, source.is_folder) if source else (None, False)
            store = store_with(source)
            config = config_next_to(path, named.text, store, is_folder=is_folder)
            return transformers_model({**config, **arguments})
        case _:
            return called.own_code(named, arguments)
