import json
from dataclasses import replace

import pytest

from distsae.store import StoreAttributes
from distsae.store.attributes import RECORDED_ONLY, differences
from tests.store.synthetic import attributes


def test_survives_json():
    attrs = attributes(library_versions={"torch": "2"}, excluded_tokens=(2, 3))
    again = StoreAttributes.from_json(json.loads(json.dumps(attrs.to_json())))
    assert again == attrs
    assert again.fingerprint() == attrs.fingerprint()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("model_digest", "x"),
        ("tokenizer_digest", "x"),
        ("corpus_fingerprint", "x"),
        ("hooks", ("c", "a.b")),
        ("dtype", "fp16"),
        ("context_length", 10),
        ("prepend_bos", False),
        ("excluded_positions", 0),
        ("excluded_tokens", (0, 7)),
        ("unit_rows", 99),
        ("seed", 1),
        ("chunk_rows", 31),
        ("format_version", 2),
    ],
)
def test_what_matters_changes_the_fingerprint(name, value):
    attrs = attributes()
    other = replace(attrs, **{name: value})
    assert other.fingerprint() != attrs.fingerprint()
    assert name in differences(attrs, other)


def test_stores_without_later_fields_keep_their_fingerprint():
    assert {"keep_units", "excluded_tokens"}.isdisjoint(attributes().to_json())


def test_names_and_versions_are_only_recorded():
    attrs = attributes()
    other = replace(attrs, **dict.fromkeys(RECORDED_ONLY, "other"))
    assert other.fingerprint() == attrs.fingerprint()
    assert differences(attrs, other) == {}


def test_digests_are_shown_with_the_names_they_belong_to():
    shown = differences(attributes(), attributes(model="b", model_digest="d" * 64))
    assert shown["model_digest"] == ("m of synthetic", "dddddddddddd of b")


def test_what_is_held_out_is_part_of_the_identity_unless_it_is_as_in_the_first_stores():
    first = attributes()
    assert "heldout_by" not in first.to_json()
    by_documents = attributes(heldout_by="documents", heldout_share=0.1)
    assert by_documents.fingerprint() not in {
        first.fingerprint(),
        attributes(heldout_by="documents", heldout_share=0.2).fingerprint(),
    }
    assert StoreAttributes.from_json(by_documents.to_json()) == by_documents
