import pytest

from distsae.reporting.wording import amount, duration, fixed, percent, signed


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (fixed(0.12345), "0.1235"),
        (fixed(-1.0, 1), "−1.0"),
        (fixed(None), "–"),
        (fixed(float("nan")), "–"),
        (fixed("word"), "–"),
        (signed(0.5, 1), "+0.5"),
        (signed(-0.5, 1), "−0.5"),
        (percent(0.0123), "1.23 %"),
        (amount(1536), "1,536"),
        (amount(540_004), "540,004"),
        (amount(2_048_000), "2.048 M"),
        (amount(3e9), "3 B"),
        (duration(12.34), "12.3 s"),
        (duration(59.99), "1 min 00 s"),
        (duration(100), "1 min 40 s"),
        (duration(3840), "1 h 04 min"),
    ],
)
def test_numbers_as_a_page_shows_them(shown, expected):
    assert shown == expected
