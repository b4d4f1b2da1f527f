"""Loss recovered with SAELens's object in the language model: `PYTHON spliced_by_saelens.py EXPORTED SAE STORE TOKENS`.

It is run by an interpreter that has distsae and sae-lens. EXPORTED is a folder in the files of SAELens, SAE what
`distsae import` has made of it, STORE its store. The contexts are those that `distsae evaluate SAE --max_tokens TOKENS`
measures; SAELens encodes and decodes, and the frozen rule of that evaluation must have the same losses.
"""

from __future__ import annotations

import sys

import torch
from sae_lens import SAE
from torch.nn.functional import cross_entropy

from distsae.evaluation import EvaluateConfig
from distsae.evaluation.inputs import open_inputs
from distsae.hooks import splice


def main(exported: str, folder: str, store: str, tokens: int) -> None:
    inputs = open_inputs(EvaluateConfig(run=folder, store=store, max_tokens=tokens))
    theirs = SAE.load_from_disk(exported)
    model, skipped = inputs.model.model, inputs.store.attributes.excluded_positions
    max_norm = inputs.sae.cfg.max_norm or float("inf")

    def reconstructed(x: torch.Tensor) -> torch.Tensor:
        kept = x[:, skipped:]
        found = theirs.decode(theirs.encode(kept))
        return torch.cat([x[:, :skipped], torch.where(kept.norm(dim=-1, keepdim=True) > max_norm, kept, found)], dim=1)

    def zeros(x: torch.Tensor) -> torch.Tensor:
        return torch.cat([x[:, :skipped], torch.zeros_like(x[:, skipped:])], dim=1)

    losses = {}
    for name, replace in {"clean": lambda x: x, "spliced": reconstructed, "zero": zeros}.items():
        parts = []
        for ids in inputs.token_ids.split(8):
            with torch.no_grad(), splice(model, inputs.hook, replace):
                logits = model(input_ids=ids).logits[:, skipped:-1].double()
            parts.append(cross_entropy(logits.flatten(0, 1), ids[:, skipped + 1 :].flatten(), reduction="none"))
        losses[name] = torch.cat(parts).mean().item()
        print(f"{name:8} {losses[name]:.9f}")
    recovered = (losses["zero"] - losses["spliced"]) / (losses["zero"] - losses["clean"])
    print(f"loss recovered {recovered:.9f}")


if __name__ == "__main__":
    sys.path.pop(0)  # this folder: its modules must not pass for packages of that name
    main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]))
