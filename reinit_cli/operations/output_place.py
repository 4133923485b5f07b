"""Choose the path of an output, and find those that exist already."""

from __future__ import annotations

import os
from dataclasses import replace

from reinit_cli.checkpoints.find import named_by_path
from reinit_cli.checkpoints.folder import FolderSource
from reinit_cli.checkpoints.formats import SUFFIXES, is_of_folder, suffix_of
from reinit_cli.checkpoints.source import Source
from reinit_cli.errors import OutputError, OutputTakenError, OutputUnwritableError
from reinit_cli.operations.bounds import (
    check_output,
    check_url_of_output,
    folders_for_output,
)
from reinit_cli.planning.output import BESIDE, BESIDE_AS_FOLDER
from reinit_cli.request.output_name import OutputName
from reinit_cli.request.request import Request
from reinit_cli.storage.destination import Destination, identity_of
from reinit_cli.storage.in_place import check_no_link
from reinit_cli.storage.kinds import kind_at
from reinit_cli.storage.local import names_next_to
from reinit_cli.storage.location import DASH, SourceName, is_remote, name_in_hub_cache


def takes_outputs(path: str, *, is_form: bool = False) -> bool:
    """Whether an output goes into a path under its own name, as `cp` has it.

    Args:
        path: the output as it was named.
        is_form: whether it comes from a form with placeholders, which names the output itself.
    """
    return path.endswith(os.sep) or (not is_form and kind_at(path) == "folder")


def destination_of(request: Request, source: Source) -> Destination:
    """Return where the output of a source goes.

    Raises:
        OutputUnwritableError: the source cannot be replaced, or lies in a cache.
    """
    if request.in_place:
        return _in_place(request, source)
    check_url_of_output(request.output, request.allow_paths)
    path = _path_of(request, source)
    if path == DASH:
        return Destination(None)
    within = folders_for_output(request)
    return Destination(path, request.force, request.fsync, makes_folders=True, within=within)


def _in_place(request: Request, source: Source) -> Destination:
    if is_remote(request.source):
        problem = "a remote file is not replaced in place"
        raise OutputUnwritableError(request.called, problem, kind="remote")
    if isinstance(source, FolderSource) and request.output is None:
        problem = "a folder is not replaced, but its files can be"
        known = source.paths_of_weights
        if source.located.parts:
            problem = f"a {source.located.format} is not replaced"
            raise OutputUnwritableError(request.called, problem)
        for path in known:
            check_no_link(path)
        raise OutputUnwritableError(request.called, problem, known, kind="in place")
    if source.path is None or request.output is not None:
        problem = "in place means a file as source and no other output"
        raise OutputUnwritableError(request.called, problem)
    check_no_link(source.path)
    return Destination(source.path, replaces=True, syncs=True, source=source.fingerprint)


def _path_of(request: Request, source: Source) -> str:
    """Return the path of the output; a source that is a pipe is written to a pipe.

    What would be called after a file in a hub cache goes to the current folder: a cache
    holds what was downloaded, and nothing else.
    """
    if request.output is None and source.name == DASH:
        return DASH
    called, is_folder = source.called, source.is_folder
    path = _named(request, called, is_folder=is_folder)
    if is_remote(path) or not name_in_hub_cache(called.parent or os.curdir):
        return path
    if not _is_beside(request):
        return _named(request, _out_of_hub_cache(called, source), is_folder=is_folder)
    if not name_in_hub_cache(os.path.dirname(path)):
        return path
    path = _named(request, _out_of_hub_cache(called, source), is_folder=is_folder)
    if name_in_hub_cache(os.curdir):
        raise OutputUnwritableError(path, "the current folder is one of a cache", kind="cache")
    return path


def _is_beside(request: Request) -> bool:
    output = request.output
    return output is None or (isinstance(output, OutputName) and output.is_beside)


def _named(request: Request, called: SourceName, *, is_folder: bool) -> str:
    """Return the path of the output of a source that has a name."""
    is_new_folder = request.makes_folder
    output = request.output
    if output is None:
        output = BESIDE_AS_FOLDER if is_new_folder else BESIDE
    if isinstance(output, str):
        path, is_form = output, False
    else:
        path, is_form = output.of(called, request.seed), True
        if output.is_exact or output.is_beside:
            return path
    is_folder = is_new_folder or (is_folder and suffix_of(path).lower() not in SUFFIXES)
    if path == DASH or not takes_outputs(path, is_form=is_form):
        return path
    if request.to is not None and kind_at(path) is None:
        return path.rstrip(os.sep)  # as `cp -r` has it
    if request.skip_existing and is_folder and _is_output(path, called):
        return path
    return os.path.join(path, called.stem + ("" if is_new_folder else called.suffix))


def _is_output(path: str, called: SourceName) -> bool:
    """Whether an existing folder is the output of an earlier run, and not one that takes outputs.

    A run that is repeated would otherwise write into what it wrote, as `cp -r` does. Only
    names are looked at.
    """
    if path.endswith(os.sep):
        return False
    of_source = names_next_to(os.path.join(called.parent, called.stem, ""))
    return any(
        is_of_folder(name) or (name in of_source and suffix_of(name).lower() in SUFFIXES)
        for name in names_next_to(os.path.join(path, ""))
    )


def existing_output(request: Request) -> str | None:
    """Return the output of a request if it exists and is to be skipped, without a look into it.

    None where that takes a look into the source, as the name of a model's output does.

    Raises:
        OutputTakenError: it is the source itself.
        RecipeError: a recipe names it elsewhere than in the current folder.
    """
    if not request.skip_existing:
        return None
    path = path_by_name(request)
    if path is None or path == DASH or kind_at(path) is None:
        return None
    check_output(request, path)
    identity = identity_of(path)
    if identity is not None and identity == identity_of(request.source):
        is_folder = kind_at(path) == "folder"
        raise OutputTakenError(path, kind="source", of="a folder" if is_folder else "")
    return path


def path_by_name(request: Request) -> str | None:
    """Return the path of an output, as far as the names of source and output tell."""
    output = request.output
    if isinstance(output, str) and not takes_outputs(output):
        return output
    named = named_by_path(request.source, request.weights)
    if named is None or name_in_hub_cache(named.called.parent or os.curdir):
        return None
    return _named(request, named.called, is_folder=named.is_folder)


def refuse_conflicts(request: Request) -> None:
    """Refuse to replace what is to be skipped.

    Raises:
        OutputError: both are asked for.
    """
    others = {"--force": request.force, "--in-place": request.in_place}
    for option in [name for name, is_set in others.items() if is_set and request.skip_existing]:
        raise OutputError("", f"--skip-existing and {option} cannot be combined")


def _out_of_hub_cache(called: SourceName, source: Source) -> SourceName:
    """Return a name in the current folder: the model's for one that is a hash in a cache."""
    folder = os.path.basename(os.path.realpath(called.parent or os.curdir))
    if folder not in ("snapshots", "blobs"):
        return replace(called, parent="")
    is_blob = folder == "blobs" and source.format is not None
    suffix = source.format.suffixes[0] if source.format and is_blob else called.suffix
    return SourceName("", name_in_hub_cache(called.parent or os.curdir), suffix)
