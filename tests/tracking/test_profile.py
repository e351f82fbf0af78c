"""A traced run says what its time went to."""

from types import SimpleNamespace

import jax
import pytest

from research.events import Ended, Interval, Started
from research.tracking.profile import described, profiler, read_summary, summary


def event(name, start, end):
    return SimpleNamespace(name=name, start_ns=start * 1e9, duration_ns=(end - start) * 1e9)


def trace(**planes):
    named = {"device": "/device:GPU:0", "host": "/host:CPU", "more": "/device:GPU:1"}
    return SimpleNamespace(planes=[
        SimpleNamespace(name=named[key], lines=[SimpleNamespace(name=name, events=events) for name, events in lines])
        for key, lines in planes.items()
    ])  # fmt: skip


def test_shares_of_a_trace_by_hand():
    found = summary(
        trace(
            device=[
                ("Stream #1(compute)", [event("fusion", 0, 2), event("gemm", 1, 3), event("gemm", 3, 4)]),
                ("Stream #2(nccl)", [event("ncclDevKernel_AllReduce", 3, 6)]),
                ("XLA Modules", [event("jit_step", 0, 10)]),  # encloses the others
            ],
            more=[("Stream #7", [event("fusion", 0, 1)])],
            host=[("tf_XLAPjRtCpuClient/1", [event("dot", 0, 10)])],
        ),
        seconds=10.0, steps=5, compiled=1.0, data_wait=0.2,
    )  # fmt: skip
    assert found[:2] == (10.0, 5)
    # Of ten seconds: 0 to 4 some device computes, 4 to 6 it only communicates, 1 went to compiling, 2 to data.
    assert (found.compute, found.collectives, found.compile) == pytest.approx((0.4, 0.2, 0.1))
    assert (found.data, found.host) == pytest.approx((0.2, 0.1))
    assert dict(found.operations) == pytest.approx({"fusion": 3, "gemm": 3, "ncclDevKernel_AllReduce": 3})


def test_waiting_counts_only_while_no_device_works():
    busy = trace(device=[("XLA Ops", [event("fusion", 0, 9)])])
    found = summary(busy, seconds=10.0, steps=1, data_wait=0.5)
    assert (found.data, found.host) == pytest.approx((0.1, 0.0))


def test_a_run_is_traced_after_its_first_interval(tmp_path):
    step = jax.jit(lambda x: x @ x)
    x = step(jax.numpy.ones((300, 300))).block_until_ready()
    at = 0
    listen = profiler(tmp_path)
    listen(Started(0, 100, lambda: at))
    assert read_summary(tmp_path) is None
    listen(Interval(1, {}, {"data_wait": 0.25}))
    while read_summary(tmp_path) is None and at < 100_000:
        at += 1
        step(x).block_until_ready()
        if at % 50 == 0:
            listen(Interval(at, {}, {"data_wait": 0.125}))
    listen(Ended(at, "finished", {}))
    found = read_summary(tmp_path)
    assert found.steps >= 20 and found.seconds > 0
    assert 0 < found.compute <= 1
    assert sum(found[2:7]) == pytest.approx(1)
    assert all(seconds > 0 for _, seconds in found.operations) and found.operations
    assert "computing" in described(found)
    assert list((tmp_path / "profile").rglob("*.xplane.pb"))


def test_a_run_that_ends_at_once_leaves_nothing(tmp_path):
    listen = profiler(tmp_path)
    listen(Started(0, 100, lambda: 0))
    listen(Ended(0, "failed", {}))
    assert not (tmp_path / "profile").exists()
