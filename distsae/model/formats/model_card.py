"""The README of an exported SAE: what it is for, what it was measured at, and how it is loaded.

It begins with the fields that the Hugging Face Hub reads from a model card.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from distsae.model.formats.catalogue import SAEFormat
from distsae.model.sae_config import SAEConfig
from distsae.model.training_rule import ALLOCATION_TITLES

__all__ = ["CardFigure", "Measurements", "model_card"]

_RULES = {
    "topk": "The `k` largest positive scores of each token are its feature activations.",
    "jumprelu": "A feature is active where its score is positive and exceeds the feature's threshold.",
}
_NORMALISED = {
    "token": (
        "Each row is first brought to the norm `sqrt(d_in)`, and the reconstruction is brought back: with the scale "
        "`r = ||x|| / sqrt(d_in)` the scores are those of `x / r`, and `x_hat` is `r` times their reconstruction."
    )
}


@dataclass(frozen=True, kw_only=True)
class CardFigure:
    """One measured number.

    Args:
        name: its name in the table.
        training: its value by the batch rule, as text; empty if it was not measured.
        frozen: its value by the frozen rule.
    """

    name: str
    training: str
    frozen: str


@dataclass(frozen=True, kw_only=True)
class Measurements:
    """What a run has measured of its SAE.

    Args:
        figures: rows of the table.
        about: sentences on how they were measured, what was left out among them.
    """

    figures: Sequence[CardFigure] = ()
    about: Sequence[str] = field(default_factory=tuple)


def model_card(
    cfg: SAEConfig, written: SAEFormat, licence: str | None, measured: Measurements, files: Mapping[str, str]
) -> str:
    """Returns the text of the README.

    Args:
        cfg: config of the SAE.
        written: format of the files.
        licence: identifier of the licence, as the Hub knows them; None leaves the field out.
        measured: what was measured.
        files: what each file of the folder is, by name.
    """
    head = ["---", *([f"license: {licence}"] if licence else []), "library_name: " + _library(written)]
    head += ["tags:", "  - sparse-autoencoder", "  - interpretability", f"  - {cfg.architecture}", "---", ""]
    hook = f"`{cfg.hook_name}`" if cfg.hook_name else "a hook that is not known"
    model = f"`{cfg.model_name}`" if cfg.model_name else "a model that is not known"
    lines = [
        f"# A sparse autoencoder of {cfg.d_sae:,} features",
        "",
        f"It reads the activations of {model} at {hook}, writes each as a sum of some {cfg.k} of its {cfg.d_sae:,} "
        f"features, and is for looking into what the model represents there. Its files are those of {written.title}.",
        "",
        "```python",
        written.loading.format(folder="THIS_FOLDER"),
        "```",
        "",
        "## What it is",
        "",
        *_table(_facts(cfg)),
        "",
        "With `s = (x - b_dec) @ W_enc + b_enc` for an activation `x`, the reconstruction is "
        f"`x_hat = feature_acts @ W_dec + b_dec`. {_RULES[cfg.architecture]}",
    ]
    if cfg.normalise in _NORMALISED:
        lines += ["", _NORMALISED[cfg.normalise]]
    lines += ["", "## What was measured", "", *_measured(measured)]
    if cfg.max_norm is not None:
        lines += [
            "",
            f"Rows with a norm over {cfg.max_norm:.6g} were left out of training and of the thresholds. They are the "
            "huge activations of a few tokens; the SAE was not made for them.",
        ]
    lines += ["", "## Files", "", *(f"- `{name}`: {what}" for name, what in files.items()), ""]
    return "\n".join(head + lines)


def _library(written: SAEFormat) -> str:
    return {"SAELens": "saelens"}.get(written.title, written.title)


def _facts(cfg: SAEConfig) -> list[tuple[str, str]]:
    facts = [
        ("model", f"`{cfg.model_name}`" if cfg.model_name else "not known"),
        ("hook", f"`{cfg.hook_name}`" if cfg.hook_name else "not known"),
        ("width of the activations, `d_in`", f"{cfg.d_in:,}"),
        ("features, `d_sae`", f"{cfg.d_sae:,}"),
        ("mean features per token, `k`", str(cfg.k)),
        ("trained with", ALLOCATION_TITLES[cfg.allocation]),
        ("architecture", cfg.architecture),
        ("normalisation in training", cfg.normalise),
        ("dtype", cfg.dtype),
        ("context", f"{cfg.context_size} tokens" if cfg.context_size else "not known"),
        ("contexts begin with BOS", "yes" if cfg.prepend_bos else "no"),
    ]
    if cfg.tokens_seen:
        facts.append(("training tokens", f"{cfg.tokens_seen:,}"))
    return facts


def _table(facts: Sequence[tuple[str, str]]) -> list[str]:
    return ["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in facts)]


def _measured(measured: Measurements) -> list[str]:
    if not measured.figures:
        return ["Nothing was measured of this SAE before it was exported."]
    lines = ["| | training rule | frozen rule |", "|---|---|---|"]
    lines += [f"| {figure.name} | {figure.training} | {figure.frozen} |" for figure in measured.figures]
    return [*lines, *(line for sentence in measured.about for line in ("", sentence))]
