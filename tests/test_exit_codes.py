import signal

from distsae.exit_codes import as_code


def test_a_signal_is_128_and_its_number():
    statuses = (0, 1, 75, -signal.SIGKILL, -signal.SIGTERM)
    assert [as_code(status) for status in statuses] == [0, 1, 75, 137, 143]
