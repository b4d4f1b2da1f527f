import os

import pytest
import yaml

from distsae.checked_files import parse_yaml, read_yaml_mapping
from distsae.errors import TornData, WrongInput

GROWING = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12)
)
MERGING = "a0: &a0 {x: 1}\n" + "".join(
    f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 10)}]}}\n" for n in range(1, 12)
)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0100", 100),
        ("-007", -7),
        ("0x10", 16),
        ("1_000", 1000),
        ("1:30", "1:30"),
        ("0o17", "0o17"),
        ("1e-3", 0.001),
        ("1e4", 1e4),
        ("on", "on"),
        ("true", True),
        ("2024-01-01", "2024-01-01"),
        ("null", None),
        ("{a: &x [1], b: *x}", {"a": [1], "b": [1]}),
        ("{a: &x {k: 1}, b: {<<: *x, k: 2}}", {"a": {"k": 1}, "b": {"k": 2}}),
    ],
)
def test_values_are_those_of_yaml_1_2(text, value):
    assert parse_yaml(text) == value


def test_what_was_dumped_is_read_as_it_was():
    values = {
        "words": ["on", "0100", "1:30", "1_0", "~", "", "2024-01-01", "é\x1b"],
        "numbers": [1e-05, 3, -0.5, 1e300],
    }
    assert parse_yaml(yaml.safe_dump(values)) == values


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("sae: {k: 4}\nseed: 1\nsae: {k: 32}", "the key 'sae' is given twice"),
        ("sae:\n  k: 4\n  k: 32", "the key 'k' is given twice"),
        (GROWING, "at most 100,000 values are read, with aliases written out"),
        (MERGING, "at most 100,000 values are read, with aliases written out"),
        ("&a [*a]", "an alias must not contain itself"),
        ("[" * 60 + "]" * 60, "at most 50 levels"),
        ("[" * 100_000, "nested too deeply"),
        ("1" * 5000, "Exceeds the limit|integer string"),
        ("!!int abc", "does not fit its tag|invalid literal"),
        ("!!timestamp x", "does not fit its tag"),
        ("!!python/object/apply:os.system [ls]", "could not determine a constructor"),
        ("{[1]: 2}", "unhashable"),
        ("x" * 300_000, "at most 262,144 characters"),
    ],
)
def test_everything_else_is_an_error_of_yaml(text, words):
    with pytest.raises(yaml.YAMLError, match=words):
        parse_yaml(text)


def test_a_file_that_maps_keys_to_values(tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text("a: {b: 1}")
    assert read_yaml_mapping(file, "`config`") == {"a": {"b": 1}}
    for content, words in (
        (b"[1]", "`config` must map keys to values; got list of 1"),
        (b"", "`config` must map keys to values; got None"),
        (b"1: 2", "`config` must have keys that are text; got 1"),
        (b"a: {null: 2}", "`config` must have keys that are text; got None"),
        (b"a: \xff", "`config` must be text in UTF-8"),
        (b"a: [", "`config` must be valid YAML"),
    ):
        file.write_bytes(content)
        with pytest.raises(WrongInput, match=words) as error:
            read_yaml_mapping(file, "`config`", WrongInput)
        assert "\n" not in str(error.value)
    file.unlink()
    os.mkfifo(file)
    with pytest.raises(TornData, match="is not a regular file"):
        read_yaml_mapping(file, "`config`")
