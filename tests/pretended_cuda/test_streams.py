"""What a GPU could run in another order is refused."""

import threading

import pytest
import torch

from tests.pretended_cuda import CUDA, LEDGER, pretended_cuda


@pytest.fixture(autouse=True)
def device():
    with pretended_cuda():
        yield


def _made_aside():
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        made = torch.ones(3).to(CUDA, non_blocking=True) * 2
        done = torch.cuda.Event()
        done.record()
    return stream, made, done


def test_work_of_another_stream_must_be_waited_for():
    _, made, done = _made_aside()
    made.record_stream(torch.cuda.current_stream())
    with pytest.raises(RuntimeError, match="mul may read a tensor before another stream has made it"):
        made * 2
    torch.cuda.current_stream().wait_event(done)
    assert (made * 2).tolist() == [4, 4, 4]


def test_what_came_after_the_event_is_not_ordered_by_it():
    stream, made, done = _made_aside()
    with torch.cuda.stream(stream):
        later = made + 1
    later.record_stream(torch.cuda.current_stream())
    done.synchronize()
    with pytest.raises(RuntimeError, match="before another stream has made it"):
        later + 1
    torch.cuda.current_stream().wait_stream(stream)
    later + 1


def test_memory_of_another_stream_must_be_recorded():
    _, made, done = _made_aside()
    done.synchronize()
    with pytest.raises(RuntimeError, match="without `record_stream`"):
        made * 2


def test_work_of_the_default_stream_is_not_there_yet_for_another_one():
    made = torch.ones(3, device=CUDA)
    stream = torch.cuda.Stream()
    made.record_stream(stream)
    with torch.cuda.stream(stream), pytest.raises(RuntimeError, match="before another stream has made it"):
        made + 1
    torch.cuda.synchronize()
    with torch.cuda.stream(stream):
        made + 1


def test_threads_have_the_device_and_their_waits_hold_nothing_up():
    LEDGER.clear()
    found = []

    def work():
        found.append(torch.ones(3, device="cuda").sum().item())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [3.0]
    assert not LEDGER.waits
    assert LEDGER.waits_aside.total() == 1
