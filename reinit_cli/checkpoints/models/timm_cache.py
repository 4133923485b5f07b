"""Find the weights of timm's models where timm downloads them to, and have it download them."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType
from typing import Any, Self

from reinit_cli.checkpoints.models.model import TIMM, unavailable
from reinit_cli.checkpoints.models.packages import imported
from reinit_cli.errors import UnknownNameError
from reinit_cli.lazy import dataclass
from reinit_cli.storage.local import LocalStore


def tags_of(name: str, label: str) -> Mapping[str, bool]:
    """Return the tags of a model of timm, the default first, and which have weights.

    Args:
        name: that of the model.
        label: how a user names it.

    Raises:
        PackageError: timm is not installed.
        UnknownNameError: it has no such model.
    """
    timm = imported("timm", label, "model")
    names = timm.list_models()
    if name not in names:
        # Former names may have weights of their own that a new one has under a tag.
        now = timm.models.get_deprecated_models().get(name)
        known = (now,) if now else names
        raise UnknownNameError(name, known=known, kind="timm model", of=TIMM)
    return tags_in(timm, name)


def all_tags(label: str) -> Mapping[str, Mapping[str, bool]]:
    """Return the tags of every model of timm, by its name; see `tags_of`."""
    timm = imported("timm", label, "model")
    return {name: tags_in(timm, name) for name in timm.list_models()}


def tells_classes(name: str) -> bool:
    """Whether a model of timm tells classes apart, as the configuration of its default tag says."""
    from timm.models import get_pretrained_cfg

    config = get_pretrained_cfg(name)
    return config is not None and bool(config.num_classes)


def tags_in(timm: ModuleType, name: str) -> Mapping[str, bool]:
    """Return the tags of a model that timm has, as `tags_of` does."""
    found = timm.models.get_arch_pretrained_cfgs(name)
    return {tag.partition(".")[2]: bool(each.has_weights) for tag, each in found.items()}


@dataclass(frozen=True, slots=True)
class Weights:
    """The place of some weights on the Hub or at a URL, and in the cache.

    Attributes:
        label: what people call the model.
        repo: the repository on the Hub, with its revision after an "@"; "" for a URL.
        files: the names of its files, of which the first that is there is taken.
        url: the URL, or "".
    """

    label: str
    repo: str
    files: tuple[str, ...]
    url: str = ""

    @classmethod
    def of(cls, name: str, label: str) -> Self:
        """Return the place of the weights of a model with a tag, as timm chooses it."""
        from timm.models import _builder, _hub, get_pretrained_cfg

        config: Any = get_pretrained_cfg(name)
        place: Any  # a pair where the file has another name than the usual one
        kind, place = _builder._resolve_pretrained_source(config.to_dict())
        if kind != "hf-hub":
            url, file = (place, os.path.basename(place)) if isinstance(place, str) else place
            return cls(label, "", (file,), url)
        repo, file = (place, _hub.HF_WEIGHTS_NAME) if isinstance(place, str) else place
        return cls(label, repo, (*_hub._get_safe_alternatives(file), file))

    @property
    def place(self) -> str:
        """The file that they are downloaded to, or its folder in the cache of the Hub."""
        if self.url:
            from torch.hub import get_dir

            return os.path.join(get_dir(), "checkpoints", self.files[0])
        from huggingface_hub import constants

        folder = f"models--{self.repo.partition('@')[0].replace('/', '--')}"
        return os.path.join(constants.HF_HUB_CACHE, folder)

    @property
    def cached(self) -> str | None:
        """The file, where it was downloaded already."""
        if self.url:
            return self.place if LocalStore().kind_of(self.place) == "file" else None
        from huggingface_hub import try_to_load_from_cache

        repo, _, revision = self.repo.partition("@")
        found = (
            try_to_load_from_cache(repo, each, revision=revision or None) for each in self.files
        )
        return next((each for each in found if isinstance(each, str)), None)

    def fetched(self) -> str:
        """Return the file, which is downloaded if need be.

        Raises:
            SourceNotFoundError: it cannot be.
        """
        cached = self.cached
        if cached is not None:
            return cached
        try:
            return self._downloaded()
        except Exception as error:  # the Hub has errors of many libraries
            command = "" if self.url else f"hf download {self.repo.partition('@')[0]}"
            raise unavailable(self.label, self.place, _said(error), command) from error

    def _downloaded(self) -> str:
        from timm.models import _hub

        if self.url:
            path: str = _hub.download_cached_file(
                (self.url, self.files[0]), check_hash=False, progress=sys.stderr.isatty()
            )
            return path
        from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

        with _quiet():
            for name in self.files[:-1]:
                try:
                    return str(_hub.download_from_hf(self.repo, name))
                except LocalEntryNotFoundError:
                    raise
                except EntryNotFoundError:
                    continue
            return str(_hub.download_from_hf(self.repo, self.files[-1]))


def _said(error: Exception) -> str:
    """Return why a download failed, in one line."""
    from huggingface_hub.errors import LocalEntryNotFoundError

    # The Hub's library says that a file is not in its cache; its cause says why it was not fetched.
    cause = error.__cause__ if isinstance(error, LocalEntryNotFoundError) else None
    reason = getattr(error, "reason", None) or cause or error
    return str(reason).strip().partition("\n")[0].rstrip(".") or type(reason).__name__


@contextmanager
def _quiet() -> Iterator[None]:
    """Show the progress of downloads on a terminal alone."""
    from huggingface_hub.utils.tqdm import (
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )

    changes = not sys.stderr.isatty() and not are_progress_bars_disabled()
    if changes:
        disable_progress_bars()
    try:
        yield
    finally:
        if changes:
            enable_progress_bars()
