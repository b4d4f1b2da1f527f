"""An S3-compatible server on a free port of loopback, which it prints; it ends when its input does.

Who makes an object that nobody has made wins alone, as in a real object store: moto itself looks whether there is one
and makes it later, so that two may win.
"""

from __future__ import annotations

import sys
import threading

from moto.s3.responses import S3Response
from moto.server import ThreadedMotoServer

put, one_at_a_time = S3Response.put_object, threading.Lock()


def put_object(self: S3Response) -> object:
    """Looks and makes in one step."""
    with one_at_a_time:
        return put(self)


if __name__ == "__main__":
    S3Response.put_object = put_object
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    print(server.get_host_and_port()[1], flush=True)
    sys.stdin.read()
