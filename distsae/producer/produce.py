"""Produces a sealed store from text, with any number of processes, each of which may be killed at any time.

A process goes through the units and skips those that are committed or claimed. It computes a unit, writes it as an
attempt of its own and commits it. When no unit is left to start, it waits for the units of other processes, and takes
over those of processes that have died. A process that finds all units committed seals the store. The same command
continues an unfinished store, also after SIGTERM or Ctrl-C, which `stopping.py` handles.
"""

from __future__ import annotations

import contextlib
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from pathlib import Path

import torch

from distsae.devices import device_named
from distsae.errors import WrongInput
from distsae.file_system import require_operations
from distsae.language_model import (
    LanguageModel,
    ModelFiles,
    find_model,
    hook_widths,
    load_language_model,
    refuse_another_model,
    refuse_shared_gpus,
)
from distsae.producer.config import ProduceConfig, check
from distsae.producer.full_disk import one_line_if_disk_full
from distsae.producer.local_inputs import refuse_unused
from distsae.producer.packing import HeldoutBy, contexts_to_hold_out
from distsae.producer.producer_rank import producer_rank
from distsae.producer.status import units_in_words
from distsae.producer.stopping import Stop
from distsae.producer.tokenised import heldout_rule, open_configured_corpus, tokenised_corpus
from distsae.producer.unit import check_fits
from distsae.producer.unit_loop import produce_units
from distsae.progress import say
from distsae.store import (
    Claims,
    Location,
    Store,
    StoreAttributes,
    StorePaths,
    begin_store,
    committed_units,
    location,
    outliers_in_words,
    read_attributes,
    seal_store,
    unit_sizes,
    units_done,
)
from distsae.store.commit import read_records
from distsae.store.layout import DTYPES

__all__ = ["produce"]

_LIBRARIES = ("distsae", "torch", "transformers", "tokenizers", "numpy", "zarr")


def produce(config: ProduceConfig) -> None:
    """Produces a store, or the missing units of one, and returns when the store is sealed.

    Raises:
        WrongInput: a setting is wrong, or the store was created with other settings.
        CannotContinue: activations cannot be stored, the disk is full, or an object store cannot be reached.
        SystemExit: SIGTERM or SIGHUP was received; the code is 143.
        KeyboardInterrupt: SIGINT was received.
    """
    check(config)
    root = location(config.out)
    with one_line_if_disk_full(root), Stop(partial(units_in_words, root)) as stop:
        _produce_into(root, config, stop)


def _produce_into(root: Location, config: ProduceConfig, stop: Stop) -> None:
    producer = producer_rank()
    device = device_named(config.device, producer.local_rank)
    refuse_unused(config)
    if config.device_map is not None:
        refuse_shared_gpus(torch.cuda.device_count())
    existing = read_attributes(root)
    if existing is None:  # a missing corpus, or a file system that will not do, is found before a model is loaded
        open_configured_corpus(config)
        if isinstance(root, Path):
            require_operations(root, "out", publishing=True)
    files = find_model(config.model, revision=config.revision, trust_remote_code=config.trust_remote_code)
    if existing is not None:  # settings that can be compared without model or tokenised corpus are compared at once
        widths = existing.d_in if existing.hooks == config.hooks else dict.fromkeys(config.hooks, 0)
        contexts = min(existing.contexts, config.max_contexts or existing.contexts)
        held = existing.heldout_contexts if config.heldout_by == "documents" else None
        by = existing.heldout_by if held is not None and existing.heldout_by != "contexts" else config.heldout_by
        begin_store(root, _attributes(config, files, contexts, existing.corpus_fingerprint, widths, held, by))
    language_model: LanguageModel | None = None
    if existing is None or not _is_finished(root, existing):
        language_model = _load(config, device)
        widths = _checked_widths(config, language_model)
        if existing is not None:
            _refuse_another_model(root, existing, language_model)

    with Claims(StorePaths(root).claims) as claims:
        vocabulary = None if language_model is None else language_model.vocabulary
        tokenised = tokenised_corpus(config, files, root, claims, vocabulary)
        attributes = _attributes(
            config,
            files,
            len(tokenised.contexts),
            tokenised.fingerprint,
            widths,
            tokenised.heldout,
            tokenised.heldout_by,
        )
        if tokenised.commit is not None:
            attributes = replace(attributes, corpus=f"{config.corpus}@{tokenised.commit}")
        if language_model is not None:
            check_fits(language_model, attributes, tokenised.contexts.token_ids[: config.batch_contexts])
        attributes = begin_store(root, attributes)
        shortfall = _shortfall(config, attributes.contexts)
        if shortfall:
            say(f"{root} will have {shortfall}")
        if _is_finished(root, attributes):
            say(f"{root} is finished: nothing to do")
            return
        tokenised.verify()
        if language_model is None:  # the store was finished, and a unit of it has been lost since
            language_model = _load(config, device)
        produce_units(root, attributes, tokenised.contexts, language_model, claims, producer, stop)
    with stop.deferred():
        if not StorePaths(root).dataset.exists():
            seal_store(root, attributes)
    store, units = Store.open(root), len(unit_sizes(attributes))
    say(f"{root} is finished: {store.rows:,} rows and {store.heldout_rows:,} held-out ones in {units} units")
    if shortfall:
        say(f"{root} has {shortfall}")
    for hook in attributes.hooks:
        norms = store.norms(hook)
        if norms is not None and (line := outliers_in_words(hook, norms)) is not None:
            say(line)


