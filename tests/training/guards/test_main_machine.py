import socket

import pytest

from distsae.errors import WrongInput
from distsae.training.guards.main_machine import wait_for_main_machine

NOWHERE = "no-such-machine.invalid"


@pytest.mark.parametrize("environment", [{}, {"MASTER_ADDR": "127.0.0.1"}, {"MASTER_ADDR": "localhost"}])
def test_a_machine_that_is_known_is_not_waited_for(environment):
    wait_for_main_machine(environment, wait=lambda seconds: pytest.fail("waited"))


@pytest.mark.parametrize("name", [NOWHERE, "", "a" * 70, "..", "\N{SNOWMAN}" * 80])
def test_a_machine_that_stays_unknown_is_one_line(name, capsys):
    waits = []
    with pytest.raises(WrongInput, match=rf"`MASTER_ADDR` \(={name}\) must name a machine that this one can find; got"):
        wait_for_main_machine({"MASTER_ADDR": name, "MASTER_PORT": "29500"}, seconds=3, wait=waits.append)
    assert waits == [1, 1, 1, 1]
    assert capsys.readouterr().err.count("waiting up to 3 s for the address of the main machine") == 1


def test_a_machine_that_becomes_known(monkeypatch):
    """Names in Kubernetes and some clusters are announced after the processes have started."""
    answers = [socket.gaierror("not yet"), socket.gaierror("not yet"), None]
    waits = []

    def lookup(*_):
        if (answer := answers.pop(0)) is not None:
            raise answer

    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    wait_for_main_machine({"MASTER_ADDR": NOWHERE}, wait=waits.append)
    assert waits == [1, 1]
