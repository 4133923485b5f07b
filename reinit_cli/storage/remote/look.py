"""Look what is at the URL of an output."""

from __future__ import annotations

from reinit_cli.storage.reader import Kind
from reinit_cli.storage.remote.failures import naming_upload
from reinit_cli.storage.remote.upload import reached


def kind_at_url(url: str) -> Kind | None:
    """Return what is at a URL, or None where there is nothing, or nothing that may be seen.

    Who may write somewhere may not always look; the place itself refuses to replace an object.

    Raises:
        OutputUnwritableError: the place cannot be reached.
    """
    fs, path = reached(url)
    with naming_upload(url):
        fs.invalidate_cache()
        try:
            info = fs.info(path)
        except (FileNotFoundError, PermissionError):
            return None
    return "folder" if info["type"] == "directory" else "file"