def _shortfall(config: ProduceConfig, contexts: int) -> str:
    """Returns by how much a store misses the rows that were asked for; empty if it has them."""
    if config.max_contexts is None or contexts >= config.max_contexts:
        return ""
    rows = contexts * config.rows_per_context
    return f"{rows:,} rows, not the {config.max_rows:,} of `max_rows`: that is all of the corpus"


def _load(config: ProduceConfig, device: torch.device) -> LanguageModel:
    return load_language_model(
        config.model,
        revision=config.revision,
        device=device,
        dtype=DTYPES[config.model_dtype].torch,
        trust_remote_code=config.trust_remote_code,
        device_map=config.device_map,
    )


def _is_finished(root: Location, attributes: StoreAttributes) -> bool:
    return StorePaths(root).dataset.exists() and len(units_done(root, attributes)) == len(unit_sizes(attributes))


def _refuse_another_model(root: Location, attributes: StoreAttributes, language_model: LanguageModel) -> None:
    """Compares the model with a unit that is there, if there is one; of a bounded store each may go at any time."""
    for unit in sorted(committed_units(root, len(unit_sizes(attributes))), reverse=True):
        with contextlib.suppress(FileNotFoundError):
            (record,) = read_records(root, [unit])
            refuse_another_model(language_model.model, language_model.name, root, attributes, record, attributes.hooks)
            return


def _checked_widths(config: ProduceConfig, language_model: LanguageModel) -> dict[str, int]:
    """Returns the width of each hook.

    Raises:
        WrongInput: the model lacks a hook, enough positions for a context, or an embedding for an excluded token.
    """
    model_config = language_model.model.config.get_text_config()
    longest = getattr(model_config, "max_position_embeddings", None)
    if longest is not None and config.context_length > longest:
        raise WrongInput(
            f"`context_length` (={config.context_length}) must not exceed the model's {longest} positions; use less"
        )
    vocabulary = language_model.vocabulary
    if beyond := [token for token in config.excluded_tokens if token >= vocabulary]:
        raise WrongInput(
            f"`excluded_tokens` (={list(config.excluded_tokens)}) must be ids of the model's {vocabulary} tokens; got "
            f"{beyond[0]}; use ids below {vocabulary}"
        )
    return hook_widths(language_model.model, config.hooks)


def _attributes(
    config: ProduceConfig,
    files: ModelFiles,
    contexts: int,
    corpus_fingerprint: str,
    widths: dict[str, int],
    heldout: int | None,
    heldout_by: HeldoutBy,
) -> StoreAttributes:
    rule = heldout_rule(config)
    drawn = contexts_to_hold_out(rule.share, contexts, rule.most)
    return StoreAttributes(
        model=str(config.model),
        model_revision=files.revision,
        model_digest=files.digest,
        tokenizer_digest=files.tokenizer_digest,
        corpus=str(config.corpus),
        corpus_fingerprint=corpus_fingerprint,
        hooks=tuple(config.hooks),
        d_in=widths,
        dtype=config.dtype,
        context_length=config.context_length,
        prepend_bos=config.prepend_bos,
        excluded_positions=config.excluded_positions,
        excluded_tokens=tuple(sorted(config.excluded_tokens)),
        unit_rows=config.unit_rows,
        contexts=contexts,
        heldout_contexts=drawn if heldout is None else heldout,
        heldout_by=heldout_by,
        heldout_share=None if heldout_by == "contexts" else config.heldout_share,
        seed=config.seed,
        chunk_rows=config.chunk_rows,
        batch_contexts=config.batch_contexts,
        model_dtype=config.model_dtype,
        keep_units=config.keep_units,
        code_digest=files.code_digest,
        base_model=None if files.adapter is None else files.adapter.base,
        adapter_digest=None if files.adapter is None else files.adapter.digest,
        library_versions={name: version(name) for name in (*_LIBRARIES, *(("peft",) if files.adapter else ()))},
    )
