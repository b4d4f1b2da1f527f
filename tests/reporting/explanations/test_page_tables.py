import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from distsae.errors import TornData, WrongInput
from distsae.reporting.explanations.page_tables import PageTables, pages_folder
from tests.reporting.explanations.samples import feature_page, own_pages, shown_context, write_pages


def test_reads_the_features_that_are_wanted(tmp_path):
    tables = PageTables(write_pages(tmp_path, [feature_page(f, nearest=((f + 1, 0.5),)) for f in range(20)]))
    assert tables.feature.tolist() == list(range(20))
    assert tables.files == 3
    found = list(tables.read([17, 3, 9]))
    assert [own.feature for own in found] == [3, 9, 17]
    for own in found:
        assert own.related == {own.feature + 1}
        assert own.density == 18 / 100_000
        assert [window.context_id for window in own.top] == [own.feature * 100 + n for n in range(12)]
        assert own.top[4].tokens[4] == f" word{own.feature}"
        assert own.sampled[0].activations == shown_context(own.feature, 9).acts


def test_which_folder_is_meant(tmp_path):
    pages = own_pages(tmp_path / "run" / "features", 2)
    assert pages_folder(str(tmp_path / "run")) == pages_folder(str(pages)) == pages
    with pytest.raises(WrongInput, match="must be a run with finished feature pages"):
        pages_folder(str(tmp_path))
    for path in (pages / "parquet").iterdir():
        path.unlink()
    with pytest.raises(WrongInput, match="must have feature pages with Parquet files"):
        pages_folder(str(pages))


def test_pages_of_ids_are_refused(tmp_path):
    with pytest.raises(WrongInput, match="must have pages that show the text of tokens"):
        PageTables(write_pages(tmp_path, [feature_page(0)], with_tokenizer=False))


def test_the_digest_is_that_of_the_settings(tmp_path):
    made = [own_pages(tmp_path / "a", 1), own_pages(tmp_path / "b", 2), write_pages(tmp_path / "c", [], sae="d2")]
    (made[2] / "parquet").mkdir()
    digests = [PageTables(folder).digest for folder in made[:2]]
    assert digests[0] == digests[1]
    write_pages(tmp_path / "d", [feature_page(0)], sae="d2")
    assert PageTables(tmp_path / "d").digest != digests[0]


@pytest.mark.parametrize(
    "change",
    [
        lambda path: path.write_bytes(path.read_bytes()[:-9]),
        lambda path: path.write_bytes(b"PAR1" + bytes(40)),
        lambda path: path.write_bytes(b""),
        lambda path: pq.write_table(pq.read_table(path).drop_columns(["sampled_contexts"]), path),
        lambda path: pq.write_table(pq.read_table(path).drop_columns(["density"]), path),
        lambda path: pq.write_table(pa.table({"feature": ["a"], "density": [0.1]}), path),
        lambda path: _with(path, "feature", 5),
        lambda path: _with(path, "density", None),
        lambda path: _with(path, "top_contexts", None),
        lambda path: _with(path, "top_contexts", [None]),
        lambda path: _with_context(path, activations=[1.0]),
        lambda path: _with_context(path, activations=[0.0] * 9),
        lambda path: _with_context(path, activations=[float("inf")] * 9),
        lambda path: _with_context(path, tokens=[None] * 9),
        lambda path: _with_context(path, context_id=None),
    ],
)
def test_damaged_files_are_named(tmp_path, change):
    folder = own_pages(tmp_path, 1)
    change(folder / "parquet" / "features-000000.parquet")
    with pytest.raises(TornData, match="parquet") as error:
        list(PageTables(folder).read([0]))
    assert "\n" not in str(error.value)


def _with(path, name, value):
    table = pq.read_table(path)
    (row,) = table.to_pylist()
    pq.write_table(pa.Table.from_pylist([row | {name: value}], schema=table.schema), path)


def _with_context(path, **changes):
    (row,) = pq.read_table(path).to_pylist()
    _with(path, "top_contexts", [row["top_contexts"][0] | changes])


def test_a_pipe_is_not_read(tmp_path):
    import os

    folder = own_pages(tmp_path, 1)
    (folder / "parquet" / "features-000000.parquet").unlink()
    os.mkfifo(folder / "parquet" / "features-000000.parquet")
    with pytest.raises(TornData, match="not a regular file"):
        PageTables(folder)
