"""All processes stop at the same call, however far apart they are when they learn of the signal."""

import random
import signal
import subprocess
import sys
import threading
import time

import pytest

from research.distributed import preemption
from research.distributed.preemption import Interruption


def stopped_at(ranks, *, seed, calls=200):
    """The call at which each of some threads, that stand for ranks, is told to stop; None where none was."""
    rng = random.Random(seed)
    barrier, counts = threading.Barrier(ranks), {}
    interruptions = [Interruption() for _ in range(ranks)]
    found = [None] * ranks

    def exchange(rank):
        def everyone(mine):
            counts[rank] = mine
            barrier.wait(10)
            return list(counts.values())

        return everyone

    def loop(rank, pause):
        for number in range(1, calls + 1):
            if interruptions[rank]():
                found[rank] = number
                return
            time.sleep(pause)

    def news(rank, delay):
        time.sleep(delay)
        interruptions[rank].stop(15, counts=exchange(rank))

    threads = [threading.Thread(target=loop, args=(r, rng.random() * 1e-3)) for r in range(ranks)]
    threads += [threading.Thread(target=news, args=(r, rng.random() * 0.05)) for r in range(ranks)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found, [interruption.calls for interruption in interruptions]


@pytest.mark.parametrize("seed", range(6))
def test_ranks_that_run_apart_stop_at_the_same_call(seed):
    found, calls = stopped_at(4, seed=seed, calls=10_000)
    assert len(set(found)) == 1 and found[0] is not None and calls == found


def test_a_signal_after_the_last_call_of_one_lets_the_others_finish():
    interruption, other = Interruption(), Interruption()
    for _ in range(5):
        assert not interruption()
    counts = lambda mine: [mine, 5]
    for _ in range(3):
        other()
    other.stop(15, counts=counts)
    assert [other(), other()] == [False, False]  # calls 4 and 5, the last ones of the loop
    assert other()


def test_one_process_stops_at_its_next_call_and_keeps_the_first_signal():
    interruption = Interruption()
    assert not interruption() and interruption.number is None
    interruption.stop(10)
    interruption.stop(15)
    assert interruption() and interruption() and interruption.number == 10 and interruption.calls == 3


def test_without_an_agreement_it_raises(monkeypatch):
    monkeypatch.setattr(preemption, "AGREEMENT", 0.05)
    interruption, go = Interruption(), threading.Event()
    counts = lambda mine: go.wait(5) and [mine]
    thread = threading.Thread(target=interruption.stop, args=(15,), kwargs={"counts": counts})
    thread.start()
    while interruption.number is None:
        time.sleep(0.001)
    with pytest.raises(TimeoutError, match="did not agree"):
        interruption()
    go.set()
    thread.join()


def test_a_second_ctrl_c_leaves_at_once():
    """While the step or the save that the first one waits for goes on and on."""
    script = (
        "import time\n"
        "from research.distributed.preemption import signals\n"
        "with signals(print):\n"
        "    print('ready', flush=True)\n"
        "    while True: time.sleep(0.05)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    time.sleep(0.3)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    assert process.wait(10) == 130
    assert "Press Ctrl-C again to quit now" in process.communicate()[1]
