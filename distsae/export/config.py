"""The configs of an export and of an import."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from distsae.errors import WrongInput
from distsae.model.formats.folder_writing import DtypeName
from distsae.model.hub import is_hub_name, require_repository
from distsae.store.mounted_path import mounted_path

__all__ = ["ExportConfig", "ImportConfig", "TargetName"]

TargetName = Literal["saelens", "dictionary_learning", "sparsify", "safetensors", "hub"]


@dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """Writes a finished SAE as the files of another tool, with a model card, or puts it on the Hugging Face Hub.

    Args:
        run: run folder, folder of an SAE, or name of one on the Hub (user/repository/folder, saelens:RELEASE/SAE_ID).
        to: saelens, dictionary_learning, sparsify, safetensors (distsae's own files), or hub (these, put on the Hub).
        out: folder to make; may be left out for hub.
        dtype: dtype of the weights there: fp32, bf16 or fp16; by default that of the SAE.
        license: identifier of the licence for the model card, such as mit or apache-2.0.
        model: name of the language model to write, for an SAE that names a folder of this machine.
        repo: repository of the Hub, as user/name, to put the files into; it is made if there is none.
        path_in_repo: folder in the repository; by default its top.
        private: whether a repository that is made is private.
    """

    run: str
    to: TargetName
    out: str | None = None
    dtype: DtypeName | None = None
    license: str | None = None
    model: str | None = None
    repo: str | None = None
    path_in_repo: str | None = None
    private: bool = False

    def __post_init__(self) -> None:
        """Expands `~`, and refuses what does not go together.

        Raises:
            WrongInput: a URL, no folder to make, no repository where one is needed, or one that is no name.
        """
        for name in ("run", "out"):
            if value := getattr(self, name):
                object.__setattr__(self, name, str(mounted_path(value, name)))
        if self.to == "hub" and self.repo is None:
            raise WrongInput("`repo` must be given with `to` (=hub); got none; give --repo user/name")
        if self.to != "hub" and self.out is None:
            raise WrongInput(f"`out` must be given with `to` (={self.to}); got none; give --out and a folder to make")
        if self.repo is not None:
            require_repository(self.repo)
        for name in ("path_in_repo", "private"):
            value = getattr(self, name)
            if value and self.repo is None:
                raise WrongInput(
                    f"`{name}` (={value}) must be given with `repo`; got none; give --repo, or leave it out"
                )
        path = self.path_in_repo
        if path is not None and not is_hub_name(f"user/name/{path}"):
            raise WrongInput(f"`path_in_repo` (={path}) must be a relative path; got another text; use a/plain/name")
        if self.license is not None and re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.+_-]*", self.license) is None:
            raise WrongInput(
                f"`license` (={self.license}) must be the identifier of a licence; use one such as mit or apache-2.0"
            )


@dataclass(frozen=True, kw_only=True)
class ImportConfig:
    """Reads an SAE of SAELens, dictionary_learning, sparsify or the Hugging Face Hub, and saves it as one of distsae.

    Args:
        sae: folder of the SAE, or its name on the Hub (user/repository/folder, saelens:RELEASE/SAE_ID).
        out: folder to make.
        k: mean features per token, where the files do not say it (thresholds and plain ReLU).
        store: activation store, on whose held-out rows the mean features per token are measured.
        hook: hook of the activations, where the files do not say it.
        model: name of the language model, where the files do not say it.
        context_size: number of tokens in a context, where the files do not say it.
        prepend_bos: whether contexts begin with the BOS token, where the files do not say it.
    """

    sae: str
    out: str
    k: int | None = None
    store: str | None = None
    hook: str | None = None
    model: str | None = None
    context_size: int | None = None
    prepend_bos: bool | None = None

    def __post_init__(self) -> None:
        """Expands `~`, and refuses URLs and counts below one.

        Raises:
            WrongInput: one of these.
        """
        for name in ("sae", "out"):
            object.__setattr__(self, name, str(mounted_path(getattr(self, name), name)))
        for name in ("k", "context_size"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise WrongInput(f"`{name}` (={value}) must be at least 1; give a positive number")
        if self.k is not None and self.store is not None:
            raise WrongInput(
                f"`store` (={self.store}) must be left out with `k` (={self.k}), which it measures; give one of the two"
            )
