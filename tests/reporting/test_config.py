import pytest

from distsae.errors import WrongInput
from distsae.reporting import ReportConfig


def test_paths_are_those_that_are_meant(monkeypatch):
    monkeypatch.setenv("HOME", "/somebody")
    config = ReportConfig(runs=("~/a", "file:///runs/b", "c"), out="~/page")
    assert (config.runs, config.out) == (("/somebody/a", "/runs/b", "c"), "/somebody/page")
    assert ReportConfig(runs=("a",)).out is None


@pytest.mark.parametrize("given", [{"runs": ("a", "s3://bucket/b")}, {"runs": ("a",), "out": "gs://bucket/page"}])
def test_urls_are_refused(given):
    with pytest.raises(WrongInput, match="got a URL"):
        ReportConfig(**given)
