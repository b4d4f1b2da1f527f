import json

from distsae.reporting.features.saedashboard_files import SAEDashboardFiles
from tests.reporting.features.samples import FACTS, HOSTILE, Words, page

FIELDS = (
    "feature_index",
    "neuron_alignment_indices",
    "neuron_alignment_values",
    "neuron_alignment_l1",
    "correlated_neurons_indices",
    "correlated_neurons_l1",
    "correlated_neurons_pearson",
    "correlated_features_indices",
    "correlated_features_l1",
    "correlated_features_pearson",
    "neg_str",
    "neg_values",
    "pos_str",
    "pos_values",
    "frac_nonzero",
    "freq_hist_data_bar_values",
    "freq_hist_data_bar_heights",
    "logits_hist_data_bar_heights",
    "logits_hist_data_bar_values",
    "n_prompts_total",
    "n_tokens_in_prompt",
    "dataset",
    "activations",
    "decoder_weights_dist",
    "vector",
)
"""What SAEDashboard's `NeuronpediaDashboardFeature` takes as arguments."""


def test_a_batch_has_the_features_that_fire(tmp_path):
    files = SAEDashboardFiles(tmp_path, Words(HOSTILE), FACTS)
    files.write(0, [page(0, count=0), page(1)])
    files.finish([{"count": 0}, {"count": 3}])
    batch = json.loads((tmp_path / "saedashboard" / "batch-0.json").read_text())
    assert (batch["model_id"], batch["layer"], batch["sae_set"]) == ("org/tiny", 0, FACTS.name)
    (feature,) = batch["features"]
    assert sorted(feature) == sorted(FIELDS)
    assert (feature["feature_index"], feature["frac_nonzero"]) == (1, 0.03)
    assert (feature["neg_str"], feature["pos_values"]) == ([HOSTILE[1]], [2.0, 1.0])
    assert (feature["freq_hist_data_bar_values"], feature["freq_hist_data_bar_heights"]) == ([1.044, 4.177], [2, 1])
    assert (feature["neuron_alignment_indices"], feature["neuron_alignment_l1"]) == ([2, 0], [0.5, 0.25])
    skipped = json.loads((tmp_path / "saedashboard" / "skipped_indexes.json").read_text())
    assert skipped["skipped_indexes"] == [0]


def test_groups_of_contexts(tmp_path):
    files = SAEDashboardFiles(tmp_path, Words(HOSTILE), FACTS)
    files.write(3, [page(1)])
    (feature,) = json.loads((tmp_path / "saedashboard" / "batch-3.json").read_text())["features"]
    groups = [(one["bin_min"], one["bin_max"], one["bin_contains"]) for one in feature["activations"]]
    assert groups == [(-1, 4.123, -1), (-1, 4.123, -1), (2.562, 4.123, 0.5), (0.0, 2.562, 0.5)]
    first = feature["activations"][0]
    assert (first["values"], first["qualifying_token_index"]) == ([0.0, 1.25, 4.123, 0.5], 2)
    assert first["tokens"] == [HOSTILE[token] for token in (0, 1, 3, 4)]
