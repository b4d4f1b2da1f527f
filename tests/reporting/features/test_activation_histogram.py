import numpy as np

from distsae.reporting.features.activation_histogram import BINS, EDGES, bin_centre, bins_of, counted


def test_bins_at_their_edges():
    edges = EDGES[[0, 5, 160, 320]]
    below = np.nextafter(edges, np.float32(0))
    assert (bins_of(edges) - bins_of(below)).tolist() == [1, 1, 1, 1]
    assert EDGES[160] == 1.0
    assert bins_of(np.asarray([1e-30, 1e30], np.float32)).tolist() == [0, BINS - 1]


def test_the_middle_of_a_bin_is_in_it():
    for index in range(1, BINS - 1):
        assert bins_of(np.asarray([bin_centre(index)], np.float32)).tolist() == [index]


def test_counts_by_feature_and_bin():
    feature = np.asarray([3, 0, 3, 3, 0], np.int64)
    scores = np.asarray([1.0, 2.0, 1.01, 4.0, 2.0], np.float32)
    found = [array.tolist() for array in counted(feature, scores)]
    assert found == [[0, 3, 3], [169, 161, 177], [2, 2, 1]]
