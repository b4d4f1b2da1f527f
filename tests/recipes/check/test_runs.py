"""Runs that differ by a bit are found, and so are runs that fail."""

from pathlib import Path

import pytest

from distsae.recipes.check import CheckConfig
from distsae.recipes.check.launched import Launched
from distsae.recipes.check.rates import make_store
from distsae.recipes.check.runs import runs_found

CONFIG = CheckConfig(d_in=16, batch_tokens=256, k=4)


def _found(monkeypatch, tmp_path, contents, problems=("", "", "")):
    """Returns the findings for runs that leave SAEs of these contents, and end with these problems."""
    left = iter(zip(contents, problems, strict=True))
    asked = []

    def launched(words, processes, seconds):
        asked.append(words)
        content, problem = next(left)
        sae = Path(words[words.index("--out") + 1]) / "sae"
        sae.mkdir(parents=True)
        (sae / "sae.safetensors").write_bytes(content)
        return Launched(problem, "")

    monkeypatch.setattr("distsae.recipes.check.runs.run_launched", launched)
    return runs_found(CONFIG, tmp_path / "store", tmp_path / "runs", 4, 10), asked


@pytest.mark.parametrize(
    ("contents", "states"),
    [
        ((b"abc", b"abc", b"abc"), ["ok", "ok"]),
        ((b"abc", b"abd", b"abc"), ["failed", "ok"]),
        ((b"abc", b"abc", b"ab"), ["ok", "failed"]),
    ],
)
def test_a_different_byte_is_found(monkeypatch, tmp_path, contents, states):
    found, asked = _found(monkeypatch, tmp_path, contents)
    assert [finding.state for finding in found] == states
    assert found[0].name == "trained twice, mesh 2 x 2"
    assert asked[2][-2] == "--resume"
    assert asked[2][-1].startswith(str(tmp_path / "runs" / "first" / "checkpoints"))


@pytest.mark.parametrize(
    ("problems", "states"), [(("", "broken", ""), ["failed", "skipped"]), (("", "", "broken"), ["ok", "failed"])]
)
def test_a_failed_run_is_told(monkeypatch, tmp_path, problems, states):
    found, _ = _found(monkeypatch, tmp_path, (b"a", b"a", b"a"), problems)
    assert [finding.state for finding in found] == states
    assert "broken" in {finding.text for finding in found}


@pytest.mark.heavy
def test_real_runs_are_equal(tmp_path):
    make_store(CONFIG, tmp_path / "store")
    found = runs_found(CONFIG, tmp_path / "store", tmp_path / "runs", 2, 240)
    assert [(finding.name, finding.state) for finding in found] == [
        ("trained twice, mesh 1 x 2", "ok"),
        ("resumed, mesh 1 x 2", "ok"),
    ]
