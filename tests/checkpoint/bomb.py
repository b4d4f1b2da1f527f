"""Files that run code when they are unpickled, as an attacker could plant them in a checkpoint."""

from __future__ import annotations

import hashlib
import io
import json
import pickle
from pathlib import Path

import torch

__all__ = ["plant_as_own_file", "plant_with_digests", "raw", "torch_archive"]


class _Bomb:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return Path.touch, (self.marker,)


def raw(marker: Path) -> bytes:
    """Returns a pickle that creates `marker` when it is loaded, after a trial that it does."""
    content = pickle.dumps(_Bomb(marker))
    pickle.loads(content)
    assert marker.exists()
    marker.unlink()
    return content


def torch_archive(marker: Path) -> bytes:
    """Returns the same pickle in the form of `torch.save`."""
    buffer = io.BytesIO()
    torch.save({"w": _Bomb(marker)}, buffer)
    torch.load(io.BytesIO(buffer.getvalue()), weights_only=False)
    assert marker.exists()
    marker.unlink()
    return buffer.getvalue()


def plant_as_own_file(checkpoint: Path, name: str, content: bytes) -> None:
    """Replaces a file by `content`, padded to the old size if it is shorter: a pickle may be followed by anything."""
    file = checkpoint / name
    file.write_bytes(content + b"\0" * max(0, file.stat().st_size - len(content)))


def plant_with_digests(checkpoint: Path, name: str, content: bytes) -> None:
    """Replaces a file by `content` and updates the digests, so that the file passes for sound."""
    (checkpoint / name).write_bytes(content)
    manifest = checkpoint / "manifest.json"
    if name != manifest.name:
        fields = json.loads(manifest.read_bytes())
        fields["files"][name] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        manifest.write_text(json.dumps(fields))
    digest = hashlib.sha256(manifest.read_bytes()).hexdigest()
    (checkpoint / "manifest.json.sha256").write_text(f"{digest}  manifest.json\n")
