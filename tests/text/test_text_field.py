import pytest

from distsae.errors import WrongInput
from distsae.text.text_field import text_of


def test_the_text_is_taken_out_of_a_record():
    assert text_of({"text": "a b", "n": 1}, "text", "x.jsonl, line 1") == "a b"
    assert text_of({"text": ""}, "text", "x.jsonl, line 1") == ""


@pytest.mark.parametrize(
    ("record", "found"),
    [
        ({"txt": "a"}, r"the fields \['txt'\] in x.jsonl, line 3; did you mean 'txt'\?"),
        ({"text": None}, "null in x.jsonl, line 3"),
        ({"text": 7}, "a int in x.jsonl, line 3"),
        (["text"], "a list in x.jsonl, line 3"),
        ({}, r"the fields \[\] in x.jsonl, line 3"),
    ],
)
def test_what_is_in_place_of_the_text_is_named(record, found):
    with pytest.raises(WrongInput, match=rf"`text_field` \(=text\) .* got {found}.*--text_field"):
        text_of(record, "text", "x.jsonl, line 3")
