"""Only errors about a lost rank become one line; tests/end_to_end/test_guards.py kills a rank."""

import pytest
import torch
import torch.distributed as dist

from distsae.errors import CannotContinue
from distsae.training.guards.lost_rank import lost_ranks_named

# Texts of gloo in torch 2.13.
CLOSED = (
    "[/__w/pytorch/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:553] Connection closed by peer "
    "[127.0.0.1]:61149. This is typically caused by a remote worker crashing. Check the logs of the remote worker"
)
LATE = (
    "[/__w/pytorch/pytorch/third_party/gloo/gloo/transport/tcp/unbound_buffer.cc:78] Timed out waiting 3000ms for "
    "recv operation to complete"
)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (RuntimeError(CLOSED), "Connection closed by peer [127.0.0.1]:61149"),
        (RuntimeError(LATE), "Timed out waiting 3000ms for recv operation to complete"),
        (
            dist.DistBackendError("NCCL communicator was aborted on rank 1.\nmore"),
            "NCCL communicator was aborted on rank 1",
        ),
        (dist.DistStoreError("wait timeout"), "wait timeout"),
    ],
)
def test_a_lost_rank(error, reason):
    with pytest.raises(CannotContinue) as raised, lost_ranks_named(lambda: "step 7: selecting and stepping"):
        raise error
    assert str(raised.value).startswith(
        f"step 7: selecting and stepping: lost connection to another rank ({reason}): that rank was killed, "
    )
    assert raised.value.__cause__ is error


def test_a_port_that_is_taken_is_no_lost_rank(monkeypatch):
    monkeypatch.setenv("MASTER_PORT", "29500")
    text = "The server socket has failed to listen. port: 29500, code: -98, name: EADDRINUSE, message: address in use"
    words = "the port 29500 at which the ranks meet must be free; got one that another"
    with pytest.raises(CannotContinue, match=words), lost_ranks_named(lambda: "setting up"):
        raise dist.DistNetworkError(text)


@pytest.mark.parametrize("error", [RuntimeError("a bug near gloo/x"), ValueError(CLOSED), KeyboardInterrupt()])
def test_any_other_error_keeps_its_traceback(error):
    with pytest.raises(type(error)) as raised, lost_ranks_named(lambda: "step 7"):
        raise error
    assert raised.value is error


def test_an_error_of_torch_itself():
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"), lost_ranks_named(lambda: "step 7"):
        torch.zeros(2, 3) @ torch.zeros(2, 3)
