"""Own activations, from files to a trained SAE and its evaluation, as a user types the commands."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from distsae import SAE
from distsae.language_model import capture, load_language_model
from distsae.recipes import embedded_model

MODEL = embedded_model()


def _run(*words, code=0):
    done = subprocess.run([sys.executable, "-m", "distsae", *map(str, words)], capture_output=True, text=True)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def activations(tmp_path_factory):
    """The folder of activations of the embedded model at one hook, of random tokens, and of their ids."""
    folder = tmp_path_factory.mktemp("own")
    model = load_language_model(str(MODEL), device="cpu", dtype=torch.float32).model
    tokens = torch.randint(0, 200, (96, 32), generator=torch.Generator().manual_seed(0))
    acts = capture(model, ["blocks.2.resid_post"], tokens)["blocks.2.resid_post"]
    (folder / "acts").mkdir()
    for number, part in enumerate(acts.split(40)):
        np.save(folder / f"acts/{number}.npy", part.numpy())
    np.save(folder / "tokens.npy", tokens.numpy())
    return folder


def test_from_npy_files_to_an_evaluated_sae(activations, tmp_path):
    said = _run(
        *("store", "import", activations / "acts", "--token_ids", activations / "tokens.npy", "--out", tmp_path / "s"),
        *("--hook", "blocks.2.resid_post", "--heldout_share", 0.1, "--excluded_positions", 1),
    )
    assert "2,666 rows and 310 held-out ones of width" in said
    assert "whole" in _run("store", "verify", tmp_path / "s")
    train = ("train", "--store", tmp_path / "s", "--out", tmp_path / "r", "--steps", 30, "--batch_tokens", 512)
    _run(*train, "--sae.d_sae", 256, "--sae.k", 8, "--wandb", "off")
    sae = SAE.load(tmp_path / "r")
    assert sae.cfg.hook_name == "blocks.2.resid_post"
    evaluate = ("evaluate", tmp_path / "r", "--store", tmp_path / "s")
    assert "`model` must be given for" in _run(*evaluate, code=2)
    _run(*evaluate, "--model", MODEL, "--out", tmp_path / "e.json")
    figures = json.loads((tmp_path / "e.json").read_text())
    assert 0 < figures["fvu"] < 1
    assert np.isfinite(figures["ce_spliced"])


def test_activations_of_another_model_are_found_out(activations, tmp_path):
    np.save(tmp_path / "moved.npy", np.load(activations / "acts/0.npy") + 1)
    np.save(tmp_path / "tokens.npy", np.load(activations / "tokens.npy")[:40])
    _run(
        *("store", "import", tmp_path / "moved.npy", "--out", tmp_path / "s", "--hook", "blocks.2.resid_post"),
        *("--token_ids", tmp_path / "tokens.npy", "--heldout_share", 0.2),
    )
    train = ("train", "--store", tmp_path / "s", "--out", tmp_path / "r", "--steps", 2, "--batch_tokens", 64)
    _run(*train, "--sae.d_sae", 64, "--sae.k", 4, "--wandb", "off")
    said = _run("evaluate", tmp_path / "r", "--store", tmp_path / "s", "--model", MODEL, code=2)
    assert "`model` (=" in said.splitlines()[-1]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere.npy"], "`activations` (=nowhere.npy) must exist"),
        ([], "activations"),
        (["one.npy"], "`activations` must have at least 2 rows or contexts; got 1"),
        (["nan.npy"], "`activations` must be finite; got an infinity or NaN in row 0 of context 3"),
        (["whole.npy"], "must hold floating-point numbers; got 'int64'"),
        (["rows.npy", "--heldout_share", "0.9"], "`heldout_share` (=0.9) must be from 0 to 0.5"),
        (["rows.npy", "--token_ids", "rows.npy"], "`token_ids` (=rows.npy) must hold whole numbers"),
        (["rows.npy", "--token_ids", "one.npy"], "`token_ids`"),
        (["rows.npy", "--hook", "a/b"], "`hook` (='a/b') must be a plain name"),
        (["rows.npy", "--key", "x"], "`key` (=x) must be left out for npy files"),
    ],
)
def test_wrong_input_is_one_line_and_leaves_no_store(words, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("rows.npy", np.ones((9, 3), "f4"))
    np.save("one.npy", np.ones((1, 3), "f4"))
    np.save("whole.npy", np.ones((9, 3), int))
    rows = np.ones((9, 3), "f4")
    rows[3] = np.nan
    np.save("nan.npy", rows)
    said = _run("store", "import", *words, "--out", "s", code=2)
    assert message in said.splitlines()[-1]
    assert not (tmp_path / "s").exists()


def test_a_store_without_tokens_cannot_be_run_on(activations, tmp_path):
    out = ("--out", tmp_path / "s", "--hook", "blocks.2.resid_post", "--heldout_share", 0.1)
    _run("store", "import", activations / "acts", *out)
    train = ("train", "--store", tmp_path / "s", "--out", tmp_path / "r", "--steps", 2, "--batch_tokens", 64)
    _run(*train, "--sae.d_sae", 64, "--sae.k", 4, "--wandb", "off")
    said = _run("evaluate", tmp_path / "r", "--store", tmp_path / "s", "--model", MODEL, code=2)
    assert "must have the tokens of its contexts" in said.splitlines()[-1]
    said = _run("features", tmp_path / "r", "--store", tmp_path / "s")
    assert "tokens are shown by their ids" in said
    assert (tmp_path / "r/features/index.html").exists()


def test_tokens_that_the_model_has_no_embedding_for(activations, tmp_path):
    np.save(tmp_path / "tokens.npy", np.load(activations / "tokens.npy") + 10**6)
    out = ("--out", tmp_path / "s", "--hook", "blocks.2.resid_post", "--token_ids", tmp_path / "tokens.npy")
    _run("store", "import", activations / "acts", *out)
    train = ("train", "--store", tmp_path / "s", "--out", tmp_path / "r", "--steps", 2, "--batch_tokens", 64)
    _run(*train, "--sae.d_sae", 64, "--sae.k", 4, "--wandb", "off")
    said = _run("evaluate", tmp_path / "r", "--store", tmp_path / "s", "--model", MODEL, code=2)
    assert "must have an embedding for every token of the store" in said.splitlines()[-1]
