import pytest

from distsae.errors import WrongInput
from distsae.reporting.features.config import FeaturesConfig


def test_formats_are_named_once():
    assert FeaturesConfig(run="r", store="s", format="parquet, site,parquet").formats == ("parquet", "site")


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"format": "sites"}, "`format` (=sites) must be of site, parquet, neuronpedia, saedashboard; got sites"),
        ({"format": " ,"}, "`format` (= ,) must name what to write; give one or more of site"),
        ({"max_rows": 0}, "`max_rows` (=0) must be at least 1; give a positive number"),
        ({"neighbours": -1}, "`neighbours` (=-1) must be at least 0; give 0"),
        ({"shard_features": 100}, "`shard_features` (=100) must be a multiple of 64"),
        ({"out": "s3://bucket/x"}, "`out` (=s3://bucket/x) must be a path"),
    ],
)
def test_wrong_values(given, error):
    with pytest.raises(WrongInput) as raised:
        FeaturesConfig(run="r", store="s", **given)
    assert error in str(raised.value)
