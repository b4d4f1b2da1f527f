"""The machine at which all processes meet: its name must be known here before torch waits for it.

torch looks the name up again and again, in a call that hears no signal, and ends with a traceback. A scheduler may
announce the name of a machine some time after its processes have started, so an unknown name is waited for.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Mapping

from distsae.environment import whole_number
from distsae.errors import WrongInput
from distsae.progress import say

__all__ = ["wait_for_main_machine"]

_SECONDS = 60.0
_BETWEEN = 1.0


def wait_for_main_machine(
    environment: Mapping[str, str] = os.environ,
    *,
    seconds: float = _SECONDS,
    wait: Callable[[float], None] = time.sleep,
) -> None:
    """Returns once the name in `MASTER_ADDR` has an address, at once if the variable is not set.

    Args:
        environment: variables by name.
        seconds: longest time to wait.
        wait: function that waits for a number of seconds.

    Raises:
        WrongInput: the name still has no address.
    """
    name = environment.get("MASTER_ADDR")
    if name is None:
        return
    port = whole_number("MASTER_PORT", 0, environment)
    for attempt in range(int(seconds / _BETWEEN) + 1):
        try:
            socket.getaddrinfo(name, port)
        except (OSError, UnicodeError) as error:  # the second for names that no machine can have
            reason = str(error)
        else:
            return
        if attempt == 0:
            say(f"waiting up to {seconds:.0f} s for the address of the main machine, `MASTER_ADDR` (={name})")
        wait(_BETWEEN)
    raise WrongInput(
        f"the environment variable `MASTER_ADDR` (={name}) must name a machine that this one can find; got {reason}; "
        "use its address, or the name under which the others know it"
    )
