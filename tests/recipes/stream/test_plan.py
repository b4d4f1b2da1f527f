"""The launches of a stream get their configs, processes and GPUs, or one line says what does not fit."""

import pytest
import yaml

from distsae.cli.parsing import from_keys, parse
from distsae.errors import WrongInput
from distsae.producer import ProduceConfig
from distsae.training import TrainConfig
from tests.recipes.stream.samples import PRODUCE, TRAIN, plan

TWO = {"machines": 2, "machine_rank": 1, "main_process_ip": "10.0.0.1"}


def test_each_command_takes_its_config_file_by_itself(tmp_path):
    found = plan(tmp_path / "s", trainers=2)
    for part, config_class in ((found.produce, ProduceConfig), (found.train, TrainConfig)):
        part.file.parent.mkdir(exist_ok=True)
        part.file.write_text(yaml.safe_dump(dict(part.config)))
        read = parse(config_class, ["--config", str(part.file)], prog="", examples="", help="")
        assert read == from_keys(config_class, part.config)
    assert found.produce.config["out"] == found.train.config["store"] == str(found.store) == str(tmp_path / "s/store")
    assert found.train.config["out"] == str(tmp_path / "s/run")
    assert found.produce.config["keep_units"] == 8
    assert found.train.config["mesh"] == {**found.train.config["mesh"], "feature": 2, "data": 1}


def test_the_only_hook_is_the_hook_of_the_training(tmp_path):
    found = plan(tmp_path, produce=PRODUCE | {"hooks": ["blocks.0.resid_post"]}, train={"sae.d_sae": 64, "sae.k": 4})
    assert found.train.config["hook"] == "blocks.0.resid_post"


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"produce": PRODUCE | {"keep_unit": 3}}, "produce: unknown key .*keep_unit"),
        ({"produce": PRODUCE | {"keep_units": None}}, "produce: `keep_units`"),
        ({"produce": PRODUCE | {"out": "x"}}, "`out` must not be in produce"),
        ({"produce": {"model": "m"}}, "produce: "),
        ({"train": TRAIN | {"store": "x"}}, "`store` must not be in train"),
        ({"train": TRAIN | {"sae": {"d_sae": 4, "k": 8}}}, "train: `sae.k`"),
        ({"train": TRAIN | {"hook": None}}, "must be one of the `hooks`"),
        ({"train": TRAIN | {"hook": "blocks.5.resid_post"}}, "must be one of the `hooks`"),
        ({"trainers": 3, "train": TRAIN | {"mesh": {"feature": 2}}}, "`trainers`"),
        (TWO | {"train": TRAIN | {"mesh": {"feature": 3}}}, r"`trainers` \(=None\) \* `machines` \(=2\) must be"),
        (TWO | {"trainers": 2, "train": TRAIN | {"mesh": {"feature": 2}}}, "correct the mesh"),
    ],
)
def test_what_does_not_fit_is_named_and_nothing_is_written(tmp_path, keys, message):
    with pytest.raises(WrongInput, match=message):
        plan(tmp_path / "s", **keys)
    assert not (tmp_path / "s").exists()


def test_each_process_has_a_gpu_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 8)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    found = plan(tmp_path, producers=2, trainers=4)
    assert found.train.environment == {"CUDA_VISIBLE_DEVICES": "0,1,2,3"}
    assert found.produce.environment == {"CUDA_VISIBLE_DEVICES": "4,5"}
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,7,5")
    found = plan(tmp_path, producers=1, trainers=2)
    assert found.train.environment == {"CUDA_VISIBLE_DEVICES": "3,7"}
    assert found.produce.environment == {"CUDA_VISIBLE_DEVICES": "5"}
    with pytest.raises(WrongInput, match="at most the number of GPUs; got 3"):
        plan(tmp_path, producers=2, trainers=2)


def test_on_a_cpu_both_launches_share_the_cores(tmp_path, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    found = plan(tmp_path, producers=1, trainers=3)
    for part in (found.produce, found.train):
        words = part.command(5, 240.0)
        assert words[words.index("--num_cpu_threads_per_process") + 1] == "2"
        assert words[-4:] == ["distsae", part.name, "--config", str(part.file)]
    assert found.produce.environment == found.train.environment == {}


def test_on_several_machines_the_trainers_are_one_job_and_producers_are_on_their_own(tmp_path):
    found = plan(tmp_path, producers=3, trainers=2, **TWO)
    assert found.train.config["mesh"] == {**found.train.config["mesh"], "feature": 2, "data": 2}
    words = found.train.command(5, 240.0)
    for name, value in {
        "num_machines": 2,
        "num_processes": 4,
        "machine_rank": 1,
        "main_process_ip": "10.0.0.1",
    }.items():
        assert words[words.index(f"--{name}") + 1] == str(value)
    assert found.produce.command(5, 240.0) == plan(tmp_path, producers=3, trainers=2).produce.command(5, 240.0)
