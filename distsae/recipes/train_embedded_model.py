"""Trains the small language model that is part of distsae: a GPT-2 of under 5 MB for the English in Python itself.

Run `python -m distsae.recipes.train_embedded_model --out DIR`. It reads the embedded corpus without its validation
documents (`is_validation`), trains a byte-level BPE tokenizer and then the model, rounds the weights to fp16, measures
the rounded model on the validation documents, and writes a folder that `transformers` can load:
`config.json model.safetensors tokenizer.json tokenizer_config.json README.md`.

Contexts are packed by the function that packs them in the demo (`distsae.text.pack`), so the demo runs the model on
contexts like those of its training: 128 tokens, `<|endoftext|>` first.

The result depends on the interpreter (through its corpus) and on the rounding of torch. So it is kept as data in the
repository instead of being trained again.
"""

from __future__ import annotations

import argparse
import math
import platform
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor
from torch.nn import functional
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from distsae.progress import Progress, say
from distsae.recipes.embedded_corpus import documents, is_validation
from distsae.recipes.orthogonal_momentum import OrthogonalMomentum
from distsae.seeds import derive, torch_generator
from distsae.text import pack

__all__ = ["EmbeddedModelConfig", "main", "next_token_loss", "train", "train_tokenizer", "unigram_entropy"]

END = "<|endoftext|>"


@dataclass(frozen=True, kw_only=True)
class EmbeddedModelConfig:
    """The architecture of the embedded model, and the settings of its training.

    Args:
        out: folder for the finished model.
        steps: largest number of optimizer steps.
        minutes: largest time for the steps; the learning rate follows whichever limit is nearer.
        batch_contexts: contexts in a step.
        context_length: tokens in a context, `<|endoftext|>` included; also the number of positions of the model.
        vocabulary: number of entries of the tokenizer.
        layers: number of transformer blocks.
        width: width of the residual stream.
        heads: attention heads of a block.
        dropout: share of activations that are dropped in training.
        matrix_learning_rate: peak learning rate of the matrices in the blocks, which `OrthogonalMomentum` trains.
        learning_rate: peak learning rate of embeddings, biases and norms, which AdamW trains.
        weight_decay: share of the learning rate by which the matrices in the blocks shrink in a step.
        seed: seed of initial weights, dropout and the order of contexts.
        threads: CPU threads.
    """

    out: str
    steps: int = 1600
    minutes: float = 20.0
    batch_contexts: int = 16
    context_length: int = 128
    vocabulary: int = 4096
    layers: int = 4
    width: int = 128
    heads: int = 4
    dropout: float = 0.0
    matrix_learning_rate: float = 0.02
    learning_rate: float = 3e-3
    weight_decay: float = 0.1
    seed: int = 0
    threads: int = 2


