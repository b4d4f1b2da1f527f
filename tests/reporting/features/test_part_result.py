import numpy as np
import pytest

from distsae.errors import TornData
from distsae.reporting.features.firing_contexts import FiringContexts
from distsae.reporting.features.part_result import PartResult, read_pairs, read_slice


def _result(features, rows=4):
    feature = np.asarray(sorted(features), np.int64)
    ones = np.ones(len(feature), np.int64)
    firing = FiringContexts.of_matches(feature, ones, ones * 2, np.ones(len(feature), np.float32), ones * 3, ones * 5)
    return PartResult(
        rows=rows,
        count=np.bincount(feature, minlength=6),
        total=np.bincount(feature, minlength=6) * 1.5,
        bin_feature=feature,
        bin=feature + 7,
        bin_count=ones,
        kept=firing,
        sample_rows=2,
        pair_row=feature * 10,
        pair_feature=feature,
    )


def test_slices_of_several_parts(tmp_path):
    paths = [tmp_path / "a", tmp_path / "b", tmp_path / "c"]
    for path, features in zip(paths, ([0, 2, 5], [], [2, 3]), strict=True):
        _result(features).save(path)
    found = read_slice(paths, 2, 5)
    assert (found.first, found.rows) == (2, 12)
    assert found.count.tolist() == [2, 1, 0]
    assert found.total.tolist() == [3.0, 1.5, 0.0]
    assert found.bin_feature.tolist() == found.kept.feature.tolist() == [2, 2, 3]
    assert found.bin.tolist() == [9, 9, 10]
    assert found.kept.position.tolist() == [2, 2, 2]
    rows, row, feature = read_pairs(paths)
    assert (rows, row.tolist(), feature.tolist()) == (6, [0, 20, 50, 20, 30], [0, 2, 5, 2, 3])


def test_a_missing_and_a_damaged_file(tmp_path):
    with pytest.raises(TornData, match=r"a is missing; remove its folder"):
        read_slice([tmp_path / "a"], 0, 1)
    _result([1]).save(tmp_path / "a")
    content = (tmp_path / "a").read_bytes()
    (tmp_path / "a").write_bytes(content[:-4])
    with pytest.raises(TornData, match="a is damaged"):
        read_pairs([tmp_path / "a"])
