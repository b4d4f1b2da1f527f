import pytest

from distsae.checked_files import is_plain, shown


@pytest.mark.parametrize("name", ["a", "act/blocks.2.resid_post/c/0/0", "...", "é", "a b", ".hidden"])
def test_plain_names(name):
    assert is_plain(name)


@pytest.mark.parametrize(
    "name", ["", ".", "..", "/a", "a/", "a//b", "a/../b", "./a", "a\0", "a\nb", "\x1b[2J", "a" * 256]
)
def test_names_that_lead_out_or_are_no_names(name):
    assert not is_plain(name)
    assert not is_plain(f"a/{name}" if name.startswith("/") else f"{name}/a")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("\x1b[31m", r"'\x1b[31m'"),
        ("a" * 1000, "'" + "a" * 79 + "..."),
        ([1] * 10**6, "list of 1000000"),
        ({}, "empty dict"),
        (True, "True"),
        (-(10**4000), "a number of 13288 bits"),
    ],
)
def test_values_are_shown_short_and_without_control_characters(value, text):
    assert shown(value) == text
