"""What earlier versions left on the disk is read by this one: stores, SAEs, checkpoints and whole runs.

`older_versions/` holds one archive for each version, made by the code of that version (`older_versions/write.py`).
"""

import json
import shlex
import shutil
import tarfile
from pathlib import Path

import pytest
import torch

from distsae import SAE
from distsae.checkpoint import facts_of
from distsae.cli.main import main
from distsae.exit_codes import DONE, WRONG_INPUT
from distsae.store import Store
from tests.store.synthetic import activations

ARCHIVES = sorted((Path(__file__).parent / "older_versions").glob("*.tar.gz"))
_RATE_AND_QUOTAS = ("optimizer.decoder_rate", "quotas_hold")
BEFORE = {
    "2026-11-23-8c7cb08": ("normalise", "max_norm_ratio", *_RATE_AND_QUOTAS),
    "2026-11-28-519d801": ("max_norm_ratio", *_RATE_AND_QUOTAS),
    "2026-11-30-70fc75e": _RATE_AND_QUOTAS,
    "2026-12-01-9f0f838": (),
}
"""For each version, what keys must be given for its runs to go on, because it had other defaults."""


@pytest.fixture(params=ARCHIVES, ids=lambda path: path.name.removesuffix(".tar.gz"))
def version(request, tmp_path, monkeypatch):
    """The name of a version; what it left lies in the current folder."""
    with tarfile.open(request.param) as tar:
        tar.extractall(tmp_path, filter="data")
    monkeypatch.chdir(tmp_path)
    return request.param.name.removesuffix(".tar.gz")


def test_there_is_a_sample_of_each_version():
    assert [path.name.removesuffix(".tar.gz") for path in ARCHIVES] == list(BEFORE)
    assert all(path.stat().st_size < 50_000 for path in ARCHIVES)


def test_its_store_has_the_rows_that_were_written(version):
    assert main(["store", "verify", "store"]) == DONE
    store = Store.open("store")
    seen = 0
    for split in ("train", "heldout"):
        for chunk in store.chunks(split):
            ids, start = store.read_ids(chunk.unit), chunk.index * store.attributes.chunk_rows
            context, position = (
                torch.as_tensor(column)[start : start + chunk.rows] for column in (ids.context_id, ids.position)
            )
            for hook, d_in in store.attributes.d_in.items():
                read = store.read_chunk(hook, chunk)
                assert torch.equal(read, activations(hook, d_in, context, position))
            seen += chunk.rows
    assert seen == store.rows + store.heldout_rows == 320


def test_its_store_can_be_measured_and_trained_on(version):
    assert main(["store", "measure", "store"]) == DONE
    words = ["--hook", "a.b", "--steps", "2", "--batch_tokens", "64", "--sae.d_sae", "16", "--sae.k", "2"]
    assert main(["train", "--store", "store", "--out", "new", "--wandb", "off", *words]) == DONE


def test_its_sae_gives_what_it_gave(version):
    answer = {name: torch.tensor(value) for name, value in json.loads(Path("answer.json").read_text()).items()}
    sae = SAE.load("run")
    feature_acts = sae.encode(answer["x"])
    torch.testing.assert_close(feature_acts, answer["feature_acts"], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(sae.decode(feature_acts, answer["x"]), answer["x_hat"], rtol=1e-5, atol=1e-4)
    assert main(["export", "run", "--to", "safetensors", "--out", "exported"]) == DONE


def test_its_checkpoints_are_whole(version, capsys):
    assert main(["checkpoint", "verify", "run", "--all"]) == DONE
    assert main(["checkpoint", "info", "run", "--json"]) == DONE
    assert [facts_of(path)[0] for path in sorted(Path("run/checkpoints").glob("step-*"))] == [4, 6]


def test_its_run_goes_on_as_it_began_or_says_what_has_changed(version, capsys):
    shutil.rmtree("run/checkpoints/step-00000006")
    Path("run/checkpoints/latest").write_text("step-00000004\n")
    same: list[str] = []
    if BEFORE[version]:
        if version == "2026-11-23-8c7cb08":
            assert main(["train", "--config", "run/config.yaml"]) == WRONG_INPUT
            assert "or use `normalise` scale" in capsys.readouterr().err  # its store lacks histograms of norms
            same = ["--normalise", "scale"]
        assert main(["train", "--config", "run/config.yaml", *same]) == WRONG_INPUT
        error = capsys.readouterr().err.strip().splitlines()[-1]
        assert error.startswith("distsae: error: ")
        same += shlex.split(error.partition("or give ")[2])
        assert set(same[::2]) == {f"--{key}" for key in BEFORE[version]}
    assert main(["train", "--config", "run/config.yaml", *same]) == DONE
    assert json.loads(Path("run/metrics.jsonl").read_text().splitlines()[-1])["step"] == 6
    assert SAE.load("run").cfg.d_sae == 16
