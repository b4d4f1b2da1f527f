"""Whether a feature fires in a context, seen on the store: pages say where it fires most strongly, not everywhere.

The rows of the contexts in question are encoded again, by the SAE of the pages, as the pages were made. Of the matches
only those of the features in question are kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from distsae.checked_files import WrongField, typed
from distsae.devices import device_named
from distsae.errors import TornData, WrongInput
from distsae.model.sae_digest import digest_of
from distsae.model.sae_on_store import SAEOnStore, open_on_store
from distsae.progress import Progress
from distsae.reporting.explanations.config import ExplainConfig
from distsae.reporting.explanations.feature_contexts import TokenWindow
from distsae.reporting.explanations.page_tables import PageTables
from distsae.reporting.features.plan import Part, parts_of
from distsae.reporting.features.row_blocks import row_blocks
from distsae.store import UnitContexts

__all__ = ["FiringCheck", "Firings", "open_check"]


@dataclass(frozen=True, kw_only=True)
class PassFacts:
    """What the settings of pages say of the rows that they were made from."""

    sae: str
    store: str
    split: Literal["train", "heldout"]
    max_rows: int
    part_rows: int


class Firings:
    """Where features fire in the contexts that were looked at.

    Args:
        places: positions at which a feature fires, by feature and number of the context.
    """

    def __init__(self, places: Mapping[tuple[int, int], Sequence[int]]) -> None:
        self._places = places

    def in_window(self, feature: int, window: TokenWindow) -> bool:
        """Returns whether a feature fires on one of a window's tokens."""
        last = window.first_position + len(window.tokens)
        return any(
            window.first_position <= place < last for place in self._places.get((feature, window.context_id), ())
        )


@dataclass(frozen=True, kw_only=True)
class FiringCheck:
    """The SAE and the store that pages were made from.

    Args:
        on_store: both.
        parts: parts of the pass of the pages.
    """

    on_store: SAEOnStore
    parts: tuple[Part, ...]

    def firings(self, contexts: Mapping[int, set[int]]) -> Firings:
        """Encodes the rows of some contexts.

        In a store that was merged of several, contexts may share a number; each of them counts then.

        Args:
            contexts: numbers of the contexts in question, by feature.

        Raises:
            TornData: a file of the store is damaged.
        """
        numbers = np.array(sorted(set().union(*contexts.values())), np.int64)
        features = torch.tensor(sorted(contexts), dtype=torch.int64)
        found: dict[tuple[int, int], list[int]] = {}
        with Progress(
            sum(part.contexts for part in self.parts), "checking where features fire", "contexts"
        ) as progress:
            for unit in dict.fromkeys(part.unit for part in self.parts):
                parts = [part for part in self.parts if part.unit == unit]
                self._look_at(unit, parts[-1].first + parts[-1].contexts, numbers, features, contexts, found)
                progress.advance(sum(part.contexts for part in parts))
        return Firings(found)

    def _look_at(
        self,
        unit: int,
        last: int,
        numbers: NDArray[np.int64],
        features: torch.Tensor,
        contexts: Mapping[int, set[int]],
        found: dict[tuple[int, int], list[int]],
    ) -> None:
        """Adds the places at which features fire in the first `last` contexts of a unit."""
        sae, store = self.on_store.sae, self.on_store.store
        placed = UnitContexts.read(store, unit)
        wanted = torch.from_numpy(np.isin(placed.context_id.numpy(), numbers))
        wanted[last:] = False
        if not bool(wanted.any()):
            return
        for x, index in row_blocks(store, sae.cfg.hook_name, unit, placed, wanted[placed.context], sae.cfg.max_norm):
            matches = sae.matches(x.to(sae.device))
            feature = matches.feature.cpu()
            kept = torch.isin(feature, features)
            context, position = placed.where(index[matches.token.cpu()[kept]])
            fired, number = feature[kept].tolist(), placed.context_id[context].tolist()
            for key, place in zip(zip(fired, number, strict=True), position.tolist(), strict=True):
                if key[1] in contexts[key[0]]:
                    found.setdefault(key, []).append(place)


def open_check(config: ExplainConfig, pages: Path, tables: PageTables) -> FiringCheck | None:
    """Opens the SAE and the store of pages; returns None if no store was given.

    Args:
        config: the config.
        pages: folder of the pages.
        tables: the pages' Parquet files.

    Raises:
        WrongInput: SAE or store is missing, or not that of the pages.
        TornData: a file is damaged.
    """
    if config.store is None:
        return None
    try:
        facts = typed(PassFacts, tables.settings)
    except WrongField as error:
        raise TornData(f"the settings of the pages in {pages} are damaged: {error}") from None
    # Pages are in `features` of their run, unless they were written elsewhere.
    sae = config.sae or (config.run if pages != Path(config.run) else str(pages.absolute().parent))
    opened = open_on_store(sae, config.store, device_named(config.device), option="sae")
    if (digest := digest_of(opened.sae.state_dict())) != facts.sae:
        raise WrongInput(
            f"`sae` (={sae}) must be the SAE of the pages, with weights of digest {facts.sae}; got {digest}; give it, "
            "or make the pages again"
        )
    if (content := opened.store.content_digest) != facts.store:
        raise WrongInput(
            f"`store` (={config.store}) must be the store of the pages, with content of digest {facts.store}; got "
            f"{content}; give it, or leave --store out"
        )
    return FiringCheck(on_store=opened, parts=parts_of(opened.store, facts.split, facts.max_rows, facts.part_rows))
