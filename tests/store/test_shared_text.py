"""Stores of the same text are not joined, however they were cut."""

import json
import random

import pytest

from distsae.cli.main import main
from distsae.errors import WrongInput
from distsae.producer import ProduceConfig, produce
from distsae.store import Store, merge_stores

WORDS = [f"{a}{b}{c}" for a in "bdfgklmnprstv" for b in "aeiou" for c in ("n", "st", "rd", "l")]


def _text(seed):
    draw = random.Random(seed)
    return " ".join(draw.choices(WORDS, k=draw.randint(30, 300)))


@pytest.fixture(scope="module")
def made(tiny_model_dir, tmp_path_factory):
    folder = tmp_path_factory.mktemp("texts")

    def make(name, texts, **settings):
        corpus = folder / f"{name}.jsonl"
        corpus.write_text("\n".join(json.dumps({"text": text}) for text in texts))
        options = {"context_length": 64, "unit_rows": 5000, "chunk_rows": 256, "heldout_share": 0.1, "device": "cpu"}
        out = folder / name
        produce(
            ProduceConfig(
                model=str(tiny_model_dir),
                corpus=str(corpus),
                hooks=("blocks.0.resid_post",),
                out=str(out),
                **{**options, **settings},
            )
        )
        return Store.open(out)

    return make


@pytest.fixture(scope="module")
def first(made):
    return made("first", map(_text, range(60)))


def test_other_documents_are_joined(made, first, tmp_path):
    other = made("other", map(_text, range(100, 160)))
    merged = merge_stores([first.path, other.path], tmp_path / "out")
    assert merged.attributes.heldout_by == "documents"
    assert merged.rows == first.rows + other.rows


@pytest.mark.parametrize(
    ("name", "texts", "settings"),
    [
        ("seed", range(60), {"seed": 1}),
        ("shifted", [999, *range(60)], {}),
        ("contexts", range(60), {"heldout_by": "contexts", "seed": 3}),
        ("part", [*range(200, 260), *range(10)], {}),
    ],
)
def test_the_same_documents_are_refused(made, first, tmp_path, name, texts, settings):
    other = made(name, map(_text, texts), **settings)
    with pytest.raises(WrongInput, match=r"must hold other text than .*(--max_common_text|name each text once)"):
        merge_stores([first.path, other.path], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_advice_works(made, first, tmp_path, capsys):
    other = made("again", [*map(_text, range(300, 340)), *map(_text, range(20))])
    command = ["store", "merge", str(first.path), str(other.path), "--out", str(tmp_path / "out")]
    assert main(command) == 2
    advised = capsys.readouterr().err.rpartition("--max_common_text ")[2].split()[0]
    assert 0 < float(advised) < 1
    while main([*command, "--max_common_text", advised]) == 2:  # another pair may have more in common
        now = capsys.readouterr().err.rpartition("--max_common_text ")[2].split()[0]
        assert float(now) > float(advised)
        advised = now
    assert Store.open(tmp_path / "out").rows == first.rows + other.rows


def test_one_store_holds_out_whole_documents(first):
    sides = [
        {n for unit in first.units if unit.split == split for n in first.read_ids(unit.index).document_id.tolist()}
        for split in ("train", "heldout")
    ]
    assert sides[1]
    assert not sides[0] & sides[1]
