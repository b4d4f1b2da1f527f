"""Says what a reader of figures should know about the text: how much repeats, and what is held out."""

from __future__ import annotations

from collections.abc import Iterator

from distsae.producer.config import ProduceConfig
from distsae.producer.packing import Packed
from distsae.store import Passages
from distsae.text import Contexts

__all__ = ["packing_in_words"]

_WORTH_SAYING = 0.01
"""Share of the text, or of the held-out contexts, from which on something is said."""


def packing_in_words(packed: Packed, contexts: Contexts, config: ProduceConfig, skipped: int) -> Iterator[str]:
    """Yields a line on each thing that is worth saying, most often none.

    Args:
        packed: what packing gave.
        contexts: the contexts.
        config: settings of the producer.
        skipped: number of records that were left out.
    """
    if skipped:
        yield f"{skipped:,} records without a text were left out of {config.corpus}"
    again = packed.repeats
    if again.tokens >= _WORTH_SAYING * again.of_tokens:
        yield (
            f"{again.documents:,} of {again.of_documents:,} documents ({again.tokens / again.of_tokens:.0%} of the "
            "text) repeat an earlier one; remove them from the corpus, or figures count them more than once"
        )
    if packed.heldout_by == "end":
        yield (
            f"{config.corpus} has {packed.documents:,} documents, too few or too long to hold out "
            f"{config.heldout_share:.3g} of it by documents: its last {packed.heldout:,} contexts are held out"
        )
    if packed.heldout:
        train = packed.contexts - packed.heldout
        passages = Passages(contexts.token_ids[train:].numpy())
        passages.look_through(contexts.token_ids[:train].numpy())
        if (share := passages.common_share()) >= _WORTH_SAYING:
            yield f"{share:.0%} of the held-out contexts have text in common with those to train on"
