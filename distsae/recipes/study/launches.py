"""Trainings as a user would launch them: `accelerate launch ... -m distsae train --config FILE`, supervised."""

from __future__ import annotations

from pathlib import Path

import yaml

from distsae.durable import replace
from distsae.launching import SuperviseConfig, supervise
from distsae.recipes.local_launch import launch_environment, launch_words
from distsae.recipes.study.jobs import StudyJob

__all__ = ["launch", "write_job"]

_RESTARTS = 1
"""Restarts of a training that crashed, before its members count as failed."""


def write_job(job: StudyJob, path: Path) -> None:
    """Writes the config of a training, which `distsae train --config` takes."""
    config = job.config.stored()
    config["sweep"] = {name: list(values) for name, values in job.config.sweep.given().items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    replace(path, yaml.safe_dump(config, sort_keys=False).encode())


def launch(config: Path, processes: int, given: str | None = None) -> int:
    """Trains what a config file says, and returns the exit code of `distsae train`.

    All processes end with this one, even if it is killed.

    Args:
        config: the config file.
        processes: number of processes.
        given: config file of accelerate; None for one that fits this machine.
    """
    with launch_environment(processes):
        return supervise(
            SuperviseConfig(restarts=_RESTARTS),
            [*launch_words(processes, given), "-m", "distsae", "train", "--config", str(config)],
        )
