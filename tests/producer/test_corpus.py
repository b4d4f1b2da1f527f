import gzip
import json

import pytest

from distsae.errors import WrongInput
from distsae.producer import documents


def test_jsonl_in_order_blank_lines_skipped(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "one"}\n\n{"text": "", "n": 1}\n{"text": "drei ä"}\n', encoding="utf-8")
    assert list(documents(str(path))) == ["one", "", "drei ä"]


def test_folder_of_all_kinds_by_name(tmp_path):
    from datasets import Dataset

    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "d.txt").write_text("four\nlines")
    (tmp_path / "a.jsonl").write_text('{"text": "one"}')
    with gzip.open(tmp_path / "b.jsonl.gz", "wt") as file:
        file.write('{"text": "two"}\n')
    Dataset.from_dict({"text": ["three", "three and a half"]}).to_parquet(tmp_path / "c.parquet")
    (tmp_path / "README.md").write_text("not text for us")
    assert list(documents(str(tmp_path))) == ["one", "two", "three", "three and a half", "four\nlines"]


def test_missing_path_is_refused_before_reading(tmp_path):
    with pytest.raises(WrongInput, match="nothing"):
        documents(str(tmp_path / "missing.jsonl"))
    with pytest.raises(WrongInput, match="got none"):
        documents(str(tmp_path))


def test_missing_field_names_the_line_and_what_is_there(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"text": "x"}) + "\n" + json.dumps({"texts": "y"}))
    with pytest.raises(WrongInput, match=r"a\.jsonl, line 2; did you mean 'texts'\?"):
        list(documents(str(path)))
    path.write_text("[1, 2]")
    with pytest.raises(WrongInput, match="a list"):
        list(documents(str(path)))


@pytest.mark.parametrize("content", [b'{"text": "a"', b"\xff\xfe"])
def test_what_is_no_text_is_named(tmp_path, content):
    path = tmp_path / "a.jsonl"
    path.write_bytes(content)
    with pytest.raises(WrongInput, match=r"a\.jsonl"):
        list(documents(str(path)))


def test_hub_name_that_cannot_be_reached(monkeypatch):
    import datasets

    def unreachable(*args, **kwargs):
        raise ConnectionError("no network\nsecond line")

    monkeypatch.setattr(datasets, "load_dataset", unreachable)
    with pytest.raises(WrongInput, match="ConnectionError: no network; do check"):
        documents("some/dataset")
