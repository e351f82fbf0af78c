import gc
import subprocess
import sys
import threading
import time
import traceback

import jax
import numpy as np
import pytest

from research.data import arrays, batches, prefetch
from research.errors import UserError


@pytest.fixture(autouse=True)
def no_thread_is_left():
    before = set(threading.enumerate())
    yield
    gc.collect()
    assert set(threading.enumerate()) == before


def workers():
    return [thread for thread in threading.enumerate() if thread.name == "prefetch"]


def wait_until(true):
    deadline = time.monotonic() + 10
    while not true() and time.monotonic() < deadline:
        time.sleep(0.005)


def test_batches_come_in_order_on_the_device():
    source = batches(arrays(x=np.arange(10)), 4)(0)
    steps = list(range(3, 20, 4))
    taken = list(prefetch(source, 3, 20, stride=4, place=jax.device_put))
    assert len(taken) == len(steps)
    for step, (batch, waited) in zip(steps, taken, strict=True):
        assert isinstance(batch["x"], jax.Array) and waited >= 0
        np.testing.assert_array_equal(batch["x"], source(step)["x"])


def test_an_empty_range_gives_nothing():
    assert list(prefetch(lambda step: step, 5, 5, place=lambda x: x)) == []


def test_the_wait_is_measured():
    gate, made = threading.Event(), []

    def source(step):
        if step == 0:
            gate.wait()
        made.append(step)
        return step

    threading.Timer(0.3, gate.set).start()
    steps = prefetch(source, 0, 3, place=lambda x: x)
    assert next(steps)[1] > 0.2  # not before the gate opens
    wait_until(lambda: len(made) == 3)
    assert next(steps)[1] < 0.2  # it was made while the consumer was away
    steps.close()


@pytest.mark.parametrize("depth", [1, 2, 5])
def test_at_most_depth_batches_ahead(depth):
    made = []
    steps = prefetch(lambda step: made.append(step) or step, 0, 40, place=lambda x: x, depth=depth)
    for taken in range(1, 12):
        next(steps)
        wait_until(lambda taken=taken: len(made) - taken > depth // 2)
        time.sleep(0.02)
        assert depth // 2 < len(made) - taken <= depth
    steps.close()


@pytest.mark.parametrize("size, most", [(8, 128), (2**23, 8), (2**30, 2)])
def test_small_batches_wait_in_greater_number(size, most):
    class Batch:
        nbytes = size

    made = []
    steps = prefetch(lambda step: made.append(step) or {"x": Batch()}, 0, 200, place=lambda x: x)
    next(steps)
    wait_until(lambda: len(made) >= most)
    time.sleep(0.02)
    assert most <= len(made) <= most + 1
    steps.close()


@pytest.mark.parametrize("where", ["source", "place"])
def test_an_exception_comes_at_its_step_with_its_traceback(where):
    def breaks_at_three(step):
        if step == 3:
            raise ValueError("record 17 is broken")
        return step

    source, place = (breaks_at_three, lambda x: x) if where == "source" else (lambda x: x, breaks_at_three)
    seen = []
    with pytest.raises(ValueError, match="record 17") as caught:
        for batch, _ in prefetch(source, 0, 10, place=place):
            seen.append(batch)
    assert seen == [0, 1, 2]
    assert "breaks_at_three" in "".join(traceback.format_exception(caught.value))
    assert not workers()


def test_closing_ends_the_thread():
    steps = prefetch(lambda step: step, 0, 10**9, place=lambda x: x)
    next(steps)
    assert len(workers()) == 1
    began = time.perf_counter()
    steps.close()
    assert not workers() and time.perf_counter() - began < 1


def test_dropping_ends_the_thread():
    steps = prefetch(lambda step: step, 0, 10**9, place=lambda x: x)
    next(steps)
    del steps
    gc.collect()
    assert not workers()


def test_leaving_the_loop_by_an_error_ends_the_thread():
    def train():
        for _ in prefetch(lambda step: step, 0, 10**9, place=lambda x: x):
            raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError):
        train()
    gc.collect()
    assert not workers()


def test_collected_inside_its_own_thread():
    holder = []

    def source(step):
        if step == 2:
            holder.clear()  # the last reference is dropped by the worker itself
        return step

    holder.append(prefetch(source, 0, 10**9, place=lambda x: x, depth=1))
    next(holder[0])
    next(holder[0])
    wait_until(lambda: not workers())
    assert not workers()


def test_an_interpreter_that_ends_in_the_middle_ends_well():
    code = """
import jax, numpy as np
from research.data import arrays
from research.data import batches, prefetch
steps = prefetch(batches(arrays(x=np.zeros((100, 1000))), 64)(0), 0, 10**9, place=jax.device_put)
next(steps)
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_errors():
    for wrong in ({"stride": 0}, {"depth": 0}):
        with pytest.raises(UserError, match="at least 1"):
            prefetch(lambda step: step, 0, 4, place=lambda x: x, **wrong)
