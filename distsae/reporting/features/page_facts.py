"""What all pages have in common: the SAE, the text, and how much of it was read."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from distsae import __version__
from distsae.model import ALLOCATION_TITLES
from distsae.reporting.features.config import FeaturesConfig
from distsae.reporting.features.inputs import FeatureInputs

__all__ = ["PageFacts", "facts_of", "settings_of"]


@dataclass(frozen=True, kw_only=True)
class PageFacts:
    """What all pages have in common.

    Args:
        name: name of the run.
        model: name of the language model.
        hook: hook of the activations.
        layer: number of the hook's layer; None for a module path without one.
        allocation: allocation rule, as it is called in text.
        d_in: width of the activations.
        d_sae: number of features.
        k: mean matches per token in training.
        corpus: name of the corpus.
        split: split of the store.
        contexts: contexts of the pass.
        context_length: tokens in a context.
        rows: rows of the pass.
        correlation_rows: rows on which it was counted which features fire together.
        version: version of distsae.
    """

    name: str
    model: str
    hook: str
    layer: int | None
    allocation: str
    d_in: int
    d_sae: int
    k: int
    corpus: str
    split: str
    contexts: int
    context_length: int
    rows: int
    correlation_rows: int
    version: str

    def to_json(self) -> dict[str, Any]:
        """Returns the facts as JSON values."""
        return asdict(self)


def facts_of(config: FeaturesConfig, inputs: FeatureInputs, rows: int, correlation_rows: int) -> PageFacts:
    """Returns the facts of a pass; `rows` and `correlation_rows` are what it has counted."""
    cfg, attributes = inputs.sae.cfg, inputs.store.attributes
    folder = inputs.sae_path.resolve()
    return PageFacts(
        name=folder.parent.name if folder.name == "sae" else folder.name,
        model=_last_part(attributes.model),
        hook=cfg.hook_name,
        layer=cfg.hook_layer,
        allocation=ALLOCATION_TITLES[cfg.allocation],
        d_in=cfg.d_in,
        d_sae=cfg.d_sae,
        k=cfg.k,
        corpus=_last_part(attributes.corpus),
        split=config.split,
        contexts=sum(part.contexts for part in inputs.parts),
        context_length=attributes.context_length,
        rows=rows,
        correlation_rows=correlation_rows,
        version=__version__,
    )


def settings_of(config: FeaturesConfig, inputs: FeatureInputs, digest: str) -> dict[str, Any]:
    """Returns everything that decides what pages hold; neither paths nor the device do.

    Args:
        config: the config.
        inputs: what it leads to.
        digest: digest of the SAE's weights.
    """
    left_out = ("run", "store", "out", "model", "device", "trust_remote_code", "format")
    kept = {name: getattr(config, name) for name in FeaturesConfig.__dataclass_fields__ if name not in left_out}
    return {
        "sae": digest,
        "store": inputs.store.content_digest,
        "hook": inputs.sae.cfg.hook_name,
        **kept,
        "format": ",".join(sorted(config.formats)),
        "with_tokenizer": bool(inputs.vocabulary),
        "with_unembedding": inputs.head is not None,
    }


def _last_part(name: str) -> str:
    """Returns a path without the folders of this machine, which say nothing to others; a hub name as it is."""
    return name.rstrip("/").rsplit("/", 1)[-1] if name.startswith(("/", ".", "~")) or name.count("/") > 1 else name
