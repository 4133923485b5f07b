"""State what made a checkpoint, inside it or in a file, so that it can be verified.

A record is one line of JSON. It holds no time, path or host, so that the same command gives
the same bytes. Its digests are SHA-256s in hexadecimal:

    source.sha256   of the SHA-256s of the source's pieces of 4 MiB; of a folder, of the lines
                    "NAME NBYTES DIGEST" of its files by name; of a model, of its tensors
    filled[].sha256 of the bytes from a tensor's first element to its last; where it lies in
                    several places, of their SHA-256s, file by file
    rest.sha256     of the SHA-256s of the output's pieces, without what was filled and
                    without the record itself; of a folder as above
    sha256          of the record, with 64 zeros in this place

`filled[].parts` has what rules did with parts of a tensor, in their order, where they did; the
last that covers an element decided, and `init` is about the rest: "keep" where it stayed.

`filled[].needs_arch` is true where the code of a layer says how it starts, which is not as names
and shapes tell it; `filled[].law_key` is the key that the law is of, where it is another.

`constructor` says where that of `arch` is from: the package and its version, or the name and the
SHA-256 of a file.

`source.revision` and `source.commit` say which version of a model on the Hugging Face Hub was read:
by which name, and which one that was.

`laws` has the versions of the initializers that were used, those of version 1 left out; and
that of resizing, of which version 2 resizes the biases of weights too, where it did; that of
weight norm, of which version 2 lets norms follow what is drawn, where there are such; and that of
models without weights, of which version 2 draws each tensor from its own stream.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any, NoReturn

from reinit_cli.checkpoints.fetching import revision_of
from reinit_cli.checkpoints.find import find_source
from reinit_cli.checkpoints.model import MODEL, MODEL_VERSION, ModelSource
from reinit_cli.checkpoints.source import Source
from reinit_cli.errors import RecordError, UnknownNameError
from reinit_cli.initializers.arch import ArchName
from reinit_cli.initializers.arguments import versions_of
from reinit_cli.initializers.complexes import COMPLEX, COMPLEX_VERSION, Complex
from reinit_cli.initializers.declaration import KEEP
from reinit_cli.initializers.site import Versions
from reinit_cli.planning.job import Job
from reinit_cli.planning.output import layout_form, root_form
from reinit_cli.planning.plan import KEEP_ZEROS, KEEP_ZEROS_VERSION, Plan, Step
from reinit_cli.planning.reshape import RESIZE, RESIZE_VERSION, is_of_version
from reinit_cli.planning.weight_norm import WEIGHT_NORM, WEIGHT_NORM_VERSION, are_norms_left
from reinit_cli.request.json_text import parse_json
from reinit_cli.request.request import options_form
from reinit_cli.storage.location import is_fetched
from reinit_cli.streams.stream import Stream, stream_named
from reinit_cli.text import quoted
from reinit_cli.version import __version__

VERSION = 1

RECORD_START = f'{{"version":{VERSION},"reinit":"'
"""What a record begins with, as it is written."""

BLANK = "0" * 64
"""What stands for a digest that is not known yet."""


def blank_record(job: Job, digest: tuple[int, str], *, is_inside: bool) -> Form:
    """Return a record without the digests of what is written: it is as long as it will be.

    Args:
        job: what was decided.
        digest: the size and the digest of the source.
        is_inside: whether the record is kept in the output; else it has a row per tensor.
    """
    plan, source = job.plan, job.source
    weights = source.weights and os.path.basename(source.weights)
    located = source.located
    return {
        "version": VERSION,
        "reinit": __version__,
        "torch": torch_version(),
        "stream": plan.request.stream,
        **laws_form(plan, source),
        **options_form(plan.request),
        **arch_form(job),
        **layout_form(plan.request, source, job.layout),
        "source": {
            "name": name_in_record(source),
            **revision_form(source),
            "weights": weights,
            "format": located.format if located else None,
            "root": root_form(plan.request, source),
            "nbytes": digest[0],
            "sha256": digest[1],
        },
        "rule": [rule.serial() for rule in plan.rules],
        "filled": [_filled_form(step) for step in drawn_steps(plan)],
        **({} if is_inside else {"tensors": [_tensor_form(step) for step in plan.steps]}),
        **config_form(plan),
        "rest": {"sha256": BLANK},
        "sha256": BLANK,
    }


Form = dict[str, Any]


def name_in_record(source: Source) -> str:
    """Return a source's name without the folder it is in; a URL is a name as a whole."""
    is_whole = revision_of(source) is not None or is_fetched(source.name)
    return source.name if is_whole else os.path.basename(source.name.rstrip(os.sep))


