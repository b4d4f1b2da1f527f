"""At the end of a run ranks wait as long as rank 0 takes to write the SAE, however soon their collectives time out."""

from __future__ import annotations

import time
from datetime import timedelta

import pytest

from distsae.parallel import Mesh, MeshConfig
from distsae.training import SizeConfig, TrainConfig
from distsae.training.guards import set_timeout
from distsae.training.run import Run
from tests.distributed.meshed_runs import trained
from tests.distributed.processes import run_on_mesh


def _trained_with_a_slow_end(mesh: Mesh, config: TrainConfig) -> None:
    end = Run.end

    def slow_end(run: Run) -> None:
        set_timeout(timedelta(seconds=0.5), mesh.groups())
        if mesh.world.rank == 0:
            time.sleep(3)
        end(run)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Run, "end", slow_end)
        trained(mesh, config)


def test_ranks_wait_for_the_sae(tiny_store, tmp_path):
    config = TrainConfig(
        store=str(tiny_store),
        out=str(tmp_path / "run"),
        hook="blocks.0.resid_post",
        steps=2,
        batch_tokens=256,
        sae=SizeConfig(d_sae=64, k=4),
        mesh=MeshConfig(feature=2),
        wandb="off",
    )
    run_on_mesh(_trained_with_a_slow_end, (1, 2), config)
    assert (tmp_path / "run" / "sae").is_dir()
