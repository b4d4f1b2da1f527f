"""sparsify of EleutherAI: `cfg.json` and `sae.safetensors` in a folder that has the name of the hook.

It selects the `k` largest scores of a row and has no thresholds, so it holds Token Choice alone, on raw activations.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch

from distsae.checked_files import Between, WrongField, read_json_object, shown, typed
from distsae.errors import TornData, WrongInput
from distsae.model.formats.foreign_sae import Exported, ForeignSAE, config_beside, one_dtype, read_tensors
from distsae.model.formats.hook_spelling import from_hookpoint
from distsae.model.formats.tensor_writing import from_source
from distsae.model.formats.weight_source import WeightSource
from distsae.model.sae_config import SAEConfig
from distsae.model.training_rule import ALLOCATION_TITLES

__all__ = ["CONFIG", "WEIGHTS", "exported", "read"]

CONFIG = "cfg.json"
WEIGHTS = "sae.safetensors"


@dataclass(frozen=True, kw_only=True)
class SparsifyConfig:
    """The fields of `cfg.json` that matter here."""

    d_in: Annotated[int, Between(1)]
    activation: str = "topk"
    k: Annotated[int, Between(1)] = 32
    expansion_factor: Annotated[int, Between(1)] = 32
    num_latents: Annotated[int, Between(0)] = 0
    skip_connection: bool = False
    transcode: bool = False
    distsae: Any = None


def exported(cfg: SAEConfig, source: WeightSource, dtype: torch.dtype) -> Exported:
    """Returns what a folder of sparsify gets.

    Raises:
        WrongInput: the SAE has thresholds, or normalises rows.
    """
    if cfg.architecture != "topk":
        raise WrongInput(
            f"`to` (=sparsify) must be a tool that can hold the SAE; got one of {ALLOCATION_TITLES[cfg.allocation]}, "
            "which needs thresholds, and sparsify selects the k largest scores of each token; use saelens"
        )
    if cfg.normalise == "token":
        raise WrongInput(
            "`to` (=sparsify) must be a tool that can hold the SAE; got one that normalises each row, for which biases "
            "would have to grow with the row's norm, and sparsify's are fixed; use saelens, or train with another "
            "`normalise`"
        )
    document = {
        "activation": "topk",
        "expansion_factor": max(cfg.d_sae // cfg.d_in, 1),
        "normalize_decoder": True,
        "num_latents": cfg.d_sae,
        "k": cfg.k,
        "multi_topk": False,
        "skip_connection": False,
        "transcode": False,
        "d_in": cfg.d_in,
        "distsae": cfg.to_dict(),
    }
    tensors = {
        "encoder.weight": from_source(source, "W_enc", dtype, transposed=True),
        "encoder.bias": from_source(source, "b_enc", dtype),
        "W_dec": from_source(source, "W_dec", dtype),
        "b_dec": from_source(source, "b_dec", dtype),
    }
    return Exported(weights=WEIGHTS, container="safetensors", tensors=tensors, documents={CONFIG: document})


def read(folder: Path) -> ForeignSAE:
    """Reads an SAE of sparsify; its hook is the name of the folder, as `layers.5`.

    Raises:
        WrongInput: it is of a kind that cannot be carried; the text names it.
        TornData: a file is damaged; the text names it.
    """
    try:
        config = typed(SparsifyConfig, read_json_object(folder / CONFIG))
    except (WrongField, WrongInput) as error:
        raise TornData(f"{folder / CONFIG} is not the config of an SAE of sparsify: {error}") from None
    wrong = None
    if config.activation != "topk":
        wrong = f"the activation {shown(config.activation)}"
    elif config.transcode:
        wrong = "a transcoder"
    elif config.skip_connection:
        wrong = "a skip connection"
    if wrong is not None:
        raise WrongInput(
            f"{folder} must be an SAE that can be carried over, a topk autoencoder; got {wrong}; use sparsify itself"
        )
    d_in, d_sae = config.d_in, config.num_latents or config.d_in * config.expansion_factor
    needed: dict[str, tuple[int, ...]] = {"encoder.weight": (d_sae, d_in), "encoder.bias": (d_sae,)}
    needed |= {"W_dec": (d_sae, d_in), "b_dec": (d_in,)}
    found = one_dtype(read_tensors(folder / WEIGHTS), folder / WEIGHTS, needed)
    return ForeignSAE(
        tool="sparsify",
        folder=folder,
        tensors={
            "W_enc": found["encoder.weight"].t(),
            "W_dec": found["W_dec"],
            "b_enc": found["encoder.bias"],
            "b_dec": found["b_dec"],
        },
        k=min(config.k, d_sae),
        hook=from_hookpoint(folder.resolve().name),
        own=config_beside(config.distsae, folder / CONFIG, d_in, d_sae),
    )
