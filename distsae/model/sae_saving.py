"""The ways out of an SAE: saved, exported, put on the Hub."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from distsae.disk_room import way_out
from distsae.durable import as_new_files_are, replace, replacing
from distsae.errors import CannotContinue
from distsae.model.formats.distsae_files import CONFIG, WEIGHTS
from distsae.model.formats.folder_writing import DtypeName, refuse_unholdable, write_folder
from distsae.model.formats.weight_source import MemoryWeights
from distsae.model.hub import make_repository, push
from distsae.model.sae_config import SAEConfig
from distsae.model.sae_digest import digest_of
from distsae.store.mounted_path import mounted_path

__all__ = ["KeptSAE", "save_sae"]


class KeptSAE(nn.Module):
    """An SAE that can be kept: in its own files, in those of another tool, and on the Hugging Face Hub.

    Attributes:
        cfg: what the SAE is and where it came from.
    """

    cfg: SAEConfig

    def save(self, folder: str | Path) -> None:
        """Writes `sae.safetensors` and then `config.json` into `folder`; a crash leaves no half-written file.

        Raises:
            WrongInput: `folder` is a URL.
            CannotContinue: the files cannot be written, on a full disk for example.
        """
        save_sae(self.cfg, self.state_dict(), mounted_path(folder))

    def export(self, to: str, out: str | Path, *, dtype: DtypeName | None = None, licence: str | None = None) -> None:
        """Writes the SAE as the files of another tool, with a model card, into a new folder.

        Args:
            to: `saelens`, `dictionary_learning`, `sparsify`, or `safetensors` for the files of distsae.
            out: folder to make.
            dtype: dtype of the weights there; by default that of the SAE.
            licence: identifier of the licence for the model card, such as `mit`.

        Raises:
            WrongInput: the tool cannot hold the SAE, or the dtype its weights; or the folder is taken.
            CannotContinue: the files cannot be written, on a full disk for example.
        """
        tensors = MemoryWeights(self.state_dict())
        write_folder(self.cfg, tensors, to, mounted_path(out, "out"), dtype=dtype, licence=licence)

    def push_to_hub(
        self,
        repo: str,
        path_in_repo: str | None = None,
        *,
        to: str = "safetensors",
        private: bool = False,
        licence: str | None = None,
    ) -> str:
        """Puts the SAE into a repository of the Hugging Face Hub, from where `SAE.load(repo)` reads it.

        Args:
            repo: the repository, `user/name`; it is made if there is none.
            path_in_repo: folder in the repository; by default its top.
            to: format of the files, as for `export`.
            private: whether a repository that is made is private.
            licence: identifier of the licence for the model card.

        Returns:
            Address of the commit.

        Raises:
            WrongInput: the tool cannot hold the SAE, or the server refuses this user.
            CannotContinue: the server does not answer.
        """
        refuse_unholdable(self.cfg, MemoryWeights(self.state_dict()), to, None)
        make_repository(repo, private=private)
        with tempfile.TemporaryDirectory() as folder:
            self.export(to, Path(folder) / "sae", licence=licence)
            return push(Path(folder) / "sae", repo, path_in_repo)


def save_sae(cfg: SAEConfig, tensors: Mapping[str, Tensor], folder: Path) -> None:
    """Writes `sae.safetensors` and then `config.json` into `folder`; a crash leaves no half-written file.

    Raises:
        CannotContinue: the files cannot be written, on a full disk for example.
    """
    tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
    content = {**cfg.to_dict(), "weights_sha256": digest_of(tensors)}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Always the same temporary name, so that weights left by a killed process are overwritten.
        with replacing(folder / WEIGHTS, temporary=folder / f".{WEIGHTS}.tmp") as temporary:
            save_file(tensors, temporary)
            as_new_files_are(temporary)
        replace(folder / CONFIG, f"{json.dumps(content, indent=2)}\n".encode())
    except (OSError, SafetensorError) as error:
        advice = way_out(error, folder)
        raise CannotContinue(f"the SAE could not be written into {folder} ({error}); {advice}") from error
