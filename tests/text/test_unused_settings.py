import pytest
from datasets import Dataset, DatasetDict

from distsae.errors import WrongInput
from distsae.text.unused_settings import refuse_unused_settings


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "a.txt").write_text("words")
    return tmp_path


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"split": "validation"}, r"`split` \(=validation\) must belong to a data set with splits; got the local"),
        ({"subset": "en"}, r"`subset` \(=en\) must belong to a Hugging Face data set; got the local `corpus`"),
        ({"text_field": "body"}, r"`text_field` \(=body\) must belong to records with fields; got the local `corpus`"),
    ],
)
def test_settings_that_nothing_would_read(folder, setting, words):
    refuse_unused_settings(str(folder))
    refuse_unused_settings("some/data", **setting)
    with pytest.raises(WrongInput, match=f"^{words} .*; leave it out"):
        refuse_unused_settings(str(folder), **setting)


def test_settings_that_something_reads(folder):
    (folder / "b.jsonl").write_text('{"body": "words"}')
    refuse_unused_settings(str(folder), text_field="body")
    DatasetDict({"held": Dataset.from_dict({"text": ["a"]})}).save_to_disk(folder / "saved")
    refuse_unused_settings(str(folder), split="held")
