"""The config of an evaluation: which SAE, on which text."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from distsae.errors import WrongInput
from distsae.store.mounted_path import mounted_path

__all__ = ["EvaluateConfig"]


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """Measures a trained SAE: fidelity, spliced loss, density, adaptivity.

    Args:
        run: run folder, folder of an SAE, or name of one on the Hub (user/repository/folder, saelens:RELEASE/SAE_ID).
        store: activation store whose held-out contexts, which training never reads, are evaluated.
        model: name or folder of the language model to splice into; by default the model of the store.
        corpus: other text to evaluate, a file, folder or dataset name; packed into contexts as the text of the store.
        text_field: field or column of `corpus` that holds the text.
        split: split of `corpus`, if it is a Hugging Face data set or one that `save_to_disk` wrote.
        subset: configuration of `corpus`, if it is a Hugging Face data set; its only or default one if not given.
        corpus_revision: branch, tag or commit of `corpus`, if it is a Hugging Face data set; the newest if not given.
        max_tokens: most tokens of text to evaluate, in whole contexts, at least one.
        out: JSON file to write, with arrays beside it as .npz; by default evaluation.json in the run folder.
        seed: seed of the order of contexts and of the bootstrap's resamples.
        device: device to work on: auto, cpu, cuda or cuda:N.
        trust_remote_code: whether code that came with the model may run; it must be the code that made the store.
        batch_contexts: contexts in one forward pass of the model; affects speed and memory, not results.
        block_rows: token rows over which the training rule shares its budget, in whole contexts, shuffled.
    """

    run: str
    store: str
    model: str | None = None
    corpus: str | None = None
    text_field: str = "text"
    split: str = "train"
    subset: str | None = None
    corpus_revision: str | None = None
    max_tokens: int = 200_000
    out: str | None = None
    seed: int = 0
    device: str = "auto"
    trust_remote_code: bool = False
    batch_contexts: int = 16
    block_rows: int = 65_536

    def __post_init__(self) -> None:
        """Expands `~`, and refuses counts below one, URLs, an `out` of another kind and settings without a corpus.

        Raises:
            WrongInput: a count below one, a `run` or `out` that is the URL of a bucket, an `out` that is not a .json
                file, or a setting of `corpus` without it.
        """
        for name in ("run", "out"):
            if value := getattr(self, name):
                object.__setattr__(self, name, str(mounted_path(value, name)))
        for name in ("max_tokens", "batch_contexts", "block_rows"):
            value = getattr(self, name)
            if value < 1:
                raise WrongInput(f"`{name}` (={value}) must be at least 1; give a positive number")
        for name in ("text_field", "split", "subset", "corpus_revision") if self.corpus is None else ():
            if getattr(self, name) != getattr(EvaluateConfig, name):
                raise WrongInput(
                    f"`{name}` (={getattr(self, name)}) must be given with `corpus`; got none; give --corpus, or leave "
                    "it out"
                )
        if self.out is not None and Path(self.out).suffix != ".json":
            raise WrongInput(
                f"`out` (={self.out}) must end in .json; use a name such as evaluation.json (arrays go beside it)"
            )
