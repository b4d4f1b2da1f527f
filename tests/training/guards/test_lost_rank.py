"""Errors of communication become one line, and keep their cause; tests/end_to_end/test_guards.py kills a rank."""

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


def nccl(kind: str, last: str) -> dist.DistBackendError:
    """An error of NCCL as torch 2.13 words it."""
    return dist.DistBackendError(
        "NCCL error in: /pytorch/torch/csrc/distributed/c10d/NCCLUtils.cpp:94, " + kind + "\nLast error:\n" + last
    )


UNHANDLED = "unhandled cuda error (run with NCCL_DEBUG=INFO for details), NCCL version 2.27.5\nncclUnhandledCudaError:"
REMOTE = (
    "remote process exited or there was a network error, NCCL version 2.27.5\nncclRemoteError: A call failed possibly "
    "due to a network error or a remote process exiting prematurely."
)
SYSTEM = (
    "unhandled system error (run with NCCL_DEBUG=INFO for details), NCCL version 2.27.5\nncclSystemError: System call "
    "(e.g. socket, malloc) or external library call failed or device error. "
)
USAGE = "invalid usage (run with NCCL_DEBUG=WARN for details), NCCL version 2.27.5\nncclInvalidUsage: This usually"
DUPLICATE = "Duplicate GPU detected : rank 1 and rank 0 both on CUDA device 50000"
CLOSED_SOCKET = "socketProgress: Connection closed by remote peer node2<38762>"
SMALL_SHM = "Error while creating shared memory segment /dev/shm/nccl-YJ3lFm (size 33030528), error: No space left (28)"


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
        (nccl(REMOTE, CLOSED_SOCKET), CLOSED_SOCKET),
        (
            dist.DistBackendError(
                "[1] is setting up NCCL communicator and retrieving ncclUniqueId from [0] via c10d key-value store by "
                "key '0', but store->get('0') got error: Failed to recv, got 0 bytes. Connection was likely closed."
            ),
            "[1] is setting up NCCL communicator and retrieving ncclUniqueId from [0] via c10d key-value store by "
            "key '0', but store->get('0') got error: Failed to recv, got 0 bytes",
        ),
    ],
)
def test_a_lost_rank(error, reason):
    with pytest.raises(CannotContinue) as raised, lost_ranks_named(lambda: "step 7: selecting and stepping"):
        raise error
    assert str(raised.value).startswith(
        f"step 7: selecting and stepping: lost connection to another rank ({reason}): that rank was killed, "
    )
    assert raised.value.__cause__ is error


@pytest.mark.parametrize(
    ("error", "cause", "advice"),
    [
        (nccl(USAGE, DUPLICATE), DUPLICATE, "start one process for each GPU (`--num_processes`)"),
        (nccl(UNHANDLED, "Cuda failure 2 'out of memory'"), "Cuda failure 2 'out of memory'", "NCCL needs some memory"),
        (nccl(SYSTEM, SMALL_SHM), SMALL_SHM, "NCCL needs room in /dev/shm"),
        (nccl(UNHANDLED, "Cuda failure 999"), "Cuda failure 999", "start again with NCCL_DEBUG=WARN"),
        (dist.DistBackendError("ncclInternalError: Internal check."), "ncclInternalError: Internal", "NCCL_DEBUG"),
    ],
)
def test_a_cause_on_this_machine_is_no_lost_rank(error, cause, advice):
    with pytest.raises(CannotContinue) as raised, lost_ranks_named(lambda: "step 1: selecting and stepping"):
        raise error
    text = str(raised.value)
    assert text.startswith(f"step 1: selecting and stepping: the ranks must be able to communicate; got {cause}")
    assert advice in text
    assert "lost" not in text
    assert "start the same command" not in text


def test_ranks_that_cannot_connect_are_told_about_their_interface(monkeypatch):
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "eth7")
    text = "Gloo connectFullMesh failed with [/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:144] no error"
    words = r"must be able to connect to every other one; got Gloo .*; set GLOO_SOCKET_IFNAME \(=eth7\) on each machine"
    with pytest.raises(CannotContinue, match=words), lost_ranks_named(lambda: "setting up"):
        raise RuntimeError(text)


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
