"""Find the way on from an error, whichever words it is said in."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from reinit_cli import errors
from reinit_cli.checkpoints.formats import SUFFIXES
from reinit_cli.storage.location import is_fetched, scheme_of, url_meant
from reinit_cli.text import near


def offered(
    error: errors.ReinitError, hints: Mapping[tuple[type, str], str | Callable[[Any], str]]
) -> str:
    """Return the way on from an error in the words of a table, or "" where it has none.

    Args:
        error: what was refused.
        hints: for a family of errors and a kind, what to do, or what says it; the kind "" stands
            for all others of its family.
    """
    for family in type(error).__mro__:
        for kind in (error.kind, ""):
            hint = hints.get((family, kind))
            if hint is not None:
                return hint if isinstance(hint, str) else hint(error)
    return ""


def meant(error: errors.ReinitError) -> tuple[str, ...]:
    """Return what was perhaps meant, the nearest first."""
    if isinstance(error, errors.RecipeError) and isinstance(error.__cause__, errors.ReinitError):
        return meant(error.__cause__)
    if isinstance(error, errors.UnknownNameError) and error.kind == "model":
        files = without_suffix(error.about, error.known)
        return files or tuple(near(error.about, error.known))
    word = error.about if isinstance(error, errors.UnknownNameError) else error.word
    return error.known if word is None else tuple(near(word, error.known))


def without_suffix(word: str, names: Iterable[str]) -> tuple[str, ...]:
    """Return the checkpoints among names of files that a word is without its suffix."""
    return tuple(
        sorted(name for name in names if name.endswith(SUFFIXES) and name.split(".")[0] == word)
    )


def way_from(error: errors.UnsupportedFormatError) -> str:
    """Return the way on from a file that is something else."""
    way = _WAYS.get(error.word or "", "name a safetensors file, or one that torch.save wrote")
    return way if isinstance(way, str) else way(error)


def fetching(path: str) -> str:
    """Return the command that fetches what lies elsewhere, or "" for a name of no such place."""
    for pattern, command in _PLACES:
        found = re.fullmatch(pattern, path)
        if found:
            return f"fetch it first: {command(*found.groups())}"
    return ""


def credentials_for(url: str) -> str:
    """Return where the credentials for a URL are looked for, or "" where that is not known."""
    return _CREDENTIALS.get(scheme_of(url), "")


_CREDENTIALS = {
    "s3": "credentials are those of AWS's own tools, such as AWS_PROFILE; "
    """for a public bucket, set FSSPEC_S3='{"anon": true}'""",
    "gs": "credentials are those of gcloud auth application-default login; "
    """for a public bucket, set FSSPEC_GS='{"token": "anon"}'""",
    "https": "a signed URL may have expired",
}
"""What to do where a server says no, by the scheme."""


def path_of_url(url: str) -> str:
    """Return the way on from the URL of a file."""
    from urllib.parse import unquote, urlsplit

    return f"name it {shlex.quote(unquote(urlsplit(url).path))}"


def perhaps_on_hub(error: errors.SourceNotFoundError) -> str:
    """Return how a model of the Hub is named, where a path that is not there looks like one.

    A path may also be a URL but for a slash.
    """
    if url := url_meant(error.about):
        return f"a URL has two slashes, of which pathlib drops one: {shlex.quote(url)}"
    is_file = error.about.lower().endswith(SUFFIXES)
    found = _MODEL_OF_HUB.fullmatch(error.about)
    if is_file or found is None or (error.known and not found[1]):
        return ""
    return f"if it is a model of the Hugging Face Hub, name it hf://{found[1] or found[2]}"


_MODEL_OF_HUB = re.compile(
    r"(?:hf:|huggingface\.co/|hf\.co/)(\w[\w.-]*(?:/\w[\w.-]*)?)|(\w[\w.-]*/\w[\w.-]*)", re.ASCII
)
"""A model as it is called elsewhere, or by its place on the Hub."""


def _in_model(error: errors.SourceNotFoundError) -> str:
    found = [f"{error.of}/{name}" for name in near(error.about, error.known)]
    if found:
        return f"did you mean {' or '.join(map(shlex.quote, found))}?"
    few = ", ".join(map(shlex.quote, error.known[:_FEW_FILES]))
    return f"it has {few}" + (", ..." if len(error.known) > _FEW_FILES else "") if few else ""


_FEW_FILES = 5

ON_HUB: Mapping[tuple[type, str], str | Callable[[Any], str]] = {
    (errors.SourceError, "hub"): (
        "write it as hf://ORG/MODEL[@REVISION][/FILE], such as hf://openai-community/gpt2"
    ),
    (errors.SourceNotFoundError, "model"): (
        "look for it at https://huggingface.co/models; if it is private, log in: hf auth login"
    ),
    (errors.SourceNotFoundError, "revision"): lambda error: (
        f"name a branch, a tag or a commit of it; hf://{error.of} is its main branch"
    ),
    (errors.SourceNotFoundError, "in model"): _in_model,
    (errors.UnreadableSourceError, "uncached"): lambda error: (
        f"unset HF_HUB_OFFLINE, or fetch it where there is a network: hf download {error.of}"
    ),
    (errors.UnreadableSourceError, "gated"): lambda error: (
        f"accept them at {error.of}/{error.about}, then log in: hf auth login"
    ),
    (errors.UnreadableSourceError, "token"): (
        "log in with a token that has access, or set HF_TOKEN to it: hf auth login"
    ),
    (errors.UnreadableSourceError, "hub"): (
        "HF_HUB_OFFLINE=1 reads what the cache has, without the Hub"
    ),
}
"""The ways on from what the Hugging Face Hub does not give out, for people and programs alike."""


def uploading(url: str) -> str:
    """Return the way to what an output on the Hub would be."""
    name = "/".join(url.partition("://")[2].split("@")[0].split("/")[:2]).rstrip("/")
    name = name if "/" in name else "ORG/MODEL"
    return f"write a folder, such as -o new/, and then: hf upload {shlex.quote(name)} new"


def _on(command: str) -> Callable[[errors.UnsupportedFormatError], str]:
    """Return the way on by one command with the path of the file."""
    return lambda error: command.format(shlex.quote(_file_of(error)))


def _file_of(error: errors.ReinitError) -> str:
    """Return the path of a file, or what stands for one where it came through a pipe."""
    return "FILE" if error.about == "-" else error.about


def _unpack(program: str, suffix: str) -> Callable[[errors.UnsupportedFormatError], str]:
    """Return the way on from a compressed file, whatever it is called."""

    def way(error: errors.UnsupportedFormatError) -> str:
        if error.about == "-":
            return f"unpack it in the pipe: put {program} -dc in front of reinit"
        if error.about.endswith(suffix):
            return f"unpack it first: {program} -dk {shlex.quote(error.about)}"
        new = "-unpacked".join(os.path.splitext(error.about))
        return f"unpack it first: {program} -dc {shlex.quote(error.about)} > {shlex.quote(new)}"

    return way


def way_from_cut_off(error: errors.MalformedFileError) -> str:
    """Return the way on from a file that does not end where it should; "" from other damage."""
    if error.problem.endswith("before the file does"):
        return "save it again without what follows: torch.save(torch.load(FILE), 'm.pt')"
    is_cut_off = any(said in error.problem for said in ("is cut off", "is truncated"))
    return _fetch_again(error) if is_cut_off and not is_fetched(error.about) else ""


def _fetch_again(error: errors.SourceError) -> str:
    if error.about == "-":
        return "it is what the command before the pipe wrote"
    folder, name = os.path.split(error.about)
    scheme = scheme_of(error.about) if is_fetched(error.about) else ""
    if scheme in ("http", "https"):
        return "the server sends this in place of a file; open the URL in a browser to see why"
    if name == "config.json":
        return f"name its folder: {shlex.quote(folder or '.')}"
    suffix = os.path.splitext(name)[1].lower()
    if suffix == ".toml":
        return f"a recipe is given with -c: -c {shlex.quote(error.about)}"
    if scheme not in ("", "hf"):
        return "what was uploaded is not a checkpoint, or not complete; upload it again"
    if suffix in _OF_OTHER_TEXT or scheme:
        return "name a safetensors file, or one that torch.save wrote"
    return "the download failed, or is not complete; fetch it again"


_OF_OTHER_TEXT = frozenset(
    {".py", ".ipynb", ".txt", ".md", ".json", ".yaml", ".yml", ".csv", ".log"}
)
"""Suffixes of texts, which nobody downloads for a checkpoint."""


def _pull(error: errors.UnsupportedFormatError) -> str:
    folder = os.path.dirname(error.about)
    return f"fetch it: git{f' -C {shlex.quote(folder)}' if folder else ''} lfs pull"


def _unzip(error: errors.UnsupportedFormatError) -> str:
    return f"unpack it first: unzip {shlex.join((_file_of(error), error.known[0]))}"


def _zero_to_fp32(error: errors.UnsupportedFormatError) -> str:
    """Return the command that puts DeepSpeed's parts together, for a folder or one step of it."""
    inside, *script = error.known
    folder, step = os.path.split(os.path.join(error.about, inside).rstrip(os.sep))
    folder = folder or os.curdir
    program = shlex.quote(os.path.join(folder, script[0])) if script else _ZERO
    new = f"{os.path.basename(os.path.abspath(folder))}-fp32"
    return f"convert it first: python {program} {shlex.join((folder, new, '-t', step))}"


