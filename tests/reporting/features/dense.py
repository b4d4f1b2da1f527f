"""Feature pages computed the plain way: one dense array of activations, and Python's own sort.

The store and the SAE hold small whole numbers, so that every score is exact whatever the order of sums, and ties are
everywhere.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from distsae.model import SAE, SAEConfig
from distsae.reporting.features.activation_histogram import EDGES
from distsae.reporting.features.firing_contexts import sample_order
from distsae.store import Store
from tests.store.synthetic import attributes, write_store

HOOK = "a.b"
D_SAE = 150


def whole_sae(seed: int = 0, d_sae: int = D_SAE, d_in: int = 6, **changes: object) -> SAE:
    """An SAE of whole numbers; every seventh feature is dead, and each has a twin that fires alike."""
    generator = torch.Generator().manual_seed(seed)
    weights = torch.randint(-1, 2, (d_sae, d_in), generator=generator).float()
    weights[1::10] = weights[::10][: len(weights[1::10])]
    b_enc = -torch.randint(0, 40, (d_sae,), generator=generator).float()
    b_enc[1::10] = b_enc[::10][: len(b_enc[1::10])]
    b_enc[::7] = -10_000
    values = {
        "d_in": d_in,
        "d_sae": d_sae,
        "k": 8,
        "allocation": "mutual_choice",
        "hook_name": HOOK,
        "hook_layer": None,
        "model_name": "synthetic",
        "context_size": 9,
        "prepend_bos": True,
    }
    return SAE(
        SAEConfig(**(values | changes)),
        W_enc=weights.T.contiguous(),
        W_dec=weights,
        b_enc=b_enc,
        b_dec=torch.ones(d_in),
        threshold=torch.full((d_sae,), 8.0),
    )


def whole_store(root: Path, **changes: object) -> Store:
    """A store of whole numbers: 40 contexts of 9 tokens."""
    return write_store(root, attributes(**changes))


class Dense:
    """All activations of a pass, `acts` `[contexts, positions, d_sae]`, and where they come from.

    Args:
        store: the store.
        sae: the SAE.
        split: split of the pass.
        max_rows: most rows of the pass.
    """

    def __init__(self, store: Store, sae: SAE, split: str = "train", max_rows: int = 10**9) -> None:
        attrs = store.attributes
        contexts = max(max_rows // attrs.rows_per_context, 1)
        tokens, ids, acts, documents, rows = [], [], [], [], []
        for record in (record for record in store.units if record.split == split):
            stored = torch.from_numpy(store.array(record.index, "context_token_ids").read()).long()
            origin = store.read_ids(record.index)
            chunks = [chunk for chunk in store.chunks(split) if chunk.unit == record.index]
            x = torch.cat([store.read_chunk(HOOK, chunk) for chunk in chunks]).float()
            left_out = torch.isin(origin.token_id, torch.tensor(attrs.excluded_tokens, dtype=torch.int64))
            if sae.cfg.max_norm is not None:
                left_out |= x.double().norm(dim=1) > sae.cfg.max_norm
            encoded = sae.encode(x).detach()
            encoded[left_out] = 0
            number = {tuple(row[attrs.excluded_positions :].tolist()): place for place, row in enumerate(stored)}
            for place in range(len(stored)):
                at = torch.zeros(attrs.context_length, sae.cfg.d_sae)
                document = torch.full((attrs.context_length,), -1)
                kept = torch.zeros(attrs.context_length, dtype=torch.bool)
                context_id = next(
                    int(i)
                    for i in origin.context_id.unique()
                    if number[tuple(_tokens_of(origin, i, attrs.excluded_positions))] == place
                )
                for row in (origin.context_id == context_id).nonzero().squeeze(1).tolist():
                    at[origin.position[row]] = encoded[row]
                    document[origin.position[row]] = origin.document_id[row]
                    kept[origin.position[row]] = not left_out[row]
                acts.append(at)
                documents.append(document)
                rows.append(kept)
                ids.append(context_id)
            tokens.append(stored)
        self.acts = torch.stack(acts)[:contexts].numpy()
        self.documents = torch.stack(documents)[:contexts].numpy()
        self.kept = torch.stack(rows)[:contexts].numpy()
        self.context_id = ids[:contexts]
        self.tokens = torch.cat(tokens)[:contexts].numpy()
        self.rows = int(self.kept.sum())

    def histogram(self, feature: int) -> dict[int, int]:
        """Activations in each bin that is used."""
        found = self.acts[..., feature][self.acts[..., feature] > 0]
        bins, counts = np.unique(np.digitize(found, EDGES), return_counts=True)
        return dict(zip(bins.tolist(), counts.tolist(), strict=True))

    def firing(self, feature: int) -> list[int]:
        """Contexts in which a feature fires."""
        return np.flatnonzero(self.acts[..., feature].max(1) > 0).tolist()

    def top(self, feature: int, most: int) -> list[int]:
        """Its top contexts, the strongest first."""

        def rank(context):
            return -self.acts[context, :, feature].max(), self.context_id[context], context

        return sorted(self.firing(feature), key=rank)[:most]

    def sample(self, feature: int, most: int) -> list[int]:
        """Its sampled contexts, in random order."""

        def rank(context):
            return int(sample_order(np.asarray([feature]), np.asarray([self.context_id[context]]))[0]), context

        return sorted(self.firing(feature), key=rank)[:most]

    def together(self, rows: int) -> np.ndarray:
        """Rows, of the first contexts with `rows` rows, on which two features fire together, `[d_sae, d_sae]`."""
        contexts = rows // int(self.kept.shape[1] - 1)
        fires = (self.acts[:contexts].reshape(-1, self.acts.shape[-1]) > 0).astype(np.int64)
        return fires.T @ fires


def _tokens_of(origin, context_id, skip):
    rows = (origin.context_id == context_id).nonzero().squeeze(1)
    return origin.token_id[rows[origin.position[rows].argsort()]].tolist()
