import gzip
import json

import pyarrow
import pytest
from datasets import Dataset, DatasetDict, load_from_disk

from distsae.errors import WrongInput
from distsae.text import corpus_files, documents, open_corpus

TEXTS = [f"tale {number}" for number in range(50)]


def test_a_folder_of_all_kinds_is_read_by_name(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "d.txt").write_text("four\nlines")
    (tmp_path / "a.jsonl").write_text('{"text": "one"}')
    with gzip.open(tmp_path / "b.jsonl.gz", "wt") as file:
        file.write('{"text": "two"}\n')
    Dataset.from_dict({"text": ["three", "three and a half"]}).to_parquet(tmp_path / "c.parquet")
    (tmp_path / "README.md").write_text("not a text of the corpus")
    Dataset.from_dict({"text": ["five", "six"]}).save_to_disk(tmp_path / "sub" / "e")
    (tmp_path / "sub.more").mkdir()  # after sub: the names of folders are compared first
    (tmp_path / "sub.more" / "a.txt.zst").write_bytes(pyarrow.compress(b"seven", codec="zstd", asbytes=True))
    (tmp_path / "t.txt").touch()
    (tmp_path / "u.jsonl").touch()
    (tmp_path / "v.txt.gz").write_bytes(gzip.compress(b"nine"))
    corpus = open_corpus(str(tmp_path))
    assert list(corpus.documents) == [
        "one", "two", "three", "three and a half", "four\nlines", "five", "six", "seven", "", "nine"
    ]  # fmt: skip
    assert corpus.commit is None


def test_a_link_to_a_folder_above_is_not_followed(tmp_path):
    (tmp_path / "a.txt").write_text("one")
    (tmp_path / "again").symlink_to(tmp_path)
    (tmp_path / "b.txt").symlink_to("a.txt")
    assert list(documents(str(tmp_path))) == ["one", "one"]
    (tmp_path / "again").unlink()
    assert list(documents(str(_link(tmp_path)))) == ["one", "one"]


def _link(path):
    link = path.with_name(path.name + "-link")
    link.symlink_to(path)
    return link


def test_caches_in_the_folder_of_a_saved_data_set_are_not_read(tmp_path):
    saved = tmp_path / "saved"
    Dataset.from_dict({"text": TEXTS, "n": list(range(50))}).shuffle(seed=0).save_to_disk(saved, num_shards=12)
    found = load_from_disk(saved)
    assert list(found["text"]) != TEXTS
    found.map(lambda row: {"text": row["text"].upper()}, load_from_cache_file=False)
    assert any(file.name.startswith("cache-") for file in saved.iterdir())
    assert list(documents(str(saved))) == list(found["text"])
    assert [file.name for file in corpus_files(saved)] == [f"data-{index:05d}-of-00012.arrow" for index in range(12)]
    assert list(documents(str(next(saved.glob("data-00000-*"))))) == list(found["text"])[:5]


def test_a_split_of_a_saved_dict_is_read(tmp_path):
    splits = {"train": TEXTS, "validation": ["checked"]}
    DatasetDict({name: Dataset.from_dict({"text": texts}) for name, texts in splits.items()}).save_to_disk(tmp_path)
    assert list(documents(str(tmp_path))) == TEXTS
    assert list(documents(str(tmp_path), split="validation")) == ["checked"]
    with pytest.raises(WrongInput, match=r"`split` \(=valid\).*train, validation; did you mean 'validation'\?"):
        documents(str(tmp_path), split="valid")
    assert list(documents(str(tmp_path / "validation"), split="train")) == ["checked"]  # a single split has no splits


def test_a_saved_data_set_with_files_missing_is_refused(tmp_path):
    Dataset.from_dict({"text": TEXTS}).save_to_disk(tmp_path, num_shards=3)
    (tmp_path / "data-00001-of-00003.arrow").unlink()
    with pytest.raises(WrongInput, match=r"data-00001-of-00003\.arrow is missing"):
        documents(str(tmp_path))
    (tmp_path / "state.json").write_text("{}")
    with pytest.raises(WrongInput, match=r"state\.json must be as save_to_disk wrote it"):
        documents(str(tmp_path))


def test_other_columns_are_not_decoded(tmp_path):
    """Even if only the `datasets` library could decode them."""
    from datasets import Features, Image, Value

    rows = Dataset.from_dict(
        {"image": [{"bytes": b"no image", "path": None}], "body": ["text"]},
        Features({"image": Image(), "body": Value("string")}),
    )
    rows.save_to_disk(tmp_path / "saved")
    rows.to_parquet(tmp_path / "z.parquet")
    assert list(documents(str(tmp_path), text_field="body")) == ["text", "text"]
    with pytest.raises(WrongInput, match=r"\['image', 'body'\] in .*arrow"):
        list(documents(str(tmp_path)))


def test_missing_path_is_refused_before_reading(tmp_path):
    with pytest.raises(WrongInput, match="nothing"):
        documents(str(tmp_path / "missing.jsonl"))
    with pytest.raises(WrongInput, match="got none"):
        documents(str(tmp_path))


def test_a_missing_field_is_reported_with_line_and_fields(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"text": "x"}) + "\n" + json.dumps({"texts": "y"}))
    with pytest.raises(WrongInput, match=r"a\.jsonl, line 2; did you mean 'texts'\?"):
        list(documents(str(path)))
    path.write_text("[1, 2]")
    with pytest.raises(WrongInput, match="a list"):
        list(documents(str(path)))


def test_local_files_have_no_revision(tmp_path):
    (tmp_path / "a.txt").write_text("one")
    with pytest.raises(WrongInput, match=r"^`corpus_revision` \(=main\)"):
        documents(str(tmp_path), revision="main")


def test_a_hub_name_is_looked_up(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(WrongInput, match="Couldn't reach 'some/dataset'"):
        documents("some/dataset")
    (tmp_path / "some" / "dataset").mkdir(parents=True)
    (tmp_path / "some" / "dataset" / "a.txt").write_text("here")
    assert list(documents("some/dataset")) == ["here"]  # an existing path is not looked up
