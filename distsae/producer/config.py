"""The settings of `distsae produce`, and the checks that need neither model nor corpus."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from distsae.errors import WrongInput
from distsae.language_model import DeviceMap, refuse_map

__all__ = ["ProduceConfig", "check"]


@dataclass(frozen=True, kw_only=True)
class ProduceConfig:
    """Settings of a producer.

    Args:
        model: folder written by `save_pretrained`, of a model or a PEFT adapter; a GGUF file; or the name of a Hugging
            Face repository.
        corpus: .jsonl, .txt (both also as .gz or .zst), .parquet or .arrow file, a folder of such files, a folder
            written by `save_to_disk`, or name of a Hugging Face data set.
        hooks: hooks to store, for example '[blocks.3.resid_post]'; the path of any module is a hook too.
        out: folder of the store, or its URL in an object store (s3://, gs://, az://); an unfinished one is continued.
        context_length: tokens in a context, BOS included.
        max_rows: token rows to produce, held-out ones included, rounded down to whole contexts; all of the corpus if
            not given.
        unit_rows: token rows in a unit, which a process computes and commits as a whole; a process holds two units in
            memory, one that is computed and one that is written.
        dtype: dtype of the stored activations.
        keep_units: largest number of units on disk at a time, for text without end: producers wait while that many are
            unread, and the one training run that reads the store removes the units that it has finished. Set `max_rows`
            too, because all of the text is tokenised first (8 bytes a token). By default all units are kept.
        seed: seed of the permutations of contexts and rows.
        heldout_share: share of the contexts that is held out for evaluation; at least one context, at most one unit.
        heldout_by: what is held out: `documents`, so that no text is on both sides (if the corpus has too few, its
            end), or `contexts` drawn from all of them, most of which have a part of their documents on the other side.
        chunk_rows: token rows in a chunk, the smallest piece of a store that is read.
        batch_contexts: contexts in a forward pass; part of the store's identity, because the last bit of an activation
            can depend on it.
        prepend_bos: whether every context starts with BOS.
        join_documents: whether a context may hold the end of one document and the beginning of others; if not, what is
            left of a document after its last whole context is dropped, and documents shorter than one give nothing.
        excluded_positions: number of first positions in a context that give no row (1 leaves out BOS, whose activation
            is unlike all others).
        excluded_tokens: ids of tokens whose rows are left out wherever they occur, such as the end-of-text token
            between documents. Their rows are stored as zeros, and count in no statistics, training or measurement.
        text_field: field or column that holds the text; or lists of token ids, which are taken as they are; or lists of
            messages with `role` and `content`, which become tokens by the tokenizer's chat template.
        skip_bad_records: whether records without a text, or lines that are no JSON, are left out and counted; if not,
            the first one ends the reading.
        split: split of a Hugging Face data set, or of one that `save_to_disk` wrote.
        subset: configuration of a Hugging Face data set; its only or default one if not given.
        corpus_revision: branch, tag or commit of a Hugging Face data set; the newest if not given. The store records
            the commit that was read.
        streaming: whether a Hugging Face data set is read over the network while it is tokenised; if not, it is
            downloaded first and kept in the cache of the `datasets` library.
        revision: branch, tag or commit of a Hugging Face model; its default branch if not given.
        trust_remote_code: whether code that came with the model may run; the store records a digest of it.
        device: device on which the model runs; auto is this process's GPU if there is one, else the CPU.
        device_map: how a model that one GPU cannot hold is split over those that this process sees: auto, balanced,
            balanced_low_0 or sequential, or devices by parts of the model, such as '{"": "cpu"}'. `device` is left out.
        model_dtype: dtype in which the model computes.
    """

    model: str
    corpus: str
    hooks: tuple[str, ...]
    out: str
    context_length: int = 128
    max_rows: int | None = None
    unit_rows: int = 262_144
    dtype: Literal["fp16", "bf16", "fp32"] = "fp16"
    keep_units: int | None = None
    seed: int = 0
    heldout_share: float = 0.02
    heldout_by: Literal["documents", "contexts"] = "documents"
    chunk_rows: int = 8192
    batch_contexts: int = 32
    prepend_bos: bool = True
    join_documents: bool = True
    excluded_positions: int = 1
    excluded_tokens: tuple[int, ...] = ()
    text_field: str = "text"
    skip_bad_records: bool = False
    split: str = "train"
    subset: str | None = None
    corpus_revision: str | None = None
    streaming: bool = True
    revision: str | None = None
    trust_remote_code: bool = False
    device: str = "auto"
    device_map: DeviceMap | None = None
    model_dtype: Literal["fp16", "bf16", "fp32"] = "fp32"

    @property
    def rows_per_context(self) -> int:
        """Number of token rows that one context gives."""
        return self.context_length - self.excluded_positions

    @property
    def max_contexts(self) -> int | None:
        """Number of contexts that `max_rows` allows; None for all of the corpus."""
        return None if self.max_rows is None else self.max_rows // self.rows_per_context


def check(config: ProduceConfig) -> None:
    """Checks settings that can be judged on their own.

    Raises:
        WrongInput: a setting makes no sense; the message names it.
    """
    if config.device_map is not None:
        refuse_map(config.device_map, config.device)
    if not config.hooks:
        raise WrongInput("`hooks` (=[]) must name at least one hook; give --hooks '[blocks.0.resid_post]'")
    if len(set(config.hooks)) < len(config.hooks) or any(not hook or "/" in hook for hook in config.hooks):
        raise WrongInput(f"`hooks` (={list(config.hooks)}) must be different names; name each hook once")
    at_least = {"context_length": 2, "unit_rows": 1, "chunk_rows": 1, "batch_contexts": 1, "excluded_positions": 0}
    for name, least in at_least.items():
        if getattr(config, name) < least:
            raise WrongInput(f"`{name}` (={getattr(config, name)}) must be at least {least}; use {least} or more")
    if config.excluded_positions >= config.context_length:
        raise WrongInput(
            f"`excluded_positions` (={config.excluded_positions}) must be below `context_length` "
            f"(={config.context_length}); got contexts without a position that gives a row; exclude fewer positions"
        )
    if len(set(config.excluded_tokens)) < len(config.excluded_tokens) or any(i < 0 for i in config.excluded_tokens):
        raise WrongInput(
            f"`excluded_tokens` (={list(config.excluded_tokens)}) must be different ids, 0 or more; give each id once"
        )
    if not 0 <= config.heldout_share <= 0.5:
        raise WrongInput(f"`heldout_share` (={config.heldout_share}) must be from 0 to 0.5; use a share in that range")
    if config.keep_units is not None and config.keep_units < 2:
        raise WrongInput(
            f"`keep_units` (={config.keep_units}) must be at least 2, so that half of the units are read while the "
            "other half is produced; use 2 or more"
        )
    if config.max_contexts is not None and config.max_contexts < 2:
        raise WrongInput(
            f"`max_rows` (={config.max_rows}) must allow two contexts, one to train on and one held out; use "
            f"{2 * config.rows_per_context} or more"
        )
