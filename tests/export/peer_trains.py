"""Trains an SAE with a tool's own trainer and saves it with the tool's own function: `PEERS_PYTHON peer_trains.py JOB`.

It is run by the interpreter of the peers, and imports torch and the tool's package, and nothing of distsae. JOB is a
JSON object: `tool` and `kind` of the SAE; `rows`, a .npy file of activations to train on; `steps`; `batch`; `d_sae`;
`k`; `folder` to save into. The short trainings are there to get weights that are used as the tool means them.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor


def batches(job: dict[str, Any]) -> Iterator[Tensor]:
    x = torch.from_numpy(np.load(job["rows"]))
    generator = torch.Generator().manual_seed(0)
    while True:
        yield x[torch.randint(len(x), (job["batch"],), generator=generator)]


def saelens(job: dict[str, Any]) -> None:
    import sae_lens
    from sae_lens.config import LoggingConfig, SAETrainerConfig
    from sae_lens.saes.sae import SAEMetadata
    from sae_lens.training.sae_trainer import SAETrainer

    name, _, normalise = job["kind"].partition(" ")
    classes = {"standard": "Standard", "topk": "TopK", "batchtopk": "BatchTopK", "jumprelu": "JumpReLU"}
    keys: dict[str, Any] = {"d_in": np.load(job["rows"], mmap_mode="r").shape[1], "d_sae": job["d_sae"]}
    keys |= {"k": job["k"]} if "topk" in name else {}
    keys["normalize_activations"] = normalise or "none"
    metadata = {"model_name": "smollm2", "hook_name": "blocks.11.hook_resid_post", "context_size": 128}
    config = getattr(sae_lens, f"{classes[name]}TrainingSAEConfig")(**keys, metadata=SAEMetadata(**metadata))
    sae = getattr(sae_lens, f"{classes[name]}TrainingSAE")(config)
    samples = job["steps"] * job["batch"]
    trainer = SAETrainerConfig(
        total_training_samples=samples,
        train_batch_size_samples=job["batch"],
        lr=3e-3,
        lr_end=3e-4,
        lr_decay_steps=job["steps"] // 5,
        device="cpu",
        logger=LoggingConfig(log_to_wandb=False),
    )
    SAETrainer(trainer, sae, batches(job)).fit()
    sae.save_inference_model(job["folder"])


def dictionary_learning(job: dict[str, Any]) -> None:
    from dictionary_learning.trainers.batch_top_k import BatchTopKTrainer
    from dictionary_learning.trainers.jumprelu import JumpReluTrainer
    from dictionary_learning.trainers.matryoshka_batch_top_k import MatryoshkaBatchTopKTrainer
    from dictionary_learning.trainers.standard import StandardTrainer
    from dictionary_learning.trainers.top_k import TopKTrainer
    from dictionary_learning.training import trainSAE

    modules = {
        "AutoEncoder": (StandardTrainer, {"sparsity_warmup_steps": None}),
        "AutoEncoderTopK": (TopKTrainer, {"k": job["k"]}),
        "BatchTopKSAE": (BatchTopKTrainer, {"k": job["k"], "threshold_start_step": 5}),
        "MatryoshkaBatchTopKSAE": (
            MatryoshkaBatchTopKTrainer,
            {"k": job["k"], "threshold_start_step": 5, "group_fractions": [0.25, 0.75]},
        ),
        "JumpReluAutoEncoder": (JumpReluTrainer, {"sparsity_warmup_steps": None}),
    }
    trainer, keys = modules[job["kind"]]
    config = {
        "trainer": trainer,
        "steps": job["steps"],
        "activation_dim": np.load(job["rows"], mmap_mode="r").shape[1],
        "dict_size": job["d_sae"],
        "layer": 11,
        "lm_name": "smollm2",
        "submodule_name": "resid_post_layer_11",
        "warmup_steps": 2,
        "device": "cpu",
        "lr": 3e-3,
        **keys,
    }
    folder = Path(job["folder"])
    trainSAE(batches(job), [config], steps=job["steps"], save_dir=str(folder), device="cpu", normalize_activations=True)
    for file in (folder / "trainer_0").iterdir():
        if file.is_file():
            file.rename(folder / file.name)


def sparsify(job: dict[str, Any]) -> None:
    from sparsify import SparseCoder
    from sparsify.config import SparseCoderConfig

    data = batches(job)
    first = next(data)
    sae = SparseCoder(first.shape[1], SparseCoderConfig(num_latents=job["d_sae"], k=job["k"]), dtype=torch.float32)
    sae.b_dec.data = first.mean(0)
    optimizer = torch.optim.Adam(sae.parameters(), lr=3e-3)
    for _ in range(job["steps"]):
        sae.set_decoder_norm_to_unit_norm()
        sae(next(data)).fvu.backward()
        sae.remove_gradient_parallel_to_decoder_directions()
        optimizer.step()
        optimizer.zero_grad()
    sae.save_to_disk(job["folder"])


TOOLS = {"saelens": saelens, "dictionary_learning": dictionary_learning, "sparsify": sparsify}

if __name__ == "__main__":
    sys.path.pop(0)  # this folder: its modules must not pass for packages of that name
    torch.manual_seed(0)
    given = json.loads(sys.argv[1])
    TOOLS[given["tool"]](given)
