"""`study.yaml` is what the study was last given."""

import pytest
import yaml

from distsae.errors import WrongInput
from distsae.recipes.study.record import StudyRecord
from tests.recipes.study.samples import MC, TC, plan


def test_keys_are_kept_with_methods_written_out(tiny_store, tmp_path):
    found = plan(tiny_store, tmp_path / "o", methods=[{**TC, "lr": [1e-4]}, MC], evaluate={"max_tokens": 64})
    StudyRecord(found).write()
    content = yaml.safe_load((tmp_path / "o" / "study.yaml").read_text())
    assert content["methods"][0]["lr"] == [1e-4]
    assert content["methods"][1]["allocation"] == "mutual_choice"
    assert content["evaluate"] == {"max_tokens": 64}
    assert "dry_run" not in content
    assert "peers_python" not in content


def test_other_keys_of_the_evaluation_are_noticed(tiny_store, tmp_path):
    first = plan(tiny_store, tmp_path / "o", evaluate={"max_tokens": 64})
    assert not StudyRecord(first).evaluates_anew
    StudyRecord(first).write()
    assert not StudyRecord(first).evaluates_anew
    assert StudyRecord(plan(tiny_store, tmp_path / "o", evaluate={"max_tokens": 128})).evaluates_anew


def test_a_folder_of_other_files_is_refused(tiny_store, tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(WrongInput, match="folder of other files"):
        StudyRecord(plan(tiny_store, tmp_path))
