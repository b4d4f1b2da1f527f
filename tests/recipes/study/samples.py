"""Studies of a tiny store, and something in the place of their trainings and evaluations."""

from __future__ import annotations

import json
from pathlib import Path

import torch
import yaml

from distsae.cli.parsing import from_keys
from distsae.exit_codes import DIVERGED
from distsae.model import SAE, SAEConfig
from distsae.recipes.study import StudyConfig
from distsae.recipes.study.at_work import StudyActions
from distsae.recipes.study.plan import planned
from distsae.training.sweep import members

STEPS, BATCH = 4, 64
COMMON = {"steps": STEPS, "batch_tokens": BATCH, "hook": "blocks.0.resid_post"}
TC = {"name": "TC", "allocation": "token_choice", "aux": "none"}
MC = {"name": "MC", "allocation": "mutual_choice", "aux": "none"}
GRID = {"k": [4], "d_sae": [64], "lr": [1e-3, 3e-3, 1e-2], "seed": [0, 1]}


def config(store, out, **keys):
    """The config of a study of two methods, three rates and two seeds, unless `keys` say otherwise."""
    given = {"methods": [TC, MC], "grid": GRID, "common": COMMON} | keys
    return StudyConfig(store=str(store), out=str(out), **given)


def plan(store, out, **keys):
    return planned(config(store, out, **keys), from_keys)


def save_sae(folder, d_sae=64, k=4, tokens=STEPS * BATCH):
    """Writes an SAE as a training leaves it at its end."""
    cfg = SAEConfig(
        d_in=32,
        d_sae=d_sae,
        k=k,
        allocation="token_choice",
        hook_name="blocks.0.resid_post",
        hook_layer=0,
        model_name="tiny",
        context_size=32,
        prepend_bos=True,
        tokens_seen=tokens,
    )
    zeros = [torch.zeros(shape) for shape in ((32, d_sae), (d_sae, 32), (d_sae,), (32,))]
    SAE(cfg, *zeros).save(Path(folder) / "sae")


class Trainings:
    """Trains nothing: the FVU of a member is its distance from the best rate.

    Args:
        diverging: rates at which a member diverges.
        codes: exit codes of the next trainings, instead of what they would be; such a training writes nothing.
        best: the best rate.
    """

    def __init__(self, diverging=(), codes=(), best=3e-3):
        self.diverging, self.codes, self.best = set(diverging), list(codes), best
        self.trained, self.evaluated, self.processes = [], [], []

    def launch(self, file, processes, given):
        self.processes.append(processes)
        job = yaml.safe_load(file.read_text())
        found = members(from_keys(_train_config(), job))
        self.trained.append(sorted(found))
        if self.codes and (code := self.codes.pop(0)):
            return code
        for member in found.values():
            folder = Path(member.out)
            (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
            (folder / "config.yaml").write_text(yaml.safe_dump(member.stored()))
            if member.optimizer.lr in self.diverging:
                (folder / "diagnosis" / "step-00000003").mkdir(parents=True, exist_ok=True)
                continue
            fvu = abs(float(member.optimizer.lr) - self.best) + 0.01 * member.seed
            (folder / "frozen_rule.json").write_text(json.dumps({"fvu": fvu}))
            save_sae(folder, member.sae.d_sae, member.sae.k, member.steps * member.batch_tokens)
        return DIVERGED if self.diverging & {member.optimizer.lr for member in found.values()} else 0

    def evaluate(self, evaluation):
        self.evaluated.append("/".join(Path(evaluation.run).parts[-2:]))
        values = {"fvu": 0.5, "frozen_rule": {"fvu": 0.25, "l0": 4.0, "loss_recovered_zero": 0.9, "dead_share": 0.0}}
        (Path(evaluation.run) / "evaluation.json").write_text(json.dumps(values))

    @property
    def actions(self):
        return StudyActions(
            launch=self.launch,
            evaluate=self.evaluate,
            check=lambda _: None,
            page=lambda _, folder: folder / "index.html",
        )


def _train_config():
    from distsae.training import TrainConfig

    return TrainConfig