def revision_form(source: Source) -> Form:
    """Return which version of a source is read, where it has versions."""
    revision = revision_of(source)
    return {} if revision is None else {"revision": revision.name, "commit": revision.commit}


def laws_form(plan: Plan, source: Source) -> Form:
    """Return the versions of the laws that are drawn, as a member of its own where any is not 1."""
    inits = [
        share.init for step in drawn_steps(plan) for share in step.shares if share.init is not None
    ]
    versions = versions_of(inits)
    if any(init.keep_zeros for init in inits):
        versions[KEEP_ZEROS] = KEEP_ZEROS_VERSION
    if any(map(is_of_version, plan.steps)):
        versions[RESIZE] = RESIZE_VERSION
    laws = (share.law for step in drawn_steps(plan) for share in step.shares)
    if any(isinstance(law, Complex) for law in laws):
        versions[COMPLEX] = COMPLEX_VERSION
    if are_norms_left(plan.steps):
        versions[WEIGHT_NORM] = WEIGHT_NORM_VERSION
    if isinstance(source, ModelSource) and source.is_drawn:
        versions[MODEL] = MODEL_VERSION
    return {"laws": versions} if versions else {}


def arch_form(job: Job) -> Form:
    """Return where the architecture is from, and its name without the path to a file."""
    arch, origin = job.plan.request.arch or job.source.architecture, job.references.origin
    if not origin or not isinstance(arch, str):
        return {}
    named = ArchName.parse(arch)
    name = f"./{os.path.basename(named.place)}:{named.name}" if named.library == "file" else arch
    return {"arch": name, "constructor": dict(origin)}


def config_form(plan: Plan) -> Form:
    """Return the members of configs that change, as a member of its own where any does."""
    return {"config": [asdict(change) for change in plan.config]} if plan.config else {}


def torch_version() -> str:
    """Return torch's version, without the name of its build; torch is not imported for it."""
    from importlib.metadata import version

    return version("torch").partition("+")[0]


def drawn_steps(plan: Plan) -> Iterator[Step]:
    """Return the steps of all keys of which something is drawn, those outside the state dict last."""
    steps = (*plan.steps, *plan.slots)
    return (step for step in steps if any(share.law is not None for share in step.shares))


def _keys_of_part(step: Step, patch: Step) -> Form:
    """Return the keys of the stream and the law of a part, where they are not those of the rest."""
    if patch.law_key or step.law_key:
        stream = patch.stream_key or step.seed_key
        return {"seed_key": stream, "law_key": patch.law_key or step.seed_key}
    return {"seed_key": patch.stream_key} if patch.stream_key else {}


def _filled_form(step: Step) -> Form:
    init = KEEP if step.law is None else str(step.init)
    form: Form = {"key": step.key, "init": init, "sha256": BLANK}
    parts = [patch for patch in step.patches if patch.action != "skip"]
    if parts:
        form["parts"] = [
            {"part": patch.part.text, "init": KEEP if patch.law is None else str(patch.init)}
            | _keys_of_part(step, patch)
            for patch in parts
            if patch.part is not None
        ]
    if step.norm_of:
        form["norm_of"] = step.norm_of
    if step.drawn_from != step.key:
        form["seed_key"] = step.drawn_from
    if step.stream_key or step.law_key:
        form["law_key"] = step.law_key or step.norm_of or step.seed_key
    if any(share.needs_arch for share in step.shares):
        form["needs_arch"] = True
    if step.source_key is not None:
        form["source_key"] = step.source_key
    if step.donor_key:
        form["from"] = step.donor_key
    if step.kept_rows:
        form["from_row"] = step.kept_rows
    if step.law is not None and step.stream and not stream_named(step.stream).needs_torch:
        # With other streams, all values depend on the version of torch, which is recorded.
        form |= {"library": step.law.library} if step.law.library else {}
    return form


