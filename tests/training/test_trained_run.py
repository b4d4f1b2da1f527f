"""Training as a notebook does it: one call in this process, and what it returns."""

import json

import pytest
import torch

from distsae.errors import WrongInput
from distsae.store import Store
from distsae.training import CheckpointConfig, SizeConfig, SweepConfig, TrainConfig, TrainedRun, train


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    rows = torch.randn(3000, 16, generator=torch.Generator().manual_seed(0))
    return Store.write(tmp_path_factory.mktemp("rows") / "s", rows, heldout_share=0.1)


def _config(store, out, **changes):
    return TrainConfig(
        store=str(store.path),
        out=str(out),
        steps=12,
        batch_tokens=256,
        log_every=3,
        sae=SizeConfig(d_sae=64, k=4),
        checkpoint=CheckpointConfig(every=100),
        wandb="off",
        **changes,
    )


def test_a_call_returns_the_finished_run(store, tmp_path):
    run = train(_config(store, tmp_path / "r"))
    assert run.folder == tmp_path / "r"
    assert run.sae.cfg.d_sae == 64
    assert run.sae is run.sae
    rows = torch.randn(5, 16)
    assert run.sae(rows).shape == rows.shape
    assert [line["step"] for line in run.metrics] == [3, 6, 9, 12]
    assert run.metrics[-1]["fvu"] < run.metrics[0]["fvu"]
    assert run.frozen_rule["fvu"] == pytest.approx(run.metrics[-1]["fvu"], rel=0.5)
    again = train(_config(store, tmp_path / "r"))  # nothing is left to do
    assert again.metrics == run.metrics


def test_a_sweep_has_its_runs_as_members(store, tmp_path):
    sweep = train(_config(store, tmp_path / "s", sweep=SweepConfig(k=(2, 4))))
    assert sorted(run.sae.cfg.k for run in sweep.members.values()) == [2, 4]
    assert sweep.metrics == []
    with pytest.raises(WrongInput, match="must be an SAE folder or a finished run"):
        sweep.sae  # noqa: B018 (the property raises)


def test_a_resumed_run_logs_a_step_once(tmp_path):
    lines = [{"step": step, "fvu": value} for step, value in ((1, 0.9), (2, 0.8), (3, 0.7), (2, 0.6), (3, 0.5))]
    torn = '{"step": 4, "fv'  # the process was killed here
    (tmp_path / "metrics.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines) + torn)
    assert [line["fvu"] for line in TrainedRun(tmp_path).metrics] == [0.9, 0.6, 0.5]
    assert TrainedRun(tmp_path / "nowhere").metrics == []
    assert TrainedRun(tmp_path).frozen_rule == {}
