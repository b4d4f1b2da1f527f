"""The choices are made from this machine's real routes and interfaces; machines that it is not are made up."""

import os
import socket
import subprocess
import sys

import psutil
import pytest

from distsae.training.guards.network import address_reached, address_towards, choose_network, interface_of

LOOPBACK = next(
    name for name, entries in psutil.net_if_addrs().items() if any(e.address == "127.0.0.1" for e in entries)
)
OTHERS = {"node1": "10.0.0.1", "192.0.2.1": "10.0.0.1", "10.0.0.1": "10.0.0.1", "main": "127.0.0.1"}
NODES = {"WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2"}


INTERFACES = {"10.0.0.1": "ib0", "10.9.0.1": "eth0", "127.0.0.1": LOOPBACK}


def chosen(on_gpu=False, towards=OTHERS.get, reached={}.get, **environment):
    before = dict(environment)
    choose_network(on_gpu, environment, towards=towards, interface=INTERFACES.get, reached=reached)
    return {name: value for name, value in environment.items() if name not in before}


def test_the_loopback_interface_leads_to_this_machine():
    assert address_towards("127.0.0.1") == "127.0.0.1"
    assert address_towards("localhost") in ("127.0.0.1", "::1")
    assert interface_of("127.0.0.1") == LOOPBACK


@pytest.mark.parametrize("name", [name for name in psutil.net_if_addrs() if name != LOOPBACK])
def test_each_address_of_this_machine_leads_to_its_interface(name):
    for entry in psutil.net_if_addrs()[name]:
        if entry.family == socket.AF_INET:
            assert interface_of(address_towards(entry.address)) == name


def test_what_cannot_be_found_is_left_open():
    assert address_towards("no-such-machine.invalid") is None
    assert address_towards("a" * 300) is None
    assert interface_of("203.0.113.9") is None
    assert chosen(MASTER_ADDR="no-such-machine.invalid") == {}
    assert chosen() == {}  # no launcher


def test_gloo_uses_the_interface_towards_the_main_machine():
    assert chosen(MASTER_ADDR="node1", **NODES) == {"GLOO_SOCKET_IFNAME": "ib0"}
    assert chosen(MASTER_ADDR="node1", GLOO_SOCKET_IFNAME="eth7", **NODES) == {}
    assert chosen(MASTER_ADDR="node1", GLOO_SOCKET_IFNAME="", **NODES) == {}


def test_a_main_machine_whose_name_is_its_loopback_address_uses_the_default_route():
    """Debian writes 127.0.1.1 for the host's own name into /etc/hosts."""
    assert chosen(MASTER_ADDR="main", **NODES) == {"GLOO_SOCKET_IFNAME": "ib0"}
    assert chosen(MASTER_ADDR="main", WORLD_SIZE="2", LOCAL_WORLD_SIZE="2") == {"GLOO_SOCKET_IFNAME": LOOPBACK}
    assert chosen(MASTER_ADDR="main", towards={"main": "127.0.0.1"}.get, **NODES) == {}  # it has no default route


def test_a_main_machine_uses_the_interface_at_which_other_launchers_have_reached_it():
    main = {"MASTER_ADDR": "main", "MASTER_PORT": "29500"}
    assert chosen(reached={29500: "10.0.0.1"}.get, towards={"main": "127.0.1.1"}.get, **main, **NODES) == {
        "GLOO_SOCKET_IFNAME": "ib0"
    }
    assert chosen(reached={29500: "10.9.0.1"}.get, **main, **NODES) == {
        "GLOO_SOCKET_IFNAME": "eth0"
    }  # before the route
    assert chosen(reached={29500: "10.9.0.1"}.get, MASTER_ADDR="node1", MASTER_PORT="29500", **NODES) == {
        "GLOO_SOCKET_IFNAME": "ib0"
    }


def test_connections_of_this_machine_to_itself_show_no_way():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)):
            assert address_reached(port) is None
    assert address_reached(port) is None


def test_sums_in_the_switches_are_off_unless_they_are_asked_for(capsys):
    assert chosen(on_gpu=True) == {"NCCL_ALGO": "^NVLS,NVLSTree"}
    assert capsys.readouterr().err.startswith("NCCL_ALGO=^NVLS,NVLSTree: sums in the switches (NVLS) would differ")
    assert chosen(on_gpu=True, NCCL_ALGO="Ring") == {}
    assert chosen(on_gpu=False) == {}
    assert capsys.readouterr().err == ""


def test_a_started_process_has_chosen(tmp_path):
    """Two processes as a launcher starts them, with no interface named."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
    script = (
        "import os, sys\nfrom distsae.parallel import MeshConfig\nfrom distsae.training import TrainConfig\n"
        "from distsae.training.guards import start_accelerator\n"
        "config = TrainConfig(store='s', out=sys.argv[1], wandb='off', mesh=MeshConfig(feature=2))\n"
        "accelerator = start_accelerator(config)\nprint(os.environ['GLOO_SOCKET_IFNAME'])\naccelerator.end_training()"
    )
    environment = {name: value for name, value in os.environ.items() if name != "GLOO_SOCKET_IFNAME"}
    environment |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(tmp_path)],
            stdout=subprocess.PIPE,
            text=True,
            env=environment | {"RANK": str(rank), "LOCAL_RANK": str(rank), "ACCELERATE_USE_CPU": "true"},
        )
        for rank in range(2)
    ]
    assert [rank.communicate(timeout=300)[0].strip() for rank in ranks] == [LOOPBACK] * 2
