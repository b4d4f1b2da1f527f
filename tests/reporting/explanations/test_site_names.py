from distsae.reporting.explanations.scores import JudgementCounts
from distsae.reporting.explanations.site_names import name_in_site
from distsae.reporting.features.site_files import SiteFiles
from tests.reporting.explanations.test_result_folder import result
from tests.reporting.features.samples import FACTS, HOSTILE, Words, script_content


def _site(folder):
    (folder / "data").mkdir()
    SiteFiles(folder, Words(HOSTILE), FACTS, shard_features=64).finish([])
    return folder / "data" / "explanations.js"


def test_the_site_has_explanations_once_there_are_some(tmp_path):
    script = _site(tmp_path)
    assert script_content(script) == {}
    html = (tmp_path / "index.html").read_text()
    assert html.index("data/explanations.js") < html.index("data/index.js")
    thirds = JudgementCounts(true_positives=1, true_negatives=1, false_positives=2)
    results = [
        result(9, explanation="</script>", fuzzing=thirds),
        result(2),
        result(4, explanation=None),
    ]
    name_in_site(tmp_path, results)
    assert script_content(script) == {"2": ["words", 1.0, None], "9": ["</script>", 1.0, 0.667]}
    assert script.read_text().startswith('distsaeExplanations({"2"')
    assert "<" not in script.read_text()
    SiteFiles(tmp_path, Words(HOSTILE), FACTS, shard_features=64).finish([])
    assert len(script_content(script)) == 2


def test_without_a_site_nothing_is_written(tmp_path):
    name_in_site(tmp_path, [result(1)])
    assert list(tmp_path.iterdir()) == []


def test_a_site_that_may_not_be_written_is_a_line(tmp_path, capsys, monkeypatch):
    script = _site(tmp_path)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("distsae.reporting.explanations.site_names.replace", full)
    name_in_site(tmp_path, [result(1)])
    assert "does not show the explanations: No space left on device" in capsys.readouterr().err
    assert script_content(script) == {}
