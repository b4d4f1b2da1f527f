import pytest

from distsae.errors import WrongInput
from distsae.text.local_path import local_path


def test_what_exists_is_a_path_and_other_words_are_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gpt2").mkdir()
    assert local_path(str(tmp_path), "model") == tmp_path
    assert local_path("gpt2", "model").name == "gpt2"
    assert local_path("pythia", "model") is None
    assert local_path("EleutherAI/pythia-70m", "model") is None


@pytest.mark.parametrize(
    "name",
    ["./missing", "/missing", "~/missing-of-distsae", "a/b/c", "", "../missing", "missing.arrow", "missing.txt.zst"],
)
def test_a_path_to_nothing_is_refused_and_not_taken_for_a_name(name):
    with pytest.raises(WrongInput, match="`corpus`"):
        local_path(name, "corpus")