def _tensor_form(step: Step) -> Form:
    return {
        "key": step.key,
        **({} if step.source_key is None else {"source_key": step.source_key}),
        "shape": step.tensor.shape,
        "dtype": step.tensor.dtype,
        "nbytes": step.tensor.nbytes,
        "action": step.action,
        "seed": step.seed_form if step.law is not None and step.law.is_random else None,
    }


def text_of(form: Mapping[str, Any]) -> str:
    """Return a record as it is written, with its own digest in it."""
    blank = _dumps({**form, "sha256": BLANK})
    return _dumps({**form, "sha256": hashlib.sha256(blank.encode()).hexdigest()})


def _dumps(form: Mapping[str, Any]) -> str:
    return json.dumps(form, separators=(",", ":"), allow_nan=False)


def is_whole(form: Mapping[str, Any], text: str) -> bool:
    """Whether a record is, to the last byte, the one that was written with its digest."""
    try:
        return text_of(form) == text
    except ValueError:  # JSON has no number that is infinite, as 1e400 is read
        return False


def record_in(path: str) -> str | None:
    """Return the record that a checkpoint holds, or None.

    Raises:
        ReinitError: it cannot be read.
    """
    with find_source(path).open(0) as contents:
        return next((each.text for each in contents.recorded().values()), None)


def parse_record(text: str, path: str) -> Form:
    """Read a record.

    Args:
        text: the record.
        path: where it is from, for messages.

    Raises:
        RecordError: it is not a valid record.
    """
    try:
        form: Any = parse_json(text, "its record", "checkpoint", parse_constant=_refuse_constant)
    except ValueError as error:
        raise RecordError(path, str(error)) from error
    if not isinstance(form, dict) or "filled" not in form:
        raise RecordError(path, "it has no record")
    if form.get("version") != VERSION:
        raise RecordError(path, f"its record is of version {form.get('version')!r}")
    _check_stream(form.get("stream"), path)
    wrong = next(_wrong(form, "", _MEMBERS), None)
    if wrong is not None:
        raise RecordError(path, f"its record has no {wrong}")
    for row in form["filled"]:
        wrong = next(_wrong(row, "filled.", _MEMBERS_OF_FILLED), None)
        if wrong is not None:
            raise RecordError(path, f"its record has no {wrong}")
    versions = form.get("laws", {})
    if not isinstance(versions, dict) or not all(map(_is_version, versions.values())):
        raise RecordError(path, "its record has laws whose versions are not numbers from 1 on")
    return form


def _check_stream(name: object, path: str) -> None:
    """Check that a record names a stream that is known here, exactly.

    Raises:
        RecordError: it does not.
    """
    try:
        if isinstance(name, str) and stream_named(name).name == name:
            return
    except UnknownNameError as error:
        if error.kind == "newer stream":
            raise RecordError(path, f"its record: {error}", kind=error.kind) from error
    problem = f"its record names an unknown stream, {quoted(str(name))}"
    raise RecordError(path, problem, kind="stream")


def stream_in(form: Form) -> Stream:
    """Return the stream that a record names."""
    return stream_named(form["stream"])


def versions_in(form: Form) -> Versions:
    """Return the versions of initializers that a record names."""
    versions: Versions = form.get("laws", {})
    return versions


def _is_version(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


_Kinds = Mapping[str, type | tuple[type, ...]]


_MEMBERS: _Kinds = {
    "seed": int,
    "device": str,
    "source": dict,
    "source.name": str,
    "source.nbytes": int,
    "source.sha256": str,
    "source.root": (str, type(None)),
    "source.weights": (str, type(None)),
    "arch": (str, type(None)),
    "arch_args": (dict, type(None)),
    "record": bool,
    "rule": list,
    "filled": list,
    "rest": dict,
    "rest.sha256": str,
    "sha256": str,
}


_MEMBERS_OF_FILLED: _Kinds = {"key": str, "init": str, "sha256": str}


def _wrong(form: Any, prefix: str, members: _Kinds) -> Iterator[str]:
    """Yield the members of a record that are missing or of another kind."""
    for name, kind in members.items():
        value: Any = form
        for part in name.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        is_number = kind is int and isinstance(value, bool)
        if not isinstance(form, dict) or not isinstance(value, kind) or is_number:
            yield f"{prefix}{name}"
