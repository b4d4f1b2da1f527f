from dataclasses import replace

import pytest
from datasets import Dataset, DatasetDict

from distsae.errors import WrongInput
from distsae.producer import ProduceConfig
from distsae.producer.local_inputs import refuse_unused


@pytest.fixture
def config(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").write_text("words")
    return ProduceConfig(model=str(tmp_path / "model"), corpus=str(tmp_path / "texts"), hooks=("h",), out="o")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"revision": "main"}, r"`revision` \(=main\) must belong to a Hugging Face model; got the local `model`"),
        ({"split": "validation"}, r"`split` \(=validation\) must belong to a data set with splits; got the local"),
        ({"subset": "en"}, r"`subset` \(=en\) must belong to a Hugging Face data set; got the local `corpus`"),
        ({"text_field": "body"}, r"`text_field` \(=body\) must belong to records with fields; got the local `corpus`"),
    ],
)
def test_settings_that_nothing_would_read(config, changes, words):
    refuse_unused(config)
    with pytest.raises(WrongInput, match=f"^{words} .*; leave it out"):
        refuse_unused(replace(config, **changes))


def test_settings_that_something_reads(config, tmp_path):
    (tmp_path / "texts" / "b.jsonl").write_text('{"body": "words"}')
    refuse_unused(replace(config, text_field="body"))
    refuse_unused(replace(config, model="gpt2", revision="main"))
    refuse_unused(replace(config, corpus="some/data", split="test", subset="en"))
    DatasetDict({"held": Dataset.from_dict({"text": ["a"]})}).save_to_disk(tmp_path / "texts" / "saved")
    refuse_unused(replace(config, split="held"))
