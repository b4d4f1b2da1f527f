"""What NCCL and gloo read from the environment, where their own choice would not do: set unless it has been set.

NCCL adds in the switches of NVSwitch machines (NVLS) where it can, and such sums differ from call to call, so a resumed
run would not continue bit for bit (NVIDIA/nccl, issue 1497). Gloo binds the address that the name of the host resolves
to, often one of 127.0.0.0/8, which other machines cannot reach. The main machine may not even find itself by its name:
there the launchers of the other machines, which have connected to its port before any process starts, show the way.
"""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Callable, MutableMapping

import psutil

from distsae.environment import whole_number
from distsae.progress import say

__all__ = ["address_reached", "address_towards", "choose_network", "interface_of"]

_WITHOUT_NVLS = "^NVLS,NVLSTree"
_ELSEWHERE = "192.0.2.1"
"""An address for documentation: no machine has it, and the default route leads there."""


def address_towards(target: str) -> str | None:
    """Returns the address of this machine from which packets to `target` leave; None if there is no route.

    Nothing is sent.

    Args:
        target: name or address of a machine.
    """
    try:
        found = socket.getaddrinfo(target, 9, type=socket.SOCK_DGRAM)
    except (OSError, UnicodeError):
        return None
    for family, kind, protocol, _, address in found:
        try:
            with socket.socket(family, kind, protocol) as probe:
                probe.connect(address)
                return str(probe.getsockname()[0])
        except OSError:  # no route by this version of the protocol
            continue
    return None


def address_reached(port: int) -> str | None:
    """Returns the address of this machine at which others are connected to a port; None if none is.

    Args:
        port: number of a TCP port.
    """
    try:
        connections = psutil.net_connections("tcp")
    except (OSError, psutil.Error):  # some systems show them to root alone
        return None
    for connection in connections:
        if connection.status == psutil.CONN_ESTABLISHED and connection.laddr.port == port:
            address = _plain(connection.laddr.ip)
            if not _is_loopback(address) and _plain(connection.raddr.ip) != address:
                return address
    return None


def interface_of(address: str) -> str | None:
    """Returns the network interface of this machine that has an address; None if none has.

    Args:
        address: an IP address.
    """
    try:
        interfaces = psutil.net_if_addrs()
    except OSError:
        return None
    wanted = ipaddress.ip_address(address.partition("%")[0])
    for name, entries in interfaces.items():
        own = [entry.address for entry in entries if entry.family in (socket.AF_INET, socket.AF_INET6)]
        if any(ipaddress.ip_address(text.partition("%")[0]) == wanted for text in own):
            return str(name)
    return None


def choose_network(
    on_gpu: bool,
    environment: MutableMapping[str, str] = os.environ,
    *,
    towards: Callable[[str], str | None] = address_towards,
    interface: Callable[[str], str | None] = interface_of,
    reached: Callable[[int], str | None] = address_reached,
) -> None:
    """Sets `NCCL_ALGO` and `GLOO_SOCKET_IFNAME` for a job of several processes, each unless it is set.

    Call it before the process group is made.

    Args:
        on_gpu: whether the processes communicate by NCCL.
        environment: variables by name; changed in place.
        towards: function that returns the address of this machine towards another one.
        interface: function that returns the interface that has an address.
        reached: function that returns the address of this machine at which others are connected to a port.
    """
    if on_gpu and not environment.get("NCCL_ALGO"):
        environment["NCCL_ALGO"] = _WITHOUT_NVLS
        say(
            f"NCCL_ALGO={_WITHOUT_NVLS}: sums in the switches (NVLS) would differ from call to call, and a resumed run "
            "would not continue bit for bit; set NCCL_ALGO to choose otherwise"
        )
    main_machine = environment.get("MASTER_ADDR")
    if not main_machine or "GLOO_SOCKET_IFNAME" in environment:
        return
    address = towards(main_machine)
    several = whole_number("WORLD_SIZE", 1, environment) > whole_number("LOCAL_WORLD_SIZE", 1, environment)
    if several and address is not None and _is_loopback(address):
        # This is the main machine, whose own name leads nowhere else; it may have several networks, or no route out.
        address = reached(whole_number("MASTER_PORT", 0, environment)) or towards(_ELSEWHERE)
    name = interface(address) if address is not None else None
    if name is not None and not (several and address is not None and _is_loopback(address)):
        environment["GLOO_SOCKET_IFNAME"] = name


def _plain(address: str) -> str:
    """Returns an address of version 4 without the prefix that it has on a socket of version 6."""
    mapped = ipaddress.ip_address(address.partition("%")[0])
    inner = mapped.ipv4_mapped if isinstance(mapped, ipaddress.IPv6Address) else None
    return address if inner is None else str(inner)


def _is_loopback(address: str) -> bool:
    return ipaddress.ip_address(address.partition("%")[0]).is_loopback
