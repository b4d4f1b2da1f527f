import numpy as np
import pytest
import torch
import zarr

from distsae.errors import TornData
from distsae.store import NormHistogram
from distsae.store.crc32c import crc32c
from distsae.store.layout import DTYPES
from distsae.store.writer import write_attempt
from tests.store.synthetic import attributes, plant_outliers, unit_data


@pytest.mark.parametrize("dtype", ["fp16", "bf16", "fp32"])
def test_zarr_python_reads_what_was_written(tmp_path, dtype):
    attrs = attributes(dtype=dtype)
    data = unit_data(attrs, 1)
    record = write_attempt(tmp_path, attrs, 1, "train", data)
    group = zarr.open_group(tmp_path / "data" / record.attempt, mode="r")
    for hook in attrs.hooks:
        array = group["act"][hook]
        assert array.attrs["logical_dtype"] == dtype
        assert array.chunks == (32, attrs.d_in[hook])
        stored = torch.from_numpy(array[:]).view(DTYPES[dtype].torch)
        torch.testing.assert_close(stored, data.acts[hook], rtol=0, atol=0)
    for name, values in data.rows.items():
        np.testing.assert_array_equal(group[name][:], values.numpy())
    np.testing.assert_array_equal(group["context_token_ids"][:], data.context_token_ids.numpy())
    own = dict(group.attrs["distsae"])
    assert (own["unit"], own["split"], own["seed"], own["model_digest"]) == (1, "train", 0, "m")


def test_record_names_every_file_with_its_crc(tmp_path):
    attrs = attributes()
    record = write_attempt(tmp_path, attrs, 0, "train", unit_data(attrs, 0))
    folder = tmp_path / "data" / record.attempt
    files = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert set(files) == set(record.files)
    for name, content in files.items():
        payload = content if name.endswith("zarr.json") else content[:-4]
        assert record.files[name] == (len(content), crc32c(payload)), name
    assert len({crc for name, (_, crc) in record.files.items() if name.startswith("act/a.b/c")}) > 1
    assert record.rows == 96
    assert "act/c/c/2/0" in record.files


def test_sums_are_those_of_the_stored_values(tmp_path):
    attrs = attributes(dtype="bf16")
    data = unit_data(attrs, 0)
    record = write_attempt(tmp_path, attrs, 0, "train", data)
    for hook in attrs.hooks:
        x = data.acts[hook].double()
        sums = record.sums[hook]
        np.testing.assert_allclose(sums.x, x.sum(0).numpy(), rtol=1e-12)
        assert sums.norm == pytest.approx(x.norm(dim=1).sum().item(), rel=1e-12)
        assert sums.norm_squared == pytest.approx(x.square().sum().item(), rel=1e-12)


def test_record_has_the_norms_of_every_row(tmp_path):
    attrs = attributes(dtype="fp16")
    data = unit_data(attrs, 0)
    plant_outliers(data)
    record = write_attempt(tmp_path, attrs, 0, "train", data)
    for hook in attrs.hooks:
        norms = record.sums[hook].norms
        assert norms == NormHistogram.of(data.acts[hook], data.rows["position"], data.rows["token_id"])
        assert norms.outliers
        assert sum(norms.norm_squared) == pytest.approx(record.sums[hook].norm_squared, rel=1e-12)


def test_digest_is_of_content_and_order(tmp_path):
    attrs = attributes()
    data = unit_data(attrs, 0)
    first = write_attempt(tmp_path, attrs, 0, "train", data)
    again = write_attempt(tmp_path, attrs, 0, "train", data)
    assert first.attempt != again.attempt
    assert first.digest == again.digest
    assert first.files == again.files
    data.acts["c"][[0, 1]] = data.acts["c"][[1, 0]]
    assert write_attempt(tmp_path, attrs, 0, "train", data).digest != first.digest


def test_files_lost_while_writing_are_noticed(tmp_path, monkeypatch):
    """`store collect` may remove files of a suspended producer; an attempt without them must not be committed."""
    import distsae.store.writer as writer

    attrs, whole = attributes(), writer._write_array

    def loses_one(group, name, *rest, **more):
        whole(group, name, *rest, **more)
        if name == "c":
            next(tmp_path.rglob("act/a.b/c/1/0")).unlink()

    monkeypatch.setattr(writer, "_write_array", loses_one)
    with pytest.raises(TornData, match="lost files"):
        write_attempt(tmp_path, attrs, 0, "train", unit_data(attrs, 0))
