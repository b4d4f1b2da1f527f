import numpy as np
import pytest

from distsae.producer.growing_array import GrowingArray


@pytest.mark.parametrize("parts", [[], [0], [3, 0, 4], [1] * 11 + [12_000]])
def test_the_file_has_the_bytes_that_numpy_writes(tmp_path, parts):
    rows = [np.random.default_rng(0).integers(0, 1 << 30, (part, 5), dtype=np.int32) for part in parts]
    with GrowingArray(tmp_path / "grown.npy", 5) as array:
        for part in rows:
            array.append(part)
    np.save(tmp_path / "whole.npy", np.concatenate([np.empty((0, 5), np.int32), *rows]))
    assert array.rows == sum(parts)
    assert (tmp_path / "grown.npy").read_bytes() == (tmp_path / "whole.npy").read_bytes()


def test_rows_of_another_dtype_or_shape_are_refused(tmp_path):
    with GrowingArray(tmp_path / "a.npy", 5) as array:
        array.append(np.zeros((4, 10), np.int32)[:, ::2])  # not contiguous
        for wrong in (np.zeros((2, 5), np.int64), np.zeros((2, 4), np.int32), np.zeros(5, np.int32)):
            with pytest.raises(ValueError, match=r"int32 \[m, 5\]"):
                array.append(wrong)
    assert np.load(tmp_path / "a.npy").shape == (4, 5)


def test_the_header_of_an_unfinished_file_states_no_rows(tmp_path):
    def write_some():
        with GrowingArray(tmp_path / "a.npy", 5) as array:
            array.append(np.ones((3, 5), np.int32))
            raise RuntimeError("midway")

    with pytest.raises(RuntimeError, match="midway"):
        write_some()
    assert np.load(tmp_path / "a.npy").shape == (0, 5)