def train_tokenizer(texts: list[str], vocabulary: int, context_length: int) -> PreTrainedTokenizerFast:
    """Returns a byte-level BPE tokenizer of `vocabulary` entries; BOS and EOS are `<|endoftext|>`."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=END, eos_token=END, pad_token=END, model_max_length=context_length
    )


def unigram_entropy(token_ids: Tensor, vocabulary: int) -> float:
    """Returns the entropy, in nats, of the tokens that `next_token_loss` predicts in contexts `[n, L]`.

    It is the loss of the best predictor that ignores the context and has the frequencies of the predicted tokens.
    """
    counts = torch.bincount(token_ids[:, 1:].reshape(-1), minlength=vocabulary).double()
    share = counts[counts > 0] / counts.sum()
    return float(-(share * share.log()).sum())


@torch.no_grad()
def next_token_loss(model: GPT2LMHeadModel, token_ids: Tensor, batch_contexts: int = 32) -> float:
    """Returns the mean cross-entropy, in nats a token, of predicting positions `1..L-1` of contexts `[n, L]`."""
    model.eval()
    total = 0.0
    for batch in torch.split(token_ids, batch_contexts):
        total += float(_loss(model, batch)) * len(batch)
    return total / len(token_ids)


def _loss(model: GPT2LMHeadModel, token_ids: Tensor) -> Tensor:
    logits = model(input_ids=token_ids).logits[:, :-1]
    return functional.cross_entropy(logits.reshape(-1, logits.shape[-1]).float(), token_ids[:, 1:].reshape(-1))


def train(config: EmbeddedModelConfig) -> dict[str, float]:
    """Trains tokenizer and model, writes the folder, and returns the figures in its README."""
    started = time.monotonic()
    torch.set_num_threads(config.threads)
    torch.manual_seed(derive(config.seed, "embedded_model"))
    texts = list(documents())
    train_texts = [text for text in texts if not is_validation(text)]
    validation_texts = [text for text in texts if is_validation(text)]
    tokenizer = train_tokenizer(train_texts, config.vocabulary, config.context_length)
    train_ids = _contexts(train_texts, tokenizer, config.context_length)
    validation_ids = _contexts(validation_texts, tokenizer, config.context_length)
    model = _new_model(config, tokenizer)
    say(f"{len(texts):,} documents, {train_ids.numel():,} + {validation_ids.numel():,} tokens")
    steps, train_loss = _fit(model, train_ids, config)

    model = model.half().float()
    figures = {
        "documents": len(texts),
        "characters": sum(map(len, texts)),
        "train_tokens": train_ids.numel(),
        "validation_documents": len(validation_texts),
        "validation_tokens": validation_ids.numel(),
        "steps": steps,
        "seen_tokens": steps * config.batch_contexts * config.context_length,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "train_loss": train_loss,
        "validation_loss": next_token_loss(model, validation_ids),
        "unigram_entropy": unigram_entropy(validation_ids, config.vocabulary),
        "minutes": (time.monotonic() - started) / 60,
    }
    out = Path(config.out)
    tokenizer.save_pretrained(out)
    model.half().save_pretrained(out)
    (out / "README.md").write_text(_readme(config, figures))
    return figures


def _contexts(texts: list[str], tokenizer: PreTrainedTokenizerFast, context_length: int) -> Tensor:
    return pack(iter(texts), tokenizer, context_length).token_ids.long()


def _new_model(config: EmbeddedModelConfig, tokenizer: PreTrainedTokenizerFast) -> GPT2LMHeadModel:
    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=config.vocabulary,
            n_positions=config.context_length,
            n_layer=config.layers,
            n_embd=config.width,
            n_head=config.heads,
            resid_pdrop=config.dropout,
            embd_pdrop=config.dropout,
            attn_pdrop=config.dropout,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
    )


def _fit(model: GPT2LMHeadModel, train_ids: Tensor, config: EmbeddedModelConfig) -> tuple[int, float]:
    """Trains `model` in place; returns the number of steps and the mean loss over the last tenth of the steps."""
    matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and ".h." in name]
    others = [p for name, p in model.named_parameters() if not (p.ndim == 2 and ".h." in name)]
    optimizers: list[torch.optim.Optimizer] = [
        OrthogonalMomentum(matrices, lr=config.matrix_learning_rate, weight_decay=config.weight_decay),
        torch.optim.AdamW(others, lr=config.learning_rate, betas=(0.9, 0.98), weight_decay=0.0),
    ]
    peaks = [group["lr"] for optimizer in optimizers for group in optimizer.param_groups]
    losses: list[float] = []
    order = _batches(len(train_ids), config)
    started = time.monotonic()
    with Progress(config.steps, "embedded model", "steps") as progress:
        for step in range(config.steps):
            done = max(step / config.steps, (time.monotonic() - started) / (60 * config.minutes))
            if done >= 1:
                break
            groups = [group for optimizer in optimizers for group in optimizer.param_groups]
            for group, peak in zip(groups, peaks, strict=True):
                group["lr"] = peak * _schedule(done)
            model.train()
            loss = _loss(model, train_ids[next(order)])
            model.zero_grad()
            torch.autograd.backward(loss)
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            for optimizer in optimizers:
                optimizer.step()
            losses.append(float(loss.detach()))
            progress.advance(1, loss=sum(losses[-50:]) / len(losses[-50:]))
    tail = losses[-max(len(losses) // 10, 1) :]
    return len(losses), sum(tail) / len(tail)


def _schedule(done: float, warm_up: float = 0.08, floor: float = 0.02) -> float:
    if done < warm_up:
        return (done + 1e-3) / (warm_up + 1e-3)
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * (done - warm_up) / (1 - warm_up)))


def _batches(contexts: int, config: EmbeddedModelConfig) -> Iterator[Tensor]:
    epoch = 0
    while True:
        order = torch.randperm(contexts, generator=torch_generator(config.seed, "order", epoch))
        yield from (part for part in torch.split(order, config.batch_contexts) if len(part) == config.batch_contexts)
        epoch += 1


def _readme(config: EmbeddedModelConfig, figures: dict[str, float]) -> str:
    return f"""# The embedded language model