def _packed(error: errors.UnsupportedFormatError) -> str:
    folder, name = os.path.split(os.path.abspath(error.about))
    inside = shlex.quote(os.path.relpath(folder))
    return f"pack it first: cd {inside} && zip -0 -r {shlex.join((name + '.pt', name))}"


def _named_index(error: errors.UnsupportedFormatError) -> str:
    folder = shlex.quote(os.path.dirname(error.about) or ".")
    return f"name the folder: {folder}, once its index is called model.safetensors.index.json"


def _from_hub(repository: str, revision: str | None, path: str | None) -> str:
    name = path or os.path.basename(repository)
    asked = [repository, *([path] if path else []), *(["--revision", revision] if revision else [])]
    return f"hf download {shlex.join((*asked, '--local-dir', '.' if path else name))}"


def _with(program: str) -> Callable[[str], str]:
    return lambda url: program.format(shlex.quote(url))


_PLACES: tuple[tuple[str, Callable[..., str]], ...] = (
    (r"hf://([\w.-]+/[\w.-]+)(?:@([\w./-]+?))?(?:/([\w./-]+))?", _from_hub),
    (r"(https?://\S+)", _with("curl --fail -L -O {}")),
    (r"(ftps?://\S+)", _with("curl --fail -O {}")),
    (r"(s3://\S+)", _with("aws s3 cp {} .")),
    (r"(gs://\S+)", _with("gcloud storage cp {} .")),
    (r"((?:az|abfss?|wasbs?)://\S+)", _with("azcopy copy {} .")),
)
"""Where checkpoints lie that are not files here, and what fetches them."""

