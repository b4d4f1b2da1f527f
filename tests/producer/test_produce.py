"""The right rows, the same store from any number of processes, and nothing lost when a process is killed."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from distsae.errors import WrongInput
from distsae.language_model import load_language_model
from distsae.producer import ProduceConfig, produce
from distsae.store import Claims, Store, collect_orphans, verify_store
from distsae.text import Contexts, documents, pack

HOOKS = ("blocks.0.mlp_hidden", "blocks.1.resid_pre")


@pytest.fixture(scope="module")
def config(tiny_model_dir, tiny_corpus, tmp_path_factory):
    return ProduceConfig(
        model=str(tiny_model_dir),
        corpus=str(tiny_corpus),
        hooks=HOOKS,
        out=str(tmp_path_factory.mktemp("stores") / "alone"),
        context_length=32,
        max_rows=9000,
        unit_rows=700,
        chunk_rows=256,
        batch_contexts=8,
        dtype="fp32",
        device="cpu",
    )


@pytest.fixture(scope="module")
def store(config):
    produce(config)
    return Store.open(config.out)


def _start(config, **environment):
    script = (
        "import sys\nfrom distsae.producer import ProduceConfig, produce\nproduce(ProduceConfig(**eval(sys.argv[1])))"
    )
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("RANK", "WORLD", "SLURM"))}
    return subprocess.Popen(
        [sys.executable, "-c", script, repr(config.__dict__)],
        env={**clean, "OMP_NUM_THREADS": "1", **environment},
        stderr=subprocess.PIPE,
        text=True,
    )


def _documents_of(store, split):
    units = [unit.index for unit in store.units if unit.split == split]
    return {number for unit in units for number in store.read_ids(unit).document_id.tolist()}


def test_rows_are_the_models_activations(store, config):
    """Compares every stored row with a plain forward pass of transformers over its context."""
    language_model = load_language_model(config.model)
    held_out = _documents_of(store, "heldout")
    assert held_out
    assert not held_out & _documents_of(store, "train")  # no text is on both sides
    texts = list(documents(config.corpus))
    sides = (
        ["" if n in held_out else text for n, text in enumerate(texts)],
        [text if n in held_out else "" for n, text in enumerate(texts)],
    )
    packed = [pack(side, language_model.tokenizer, 32, count) for side, count in zip(sides, (284, 6), strict=True)]
    contexts = Contexts(
        token_ids=torch.cat([part.token_ids for part in packed]),
        document_id=torch.cat([part.document_id for part in packed]),
    )
    with torch.inference_mode():
        plain = language_model.model(input_ids=contexts.token_ids.long(), output_hidden_states=True).hidden_states[1]
    seen = set()
    for split in ("train", "heldout"):
        for chunk in store.chunks(split):
            ids = store.read_ids(chunk.unit)
            part = slice(chunk.index * 256, chunk.index * 256 + chunk.rows)
            context_id, position = ids.context_id[part], ids.position[part]
            acts = store.read_chunk("blocks.1.resid_pre", chunk)
            torch.testing.assert_close(acts, plain[context_id, position], rtol=1e-4, atol=1e-5)
            assert (ids.token_id[part] == contexts.token_ids[context_id, position]).all()
            assert (ids.document_id[part] == contexts.document_id[context_id, position]).all()
            seen.update(zip(context_id.tolist(), position.tolist(), strict=True))
    assert seen == {(context, position) for context in range(290) for position in range(1, 32)}
    assert len(seen) == store.rows + store.heldout_rows == 290 * 31


def test_what_is_sealed(store, config):
    attributes = store.attributes
    assert attributes.hooks == HOOKS
    assert (store.d_in(HOOKS[0]), store.d_in(HOOKS[1])) == (128, 32)
    assert attributes.heldout_contexts == 6
    assert len(store.units) == 14  # 284 train contexts in units of at most 22, and one held-out unit
    assert store.heldout_contexts().shape == (6, 32)
    assert verify_store(store) == []
    assert collect_orphans(store.path) == (0, 0, 0)
    assert list((store.path / "claims").iterdir()) == []


def test_says_where_a_few_rows_carry_the_variance(store, config, tmp_path, capsys):
    """A model whose second position has an embedding far from all others, as real language models do."""
    model = load_language_model(config.model)
    with torch.no_grad():
        model.model.transformer.wpe.weight[1] *= 10_000
    model.model.save_pretrained(tmp_path / "model")
    model.tokenizer.save_pretrained(tmp_path / "model")
    hooks = ("blocks.1.resid_pre", "blocks.1.attn_out")
    produce(replace(config, model=str(tmp_path / "model"), hooks=hooks, out=str(tmp_path / "s")))
    said = capsys.readouterr().err.strip().splitlines()
    norms = Store.open(tmp_path / "s").norms(hooks[0])
    rows = norms.rows_over(norms.limit(10))
    assert rows > 200
    (line,) = [line for line in said if line.startswith("blocks.")]
    assert line.startswith(f"blocks.1.resid_pre: {rows} rows (3.2%) have norms over 10 times the median (")
    assert "all of them at position 1; training leaves such rows out (max_norm_ratio)" in line


def test_a_finished_job_does_nothing(store, config, capsys):
    before = sorted((path, path.stat().st_mtime_ns) for path in store.path.rglob("*.json"))
    produce(config)
    assert "nothing to do" in capsys.readouterr().err
    assert sorted((path, path.stat().st_mtime_ns) for path in store.path.rglob("*.json")) == before


@pytest.mark.parametrize("ranked", [True, False], ids=["three ranks", "two without a launcher"])
def test_any_number_of_processes_makes_the_same_store(store, config, tmp_path, ranked):
    shared = replace(config, out=str(tmp_path / "shared"))
    count = 3 if ranked else 2
    producers = [
        _start(shared, **({"RANK": str(rank), "WORLD_SIZE": str(count)} if ranked else {})) for rank in range(count)
    ]
    errors = [process.communicate()[1] for process in producers]
    assert [process.returncode for process in producers] == [0] * count, errors
    again = Store.open(shared.out)
    assert again.content_digest == store.content_digest
    assert (again.path / "dataset.json").read_bytes() == (store.path / "dataset.json").read_bytes()
    if ranked:
        assert "is finished" in errors[0]  # whether or not the other ranks have left it a unit
        assert errors[1] == errors[2] == ""


def test_killed_at_any_instruction_and_run_again(store, config, tmp_path):
    shared = replace(config, out=str(tmp_path / "shared"))
    commits = tmp_path / "shared" / "commits"
    with Claims(tmp_path / "shared" / "claims") as claims:
        assert claims.take("unit-000013")  # held until the kill, so that the store cannot be finished before
        process = _start(shared)
        while not (commits.is_dir() and any(commits.glob("unit-*.json"))):
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert not (tmp_path / "shared" / "dataset.json").exists()
    with pytest.raises(WrongInput, match="of 14 units"):
        Store.open(shared.out)
    kept = {path: path.stat().st_mtime_ns for path in commits.glob("unit-*.json")}
    produce(shared)
    again = Store.open(shared.out)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept  # only missing units were produced
    assert again.content_digest == store.content_digest
    assert verify_store(again) == []


@pytest.mark.heavy
def test_three_producers_under_many_kills(store, config, tmp_path):
    shared = replace(config, out=str(tmp_path / "shared"))
    generator = torch.Generator().manual_seed(0)
    for _ in range(8):
        producers = [_start(shared) for _ in range(3)]
        for process in producers:
            time.sleep(4 * float(torch.rand(1, generator=generator)))
            process.send_signal(signal.SIGKILL)
        for process in producers:
            process.communicate()
    produce(shared)
    collect_orphans(tmp_path / "shared")
    again = Store.open(shared.out)
    assert again.content_digest == store.content_digest
    assert verify_store(again) == []
    attempts = list((tmp_path / "shared" / "data").glob("*/*"))
    assert len(attempts) == len(again.units)


def test_other_settings_for_an_existing_store_are_refused_and_both_values_shown(store, config):
    with pytest.raises(WrongInput, match="seed 1 now and 0 in the store"):
        produce(replace(config, seed=1))
    with pytest.raises(WrongInput, match=r"hooks \('blocks.0.resid_post',\) now and"):
        produce(replace(config, hooks=("blocks.0.resid_post",)))
    with pytest.raises(WrongInput, match="contexts 258 now and 290 in the store"):
        produce(replace(config, max_rows=8000))


def test_other_text_is_another_corpus(store, config, tmp_path):
    moved = tmp_path / "moved.jsonl"
    text = Path(config.corpus).read_text(encoding="utf-8")
    moved.write_text(text, encoding="utf-8")
    produce(replace(config, corpus=str(moved)))  # the same text elsewhere is the same corpus
    moved.write_text(text.replace("river", "mountain"), encoding="utf-8")
    with pytest.raises(WrongInput, match="corpus_fingerprint"):
        produce(replace(config, corpus=str(moved)))


def test_wrong_input_leaves_nothing_behind(config, tmp_path):
    out = tmp_path / "store"
    for change, message in (
        ({"model": str(tmp_path / "missing")}, "`model`"),
        ({"corpus": str(tmp_path / "missing.jsonl")}, "`corpus`"),
        ({"hooks": ("blocks.9.resid_post",)}, r"blocks\.0\.\.1\.resid_post"),
        ({"context_length": 128}, "64 positions"),
        ({"device": "cuda:77"}, "`device`"),
    ):
        with pytest.raises(WrongInput, match=message):
            produce(replace(config, out=str(out), **change))
        assert not out.exists()


def test_fewer_rows_than_were_asked_for_are_said(config, tmp_path, capsys):
    short = replace(config, out=str(tmp_path / "store"), max_rows=10**9, unit_rows=10_000)
    produce(short)
    store = Store.open(short.out)
    rows = store.rows + store.heldout_rows
    words = f"{rows:,} rows, not the 1,000,000,000 of `max_rows`: that is all of the corpus"
    lines = capsys.readouterr().err.splitlines()
    assert f"{short.out} will have {words}" in lines
    assert f"{short.out} has {words}" in lines
    produce(replace(config, out=str(tmp_path / "another"), max_rows=1000))
    assert "max_rows" not in capsys.readouterr().err


def test_settings_that_a_local_path_does_not_have_are_refused_first(config, tmp_path):
    with pytest.raises(WrongInput, match=r"`revision` \(=v1\) must belong to a Hugging Face model"):
        produce(replace(config, out=str(tmp_path / "store"), revision="v1"))
    assert not (tmp_path / "store").exists()


def test_activations_too_small_for_fp16_stop_before_the_store_is_begun(config, tmp_path):
    from transformers import AutoTokenizer, GPT2LMHeadModel

    model = GPT2LMHeadModel.from_pretrained(config.model)
    with torch.no_grad():
        model.transformer.h[0].mlp.c_proj.weight *= 1e-8
        model.transformer.h[0].mlp.c_proj.bias.zero_()
    model.save_pretrained(tmp_path / "quiet")
    AutoTokenizer.from_pretrained(config.model).save_pretrained(tmp_path / "quiet")
    quiet = replace(
        config, model=str(tmp_path / "quiet"), hooks=("blocks.0.mlp_out",), out=str(tmp_path / "store"), max_rows=500
    )
    with pytest.raises(WrongInput, match=r"of the variance at blocks.0.mlp_out lost to rounding, .*; use --dtype bf16"):
        produce(replace(quiet, dtype="fp16"))
    with pytest.raises(WrongInput, match="distsae produce"):
        Store.open(quiet.out)
    produce(replace(quiet, dtype="bf16"))


def test_activations_too_large_for_fp16_stop_before_the_store_is_begun(config, tmp_path):
    from transformers import AutoTokenizer, GPT2LMHeadModel

    model = GPT2LMHeadModel.from_pretrained(config.model)
    with torch.no_grad():
        model.transformer.wte.weight[:, 5] *= 1e6
    model.save_pretrained(tmp_path / "loud")
    AutoTokenizer.from_pretrained(config.model).save_pretrained(tmp_path / "loud")
    loud = replace(config, model=str(tmp_path / "loud"), hooks=HOOKS[1:], out=str(tmp_path / "store"), max_rows=500)
    with pytest.raises(WrongInput, match=r"[23]\...e-02 of the values at blocks.1.resid_pre .* --dtype bf16"):
        produce(replace(loud, dtype="fp16"))
    produce(replace(loud, dtype="bf16"))
    assert Store.open(loud.out).read_chunk(HOOKS[1], Store.open(loud.out).chunks()[0]).dtype == torch.bfloat16