Written by `python -m distsae.recipes.train_embedded_model`; do not edit by hand.

A GPT-2 of {config.layers} blocks, width {config.width}, {config.heads} heads, {config.context_length} positions and a
byte-level BPE vocabulary of {config.vocabulary}: {figures["parameters"]:,.0f} parameters, kept in fp16. BOS and EOS are
`{END}`. It was trained on the English that Python {platform.python_version()} carries
(`distsae.recipes.embedded_corpus`) and is good for showing and testing distsae, for nothing else.

| figure | value |
|---|---|
| documents (characters) | {figures["documents"]:,.0f} ({figures["characters"]:,.0f}) |
| training tokens, BOS included | {figures["train_tokens"]:,.0f} |
| validation documents (tokens), never trained on | {figures["validation_documents"]:,.0f} \
({figures["validation_tokens"]:,.0f}) |
| tokens seen in training | {figures["seen_tokens"]:,.0f} |
| training loss, last tenth of the steps | {figures["train_loss"]:.3f} nats a token |
| **validation loss** of the fp16 weights | **{figures["validation_loss"]:.3f}** nats a token |
| unigram entropy of the validation tokens | {figures["unigram_entropy"]:.3f} nats a token |
| better than unigram by | {figures["unigram_entropy"] - figures["validation_loss"]:.3f} nats a token |
| time | {figures["minutes"]:.1f} minutes, {config.threads} CPU threads |

Training: {figures["steps"]:,.0f} steps of {config.batch_contexts} contexts; orthogonalised momentum (Muon) on the
blocks' matrices with peak learning rate {config.matrix_learning_rate:g} and weight decay {config.weight_decay:g},
AdamW with {config.learning_rate:g} on all else; dropout {config.dropout:g}, linear warm-up then cosine,
seed {config.seed}, torch {torch.__version__}. A document is left out for validation when a hash of its own text says
so (`is_validation`), so the split holds on every Python. The corpus is documentation and comments of CPython (Python
Software Foundation License Version 2).
"""


def main(argv: list[str] | None = None) -> int:
    """Runs the training from the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m distsae.recipes.train_embedded_model", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--out", required=True, help="folder for the finished model")
    parser.add_argument("--steps", type=int, default=EmbeddedModelConfig.steps, help="largest number of steps")
    parser.add_argument("--minutes", type=float, default=EmbeddedModelConfig.minutes, help="largest time for the steps")
    parser.add_argument("--threads", type=int, default=EmbeddedModelConfig.threads, help="CPU threads")
    parser.add_argument(
        "--seed", type=int, default=EmbeddedModelConfig.seed, help="seed of weights and order of contexts"
    )
    given = parser.parse_args(argv)
    figures = train(EmbeddedModelConfig(**vars(given)))
    for name, value in figures.items():
        say(f"{name}: {value:,.3f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
