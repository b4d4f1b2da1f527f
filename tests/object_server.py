"""An S3-compatible server, which prints its port and ends when its input does.

    python tests/object_server.py                        on a free port of loopback, without a bucket
    python tests/object_server.py ADDRESS PORT BUCKET    there, with an empty bucket

Who makes an object that nobody has made wins alone, as in a real object store: moto itself looks whether there is one
and makes it later, so that two may win.
"""

from __future__ import annotations

import sys
import threading

from moto.s3.models import s3_backends
from moto.s3.responses import S3Response
from moto.server import ThreadedMotoServer

put, one_at_a_time = S3Response.put_object, threading.Lock()


def put_object(self: S3Response) -> object:
    """Looks and makes in one step."""
    with one_at_a_time:
        return put(self)


if __name__ == "__main__":
    S3Response.put_object = put_object
    address, port, *buckets = sys.argv[1:] or ("127.0.0.1", "0")
    server = ThreadedMotoServer(address, int(port), verbose=False)
    server.start()
    for bucket in buckets:
        s3_backends["123456789012"]["aws"].create_bucket(bucket, "us-east-1")
    print(server.get_host_and_port()[1], flush=True)
    sys.stdin.read()
