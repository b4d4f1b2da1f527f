"""Files that run code when they are unpickled, in the forms a checkpoint may be given them."""

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
    """A pickle that creates `marker` when it is loaded; that it does is tried here."""
    content = pickle.dumps(_Bomb(marker))
    pickle.loads(content)
    assert marker.exists()
    marker.unlink()
    return content


def torch_archive(marker: Path) -> bytes:
    """The same in the form of `torch.save`."""
    buffer = io.BytesIO()
    torch.save({"w": _Bomb(marker)}, buffer)
    torch.load(io.BytesIO(buffer.getvalue()), weights_only=False)
    assert marker.exists()
    marker.unlink()
    return buffer.getvalue()


def plant_as_own_file(checkpoint: Path, name: str, content: bytes) -> None:
    """Puts `content` in the place of a file, of its size where it can be: what follows a pickle's end is not read."""
    file = checkpoint / name
    file.write_bytes(content + b"\0" * max(0, file.stat().st_size - len(content)))


def plant_with_digests(checkpoint: Path, name: str, content: bytes) -> None:
    """Puts `content` in the place of a file and makes the digests say that it belongs there."""
    (checkpoint / name).write_bytes(content)
    manifest = checkpoint / "manifest.json"
    if name != manifest.name:
        fields = json.loads(manifest.read_bytes())
        fields["files"][name] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        manifest.write_text(json.dumps(fields))
    digest = hashlib.sha256(manifest.read_bytes()).hexdigest()
    (checkpoint / "manifest.json.sha256").write_text(f"{digest}  manifest.json\n")
