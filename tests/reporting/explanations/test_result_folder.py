import json

import pytest

from distsae.errors import TornData, WrongInput
from distsae.reporting.explanations.result_folder import EXPLANATIONS, FeatureResult, ResultFolder
from distsae.reporting.explanations.scores import JudgementCounts

SETTINGS = {"model": "m", "seed": 0}


def result(feature, **changes):
    values = {
        "feature": feature,
        "explanation": "words",
        "problem": None,
        "detection": JudgementCounts(true_positives=3, true_negatives=2),
        "fuzzing": JudgementCounts(unparsed=5),
        "other_firing": 0.5,
        "prompts": 1,
        "model": "m",
        "seed": 0,
    }
    return FeatureResult(**(values | changes))


def test_lines_come_back(tmp_path):
    made = [result(3), result(1, explanation=None, problem="é")]
    with ResultFolder(tmp_path / "a" / "b", SETTINGS) as folder:
        for one in made:
            folder.append(one)
            assert (folder.out / EXPLANATIONS).read_bytes().endswith(b"\n")
    with ResultFolder(tmp_path / "a" / "b", SETTINGS) as folder:
        assert folder.results == {3: made[0], 1: made[1]}
    line = json.loads((tmp_path / "a" / "b" / EXPLANATIONS).read_text().splitlines()[0])
    assert line["detection"]["balanced_accuracy"] == 1.0
    assert line["fuzzing"]["balanced_accuracy"] is None


def test_a_line_that_was_cut_is_done_again(tmp_path):
    with ResultFolder(tmp_path, SETTINGS) as folder:
        folder.append(result(3))
        folder.append(result(1))
    path = tmp_path / EXPLANATIONS
    whole = path.read_bytes()
    first = whole.index(b"\n") + 1
    for cut in (first + 1, first + 50, len(whole) - 1):
        path.write_bytes(whole[:cut])
        with ResultFolder(tmp_path, SETTINGS) as folder:
            assert set(folder.results) == {3}
            folder.append(result(1))
        assert path.read_bytes() == whole


@pytest.mark.parametrize("line", [b"garbage", b"[]", b"{}", b"\xff", b'{"feature": -1}', b"[" * 5000, b"x" * (1 << 21)])
def test_a_damaged_line_is_named(tmp_path, line):
    with ResultFolder(tmp_path, SETTINGS) as folder:
        folder.append(result(3))
    with (tmp_path / EXPLANATIONS).open("ab") as file:
        file.write(line + b"\n")
    with pytest.raises(TornData, match=r"explanations.jsonl is damaged: line 2"), ResultFolder(tmp_path, SETTINGS):
        pass


def test_other_settings_are_refused_with_the_values(tmp_path):
    with ResultFolder(tmp_path, SETTINGS):
        pass
    with pytest.raises(WrongInput, match="got those with model m, not n; seed 0, not 1"):
        ResultFolder(tmp_path, {"model": "n", "seed": 1}).refuse_other_content()


def test_other_files_are_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(WrongInput, match="got one with other files"), ResultFolder(tmp_path, SETTINGS):
        pass
    with pytest.raises(WrongInput, match="got the file"):
        ResultFolder(tmp_path / "thesis.tex" / "x", SETTINGS).refuse_other_content()
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_one_process_at_a_time(tmp_path):
    second = ResultFolder(tmp_path, SETTINGS)
    with ResultFolder(tmp_path, SETTINGS), pytest.raises(WrongInput, match="one that another process works in"), second:
        pass
    with ResultFolder(tmp_path, SETTINGS) as folder:
        folder.write_summary({"a": 1})
    assert json.loads((tmp_path / "explanations.json").read_text()) == {"a": 1}