_ZERO = "-m deepspeed.utils.zero_to_fp32"

_NUMPY = "torch.from_numpy(v.copy()) for k, v in "

_WAYS: dict[str, str | Callable[[errors.UnsupportedFormatError], str]] = {
    "deepspeed": _zero_to_fp32,
    "deepspeed-parallel": _on(
        "convert it first: python -m deepspeed.checkpoint.ds_to_universal --input_folder {0} "
        "--output_folder {0}-universal"
    ),
    "megatron": _on(
        "convert it first, to one part: python tools/checkpoint/convert.py of Megatron-LM, with "
        "--load-dir {}"
    ),
    "fsdp-local": (
        "load it with as many processes, and save it with StateDictType.FULL_STATE_DICT"
    ),
    "llama": "take the same model in transformers' layout, or look at one part by naming its file",
    "unpacked": _packed,
    "orbax": "load it with orbax.checkpoint, and save its arrays with safetensors",
    "download": _fetch_again,
    "lfs": _pull,
    "dataset": "models are named hf://ORG/MODEL",
    "index": _named_index,
    "gzip": _unpack("gzip", ".gz"),
    "xz": _unpack("xz", ".xz"),
    "bzip2": _unpack("bzip2", ".bz2"),
    "zstd": _unpack("zstd", ".zst"),
    "lz4": _unpack("lz4", ".lz4"),
    "7z": _on("unpack it first: 7z x {}"),
    "rar": _on("unpack it first: unrar x {}"),
    "tar": _on("unpack it first: tar -xf {}"),
    "zip": _unzip,
    "compressed": _on("unpack it, and pack it again without compression: unzip {}; zip -0 -r"),
    "torchscript": (
        "save its weights first: torch.save(torch.jit.load(FILE).state_dict(), 'm.pt')"
    ),
    "exported": "save its weights first: torch.save(torch.export.load(FILE).state_dict, 'm.pt')",
    "big-endian": "load it with torch and save it again on this machine",
    "npz": (f"save its arrays first: torch.save({{k: {_NUMPY}numpy.load(FILE).items()}}, 'm.pt')"),
    "npy": "save its array first: torch.save({'array': torch.from_numpy(numpy.load(FILE))}, 'm.pt')",
    "array": "save it as numbers, such as numpy.save(FILE, array.astype('<f4'))",
    "hdf5": "load it with Keras or h5py, and save its arrays with safetensors",
    "flax": "convert it first: AutoModel.from_pretrained(FOLDER, from_flax=True) of transformers",
    "tensorflow": "convert it first, with the TensorFlow version of the library that wrote it",
    "paddle": "load it with paddle.load, and save its arrays with safetensors",
    "torch7": "load it with the package torchfile, and save its arrays with safetensors",
    "original": "its weights are converted for running; take the checkpoint that it was made from",
    "pickle": "if you trust it, load it with pickle and save its tensors with torch.save",
}
"""The ways on from files that are recognized but not read."""
