"""Data sets by name, as the real library finds them in its cache; there is no network."""

import io
import sys
from dataclasses import replace

import pytest

from distsae.errors import WrongInput
from distsae.producer import ProduceConfig, produce
from distsae.store import Store
from distsae.text.hub_corpus import open_hub_corpus

NAME, COMMIT = "someone/tales", "0123456789abcdef0123456789abcdef01234567"
TRAIN = [f"tale {number}" for number in range(2500)]


def _open(name=NAME, **changes):
    given = {"text_field": "text", "split": "train", "subset": None, "revision": None, "streaming": True}
    return open_hub_corpus(name, **{**given, **changes})


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """A folder as it would be uploaded: two splits of Parquet files, with a column that is no text."""
    from datasets import Dataset

    folder = tmp_path_factory.mktemp("tales")
    for split, texts in (("train", TRAIN), ("test", ["a test"])):
        rows = Dataset.from_dict({"text": texts, "number": list(range(len(texts)))})
        rows.to_parquet(folder / "data" / f"{split}-00000-of-00001.parquet")
    return folder


@pytest.fixture
def cache(repository, tmp_path, monkeypatch):
    """The library's cache after `repository` was downloaded as NAME at COMMIT."""
    import datasets
    from datasets.packaged_modules.parquet.parquet import Parquet

    files = {split: [str(repository / "data" / f"{split}-00000-of-00001.parquet")] for split in ("train", "test")}
    Parquet(cache_dir=str(tmp_path / "made"), dataset_name="tales", data_files=files).download_and_prepare()
    (made,) = tmp_path.glob("made/**/dataset_info.json")
    folder = tmp_path / "cache" / NAME.replace("/", "___") / "default" / "0.0.0" / COMMIT
    folder.parent.mkdir(parents=True)
    made.parent.rename(folder)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    return tmp_path


@pytest.mark.parametrize("streaming", [True, False])
def test_texts_in_order_and_the_commit(cache, streaming):
    texts, commit = _open(streaming=streaming)
    assert commit == COMMIT
    assert list(texts) == TRAIN
    assert list(_open(split="test", streaming=streaming)[0]) == ["a test"]
    assert next(_open(revision=COMMIT, subset="default", streaming=streaming)[0]) == "tale 0"


def test_another_revision_than_the_cached_one_is_refused(cache):
    for revision in ("main", "f" * 40):
        with pytest.raises(WrongInput, match=rf"^`corpus_revision` \(={revision}\).*{COMMIT}"):
            _open(revision=revision)


@pytest.mark.parametrize("streaming", [True, False])
def test_a_repository_of_files(repository, tmp_path, monkeypatch, streaming, capfd):
    """The folder itself as a data set: streamed from its files, or first converted to Arrow files in the cache."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)
    texts, commit = _open(str(repository), streaming=streaming)
    assert commit is None  # the library's hash is that of the files
    assert not any(tmp_path.rglob("*.arrow"))  # nothing is read before the first document is requested
    assert list(texts) == TRAIN
    assert any(tmp_path.rglob("*.arrow")) is not streaming
    assert "%" not in capfd.readouterr().err


def test_the_librarys_bars_are_shown_on_a_terminal_of_the_main_process_only(repository, tmp_path, monkeypatch):
    import datasets

    class Terminal(io.StringIO):
        def isatty(self):
            return True

    def shown(cache):
        monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / cache)
        monkeypatch.setattr(sys, "stderr", terminal := Terminal())
        next(_open(str(repository), streaming=False)[0])
        return terminal.getvalue()

    assert "Generating train split" in shown("first")
    monkeypatch.setenv("RANK", "1")
    assert shown("second") == ""
    assert not datasets.utils.are_progress_bars_disabled()


@pytest.mark.parametrize("streaming", [True, False])
def test_what_is_missing_is_named(cache, repository, streaming):
    with pytest.raises(WrongInput, match=r"split 'dev'; got ValueError: .*'train', 'test'"):
        next(_open(split="dev", streaming=streaming)[0])
    with pytest.raises(WrongInput, match=r"got ValueError: .*'french'.*\['default'\]"):
        _open(subset="french", streaming=streaming)
    with pytest.raises(WrongInput, match=r"did you mean 'text'\?"):
        next(_open(text_field="texts", streaming=streaming)[0])
    with pytest.raises(WrongInput, match=r"a int in someone/tales, record 0"):
        next(_open(text_field="number", streaming=streaming)[0])


@pytest.mark.parametrize("revision", [None, COMMIT])
def test_the_store_records_the_commit(cache, tmp_path, tiny_model_dir, capsys, revision):
    config = ProduceConfig(
        model=str(tiny_model_dir),
        corpus=NAME,
        corpus_revision=revision,
        hooks=("blocks.0.resid_post",),
        out=str(tmp_path / "store"),
        context_length=16,
        max_rows=600,
        device="cpu",
    )
    produce(config)
    assert Store.open(config.out).attributes.corpus == f"{NAME}@{COMMIT}"
    produce(replace(config, streaming=False))  # the same text
    assert "nothing to do" in capsys.readouterr().err


@pytest.mark.parametrize("streaming", [True, False])
def test_a_name_that_cannot_be_reached_is_refused(streaming):
    with pytest.raises(WrongInput, match=r"`corpus` \(=no/body\) .* ConnectionError: .*no/body.*; check the name"):
        _open("no/body", streaming=streaming)
