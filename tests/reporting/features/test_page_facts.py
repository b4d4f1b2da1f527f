from distsae.reporting.features.config import FeaturesConfig
from distsae.reporting.features.inputs import FeatureInputs
from distsae.reporting.features.page_facts import facts_of, settings_of
from distsae.reporting.features.plan import parts_of
from distsae.text import TokenText
from tests.reporting.features.dense import whole_sae, whole_store


def _inputs(folder, path, **changes):
    store = whole_store(folder, **changes)
    return FeatureInputs(
        sae_path=path, sae=whole_sae(), store=store, parts=parts_of(store, "train", 80, 40), text=TokenText(None),
        vocabulary=0, head=None,
    )  # fmt: skip


def test_facts(tmp_path):
    inputs = _inputs(tmp_path / "a", tmp_path / "runs" / "mc" / "sae", model="/home/x/gpt2", corpus="org/text")
    facts = facts_of(FeaturesConfig(run="", store=""), inputs, rows=79, correlation_rows=16)
    assert (facts.name, facts.model, facts.corpus) == ("mc", "gpt2", "org/text")
    assert (facts.contexts, facts.context_length, facts.rows) == (10, 9, 79)
    other = _inputs(tmp_path / "b", tmp_path / "mine")
    assert facts_of(FeaturesConfig(run="", store=""), other, 1, 1).name == "mine"


def test_settings_are_what_decides_the_pages(tmp_path):
    inputs = _inputs(tmp_path / "a", tmp_path)

    def settings(**changes):
        return settings_of(FeaturesConfig(**({"run": "r", "store": "s"} | changes)), inputs, "digest")

    first = settings()
    assert settings(out="x", device="cpu", run="q", model="m") == first
    assert settings(format="parquet,site") == settings(format="site, parquet")
    for changes in ({"max_rows": 5}, {"format": "site"}, {"tokens": 3}, {"split": "heldout"}, {"part_rows": 9}):
        assert settings(**changes) != first
