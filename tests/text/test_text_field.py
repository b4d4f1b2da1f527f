import pytest

from distsae.errors import WrongInput
from distsae.text.text_field import text_of


def test_the_text_of_a_record():
    assert text_of({"text": "a b", "n": 1}, "text", "x.jsonl, line 1") == "a b"
    assert text_of({"text": ""}, "text", "x.jsonl, line 1") == ""


@pytest.mark.parametrize(
    ("record", "seen"),
    [
        ({"txt": "a"}, r"the fields \['txt'\] in x.jsonl, line 3; did you mean 'txt'\?"),
        ({"text": None}, "null in x.jsonl, line 3"),
        ({"text": 7}, "a int in x.jsonl, line 3"),
        (["text"], "a list in x.jsonl, line 3"),
        ({}, r"the fields \[\] in x.jsonl, line 3"),
    ],
)
def test_what_is_there_instead_is_named(record, seen):
    with pytest.raises(WrongInput, match=rf"`text_field` \(=text\) .* got {seen}.*--text_field"):
        text_of(record, "text", "x.jsonl, line 3")
