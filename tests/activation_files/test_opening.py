"""Which files a path means, and in which order; the same rows whatever the kind of file."""

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import torch
from datasets import Dataset
from safetensors.torch import save_file

from distsae.activation_files import open_activations, read_ids
from distsae.errors import WrongInput
from distsae.store.row_source import as_source

ROWS = np.random.default_rng(0).standard_normal((60, 4)).astype("f4")
IDS = np.arange(60, dtype=np.int32)


def _npy(folder):
    for number, part in enumerate(np.split(ROWS, 12)):  # part-10 comes behind part-9
        np.save(folder / f"part-{number}.npy", part)


def _safetensors(folder):
    for number, part in enumerate(torch.from_numpy(ROWS).split(25)):
        save_file({"acts": part.clone(), "ids": torch.arange(len(part))}, folder / f"{number}.safetensors")


def _pt(folder):
    torch.save([*torch.from_numpy(ROWS).split(20)][:2], folder / "a.pt")
    torch.save({"x": torch.from_numpy(ROWS[40:].copy()), "n": torch.zeros(3).long()}, folder / "b.pt")


def _parquet(folder):
    for number, part in enumerate((slice(0, 33), slice(33, 60))):
        table = pyarrow.table({"acts": [*map(list, ROWS[part])], "token": IDS[part], "text": ["x"] * len(ROWS[part])})
        table = table.set_column(0, "acts", table["acts"].cast(pyarrow.list_(pyarrow.float32())))
        pyarrow.parquet.write_table(table, folder / f"{number}.parquet", row_group_size=7)


def _dataset(folder):
    Dataset.from_dict({"acts": ROWS, "token": IDS}).with_format("numpy").save_to_disk(folder / "d", num_shards=2)
    for file in (folder / "d").iterdir():
        file.rename(folder / file.name)
    (folder / "d").rmdir()


@pytest.mark.parametrize("write", [_npy, _safetensors, _pt, _parquet, _dataset])
def test_a_folder_of_any_kind_gives_its_rows_in_order(write, tmp_path):
    folder = tmp_path / "acts"
    folder.mkdir()
    write(folder)
    with as_source(open_activations([str(folder)]), tmp_path / "store") as source:
        found = source.take(np.arange(source.contexts))
    np.testing.assert_allclose(found[:, 0].float().numpy(), ROWS, rtol=1e-6)
    files = sorted(str(file) for file in folder.iterdir() if file.suffix in (".safetensors", ".pt"))
    if files:
        with as_source(open_activations(files[::-1]), tmp_path / "store") as source:
            assert not np.allclose(source.take(np.arange(20))[:, 0].numpy(), ROWS[:20])


@pytest.mark.parametrize("write", [_parquet, _dataset])
def test_ids_from_a_column(write, tmp_path):
    write(tmp_path)
    assert read_ids("token", "token_ids", [str(tmp_path)]).tolist() == IDS.tolist()
    with pytest.raises(WrongInput, match=r"`token_ids` \(=tokens\) must be a column of .*did you mean 'token'"):
        read_ids("tokens", "token_ids", [str(tmp_path)])


@pytest.mark.parametrize("dtype", [np.int32, np.uint16, np.int64])
def test_ids_from_files(dtype, tmp_path):
    np.save(tmp_path / "rows.npy", ROWS)
    np.save(tmp_path / "ids.npy", IDS.astype(dtype))
    torch.save(torch.from_numpy(IDS), tmp_path / "ids.pt")
    save_file({"ids": torch.from_numpy(IDS)}, tmp_path / "ids.safetensors")
    for name in ("ids.npy", "ids.pt", "ids.safetensors"):
        found = read_ids(str(tmp_path / name), "token_ids", [str(tmp_path / "rows.npy")])
        assert found.tolist() == IDS.tolist()


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        (["nowhere.npy"], r"`activations` \(=nowhere.npy\) must exist; got a path where nothing is"),
        (["notes.txt"], r"`activations` \(=notes.txt\) must end in one of .npy, .safetensors"),
        (["empty"], r"`activations` \(=empty\) must have files that end in .npy"),
        (["a.npy", "b.parquet"], "`activations` must be files of one kind; got .npy, .parquet"),
        (["s3://bucket/a.npy"], r"`activations` \(=s3://bucket/a.npy\) must be a path in a file system"),
        ([], "`activations` must be files of one kind; got none"),
        (["a.npy", "c.npy"], "the same length, width and dtype in all parts"),
    ],
)
def test_paths_without_activations(paths, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "empty").mkdir()
    np.save("a.npy", ROWS)
    np.save("c.npy", ROWS[:, :3])
    (tmp_path / "b.parquet").write_bytes(b"PAR1")
    with pytest.raises(WrongInput, match=message):
        open_activations(paths)


def test_a_key_for_files_without_names(tmp_path):
    np.save(tmp_path / "a.npy", ROWS)
    with pytest.raises(WrongInput, match=r"`key` \(=x\) must be left out for npy files"):
        open_activations([str(tmp_path / "a.npy")], "x")


def test_ids_that_are_none(tmp_path):
    np.save(tmp_path / "rows.npy", ROWS)
    rows = [str(tmp_path / "rows.npy")]
    with pytest.raises(WrongInput, match="must hold whole numbers; got float32"):
        read_ids(rows[0], "token_ids", rows)
    torch.save(torch.ones(3), tmp_path / "a.pt")
    with pytest.raises(WrongInput, match="must have one tensor of whole numbers; got 0"):
        read_ids(str(tmp_path / "a.pt"), "token_ids", rows)
