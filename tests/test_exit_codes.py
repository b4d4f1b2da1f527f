import signal

from distsae.exit_codes import as_code


def test_the_code_of_a_signal_is_128_plus_its_number():
    statuses = (0, 1, 75, -signal.SIGKILL, -signal.SIGTERM)
    assert [as_code(status) for status in statuses] == [0, 1, 75, 137, 143]
