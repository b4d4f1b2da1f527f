"""SAEs by the names that users of SAELens know: `saelens:gpt2-small-res-jb/blocks.8.hook_resid_pre`, release and id.

SAELens keeps a table of these names in its package, which says in which repository of the Hub, in which folder and in
which files an SAE is. The table is read where sae-lens is installed; nothing of the package is imported.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from distsae.checked_files import WrongField, typed
from distsae.errors import WrongInput, nearest
from distsae.model.formats import dictionary_learning, saelens
from distsae.model.formats.foreign_sae import ForeignSAE

__all__ = ["PREFIX", "ReleasedSAE", "read_released", "released_sae"]

PREFIX = "saelens:"
"""What the name of an SAE of a release begins with."""

_TABLE = "pretrained_saes.yaml"
_ADVICE = "give the repository as user/name/folder"

_READABLE = (None, "sae_lens", "dictionary_learning_1")
"""Functions with which SAELens converts files that are read here: its own and dictionary_learning's."""


@dataclass(frozen=True, kw_only=True)
class ReleasedSAE:
    """What the table says of an SAE.

    Args:
        name: release and id, as the user gave them, with the prefix.
        repo: repository of the Hub.
        folder: folder in it.
        model: name of the language model.
        k: mean features per token, rounded; None if the table does not say it.
        overrides: fields of the config that replace those of the files.
        scaling_factor: number that activations are to be multiplied by, if the files ask for one; None if there is
            none in the table.
    """

    name: str
    repo: str
    folder: str
    model: str
    k: int | None
    overrides: dict[str, Any]
    scaling_factor: float | None


@dataclass(frozen=True, kw_only=True)
class ReleaseRow:
    """A release in the table."""

    repo_id: str
    model: str
    saes: list[dict[str, Any]]
    conversion_func: str | None = None
    config_overrides: dict[str, Any] | None = None


@dataclass(frozen=True, kw_only=True)
class ReleasedRow:
    """An SAE of a release in the table."""

    id: str
    path: str | int
    l0: float = 0.0
    norm_scaling_factor: float | None = None


def released_sae(name: str) -> ReleasedSAE:
    """Returns what SAELens's table says of an SAE.

    Args:
        name: `saelens:RELEASE/SAE_ID`.

    Raises:
        WrongInput: sae-lens is not installed, there is no such release or SAE, or its files are of a kind that is not
            read here.
    """
    release, _, sae_id = name.removeprefix(PREFIX).partition("/")
    if not release or not sae_id:
        raise WrongInput(
            f"`{name}` must name a release and an SAE of it; got no more than one; use {PREFIX}RELEASE/SAE_ID"
        )
    table = _table(name)
    if release not in table:
        raise WrongInput(
            f"`{name}` must name a release that the installed sae-lens knows; got {release}, which is none"
            f"{nearest(release, table)}; or {_ADVICE}"
        )
    try:
        row = typed(ReleaseRow, table[release], release)
        saes = {str(sae.get("id")): sae for sae in row.saes}
        if sae_id not in saes:
            raise WrongInput(
                f"`{name}` must name an SAE of the release {release}; got {sae_id}, which is none of its {len(saes)}"
                f"{nearest(sae_id, saes)}; use an id such as {next(iter(saes), '')}"
            )
        found = typed(ReleasedRow, saes[sae_id], f"{release}.{sae_id}")
    except WrongField as error:
        raise WrongInput(f"`{name}` must be in a table of sae-lens that is known; got {error}; {_ADVICE}") from None
    if row.conversion_func not in _READABLE:
        raise WrongInput(
            f"`{name}` must be in the files of SAELens or dictionary_learning; got those that sae-lens reads with its "
            f"{row.conversion_func}; use its SAE.from_pretrained and save_model, and give the folder"
        )
    return ReleasedSAE(
        name=name,
        repo=row.repo_id,
        folder=str(found.path),
        model=row.model,
        k=max(round(found.l0), 1) if found.l0 > 0 else None,
        overrides=row.config_overrides or {},
        scaling_factor=found.norm_scaling_factor,
    )


def read_released(folder: Path, released: ReleasedSAE) -> ForeignSAE:
    """Reads the files of an SAE of a release, as SAELens would: what its table says is added to what they say.

    Raises:
        WrongInput: it is of a kind that cannot be carried; the text names it.
        TornData: a file is damaged; the text names it.
    """
    if (folder / saelens.CONFIG).is_file():
        found = saelens.read(folder, overrides=released.overrides, scaling_factor=released.scaling_factor)
    else:
        found = dictionary_learning.read(folder)
    return dataclasses.replace(found, k=released.k if found.k is None else found.k, model=found.model or released.model)


def _table(name: str) -> dict[str, Any]:
    spec = importlib.util.find_spec("sae_lens")
    if spec is None or not spec.submodule_search_locations:
        raise WrongInput(
            f"`{name}` must be looked up in the table of sae-lens; got no such package installed; install sae-lens, or "
            f"{_ADVICE}"
        )
    return _read_table(Path(spec.submodule_search_locations[0]) / _TABLE)


@functools.cache
def _read_table(file: Path) -> dict[str, Any]:
    # The file of an installed package is no stranger's. The C loader takes a fraction of a second for its 1.5 MB.
    try:
        content = yaml.load(file.read_bytes(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (OSError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())[:200]
        raise WrongInput(f"{file} must be sae-lens's table of releases; got: {reason}; {_ADVICE}") from None
    if not isinstance(content, dict):
        raise WrongInput(f"{file} must be sae-lens's table of releases; got no mapping; {_ADVICE}")
    return content
