"""Trainings are launched as a user would launch them."""

from distsae.cli.parsing import parse
from distsae.recipes.study.jobs import StudyJob, sweep_over
from distsae.recipes.study.launches import launch, write_job
from distsae.training import TrainConfig
from tests.recipes.study.samples import TC, plan


def test_the_file_of_a_job_is_a_config_of_train(tiny_store, tmp_path):
    found = plan(tiny_store, tmp_path / "o", methods=[TC])
    config = sweep_over(found.bases["TC"], found.cells[0].trials)
    write_job(StudyJob(config, found.cells[0].trials), tmp_path / "jobs" / "TC.yaml")
    assert parse(TrainConfig, ["--config", str(tmp_path / "jobs" / "TC.yaml")], prog="", examples="", help="") == config


def test_several_processes_on_a_cpu_have_what_they_need(monkeypatch, tmp_path):
    seen = {}

    def supervise(config, words):
        import os

        seen.update({name: os.environ.get(name) for name in ("ACCELERATE_USE_CPU", "GLOO_SOCKET_IFNAME")}, words=words)
        return 7

    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("distsae.recipes.study.launches.supervise", supervise)
    monkeypatch.delenv("ACCELERATE_USE_CPU", raising=False)
    monkeypatch.delenv("GLOO_SOCKET_IFNAME", raising=False)
    assert launch(tmp_path / "job.yaml", 2) == 7
    assert seen["ACCELERATE_USE_CPU"] == "true"
    assert seen["words"][-5:] == ["-m", "distsae", "train", "--config", str(tmp_path / "job.yaml")]
    assert launch(tmp_path / "job.yaml", 1) == 7
    assert seen["ACCELERATE_USE_CPU"] is None
