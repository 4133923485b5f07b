"""Know the names in the pickles of `.metadata` that writers of torch and Megatron leave."""

from __future__ import annotations

from reinit_cli.checkpoints.formats.dcp.phrases import FILESYSTEM, METADATA

OLD = "torch.distributed._shard.sharded_tensor.metadata"
"""Where TensorProperties are of torch 2.1 and 2.2."""

_MEGATRON = "megatron.core.dist_checkpointing.strategies.torch"
"""Where Megatron had subclasses of its own up to version 0.15, and still has their names."""

KNOWN = frozenset(
    (
        *(
            f"{METADATA}.{name}"
            for name in (
                *("Metadata", "MetadataIndex", "StorageMeta", "TensorStorageMetadata"),
                *("BytesStorageMetadata", "ChunkStorageMetadata", "TensorProperties"),
                "_MEM_FORMAT_ENCODING",
            )
        ),
        f"{FILESYSTEM}._StorageInfo",
        f"{OLD}.TensorProperties",
        f"{OLD}.MEM_FORMAT_ENCODING",
        *(f"{_MEGATRON}.{name}" for name in ("MCoreMetadata", "MCoreSavePlan")),
        *(
            f"{module}.{name}"
            for module in ("pathlib", "pathlib._local")
            for name in ("PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath")
        ),
    )
)
"""What `.metadata` of the writers of torch and Megatron names; the rest is what torch itself allows."""
