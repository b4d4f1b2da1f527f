"""A small stream: a tiny language model, its corpus, and the words of `distsae stream`."""

from __future__ import annotations

import json
from pathlib import Path

from tests.conftest import tiny_documents

STEPS = 60


def stream_words(model: Path, folder: Path, **changes: object) -> list[str]:
    """Writes the corpus into a folder, and returns the command, all but `--out`.

    Args:
        model: folder of the language model.
        folder: for the corpus.
        changes: further keys of `train`.
    """
    corpus = folder / "texts.jsonl"
    corpus.write_text("".join(json.dumps({"text": text}) + "\n" for text in tiny_documents(600, seed=3)))
    produce = {
        "model": str(model),
        "corpus": str(corpus),
        "hooks": ["blocks.0.resid_post", "blocks.1.resid_post"],
        "context_length": 32,
        "unit_rows": 1500,
        "chunk_rows": 256,
        "max_rows": 24_000,
        "keep_units": 4,
    }
    train: dict[str, object] = {
        "hook": "blocks.1.resid_post",
        "batch_tokens": 256,
        "sae": {"d_sae": 64, "k": 4},
        "steps": STEPS,
        "log_every": 1,
        "checkpoint": {"every": 10},
    }
    return ["stream", "--produce", json.dumps(produce), "--train", json.dumps(train | changes)]


def steps_done(out: Path) -> int:
    """Returns how many steps the run of a stream has logged."""
    metrics = out / "run" / "metrics.jsonl"
    return metrics.read_text().count("\n") if metrics.exists() else 0
