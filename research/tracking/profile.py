"""A profiler trace of a few steps in the middle of a run, and its summary, for `train --profile`."""

import re
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import jax

from research.events import Ended, Interval, Started
from research.files import read_json, write_json
from research.system import resources

STEPS = 20  # steps of the loop in a trace
SECONDS = 10.0  # maximum duration; a trace grows by megabytes per second
LARGEST = 12  # operations in the summary
COLLECTIVE = re.compile(
    r"all-?reduce|all-?gather|reduce-?scatter|all-?to-?all|collective|permute-(start|done)|nccl", re.I
)
# XLA's threads on a CPU. Events with :: in their names, and duplicates of other events, are not operations.
CPU_LINE, BOOKKEEPING = re.compile(r"^tf_XLA"), re.compile(r"::|^end: |^\$|Rendezvous")


class Spent(NamedTuple):
    """The time of a trace of `seconds`, as fractions per activity.

    Each moment counts once, for the first activity that applies. `compile`: compiling. `compute`: a device computes.
    `collectives`: devices only communicate. `data`: the loop waits for a batch and no device works. `host`: everything
    else. `operations`: the longest operations, [[name, seconds], ...], summed over the devices.
    """

    seconds: float
    steps: int
    compile: float
    compute: float
    collectives: float
    data: float
    host: float
    operations: list


def profiler(folder, about=None):
    """Return a subscriber that traces `STEPS` steps, or at most `SECONDS`, after the first interval.

    The trace is written to `folder`/profile, for TensorBoard and xprof, and its `Spent` to `profile/summary.json`.
    Tracing slows the steps down.
    """
    folder, over, state = Path(folder) / "profile", threading.Event(), {}

    def trace():
        options = jax.profiler.ProfileOptions()
        options.python_tracer_level = 0  # otherwise every Python call would be recorded
        compile_seconds, close = resources.compilations()
        began, first = time.perf_counter(), state["position"]()
        jax.profiler.start_trace(folder, profiler_options=options)
        try:
            while not over.wait(0.005):
                if state["position"]() >= first + STEPS or time.perf_counter() - began > SECONDS:
                    break
        finally:
            steps, seconds = state["position"]() - first, time.perf_counter() - began
            jax.profiler.stop_trace()
            close()
        state["traced"] = {"seconds": seconds, "steps": steps, "compiled": compile_seconds()}

    def summarise():
        traces = sorted(folder.rglob("*.xplane.pb"))
        if traces:
            trace = jax.profiler.ProfileData.from_file(str(traces[-1]))
            spent = summary(trace, data_wait=state["data_wait"], **state.pop("traced"))
            write_json(folder / "summary.json", spent._asdict())

    def listen(event):
        match event:
            case Started():
                state["position"] = event.position
            case Interval():
                state["data_wait"] = event.timing["data_wait"]
                if "thread" not in state:
                    state["thread"] = threading.Thread(target=trace, name="profiler", daemon=True)
                    state["thread"].start()
            case Ended() if "thread" in state:
                over.set()
                state["thread"].join()
        if "traced" in state:
            summarise()

    return listen


def summary(trace, *, seconds: float, steps: int, compiled: float = 0.0, data_wait: float = 0.0) -> Spent:
    """Summarise a jax.profiler.ProfileData as a `Spent`.

    The trace lasted `seconds`, with `steps` steps of the loop, `compiled` seconds of compilation, and the fraction
    `data_wait` of the time spent waiting for data.
    """
    compute_spans, collective_spans, longest = [], [], {}
    for name, start, end in _operations(trace):
        (collective_spans if COLLECTIVE.search(name) else compute_spans).append((start, end))
        longest[name] = longest.get(name, 0.0) + end - start
    busy, both = _covered(compute_spans), _covered(compute_spans + collective_spans)
    compile_, compute, collectives = (min(1.0, x / seconds) for x in (compiled, busy, both - busy))
    idle = max(0.0, 1 - compile_ - compute - collectives)
    data = min(data_wait, idle)
    top = sorted(longest.items(), key=lambda item: -item[1])[:LARGEST]
    return Spent(seconds, steps, compile_, compute, collectives, data, idle - data, [list(item) for item in top])


def described(spent: Spent) -> str:
    """Format a Spent as a sentence."""
    fractions = (("computing", spent.compute), ("collectives", spent.collectives), ("compiling", spent.compile),
              ("waiting for data", spent.data), ("host", spent.host))  # fmt: skip
    text = ", ".join(f"{name} {100 * fraction:.0f} %" for name, fraction in fractions)
    return f"Traced {spent.steps} steps in {spent.seconds:.2f} s: {text}."


def read_summary(folder) -> Spent | None:
    """Read the Spent of a run folder; None if the run was not profiled."""
    path = Path(folder) / "profile" / "summary.json"
    return Spent(**read_json(path)) if path.exists() else None


def _operations(trace) -> Iterable[tuple[str, float, float]]:
    """(name, start, end) of every device operation, in seconds; enclosing scopes are left out."""
    planes = list(trace.planes)
    devices = [plane for plane in planes if plane.name.startswith("/device:") and "CUSTOM" not in plane.name]
    for plane in devices or planes:
        for line in plane.lines:
            # A TPU names its lines of operations; a GPU has one line per stream, and others that aggregate them.
            wanted = line.name == "XLA Ops" or line.name.startswith("Stream") if devices else CPU_LINE.search(line.name)
            if not wanted:
                continue
            for event in line.events:
                if event.duration_ns > 0 and (devices or not BOOKKEEPING.search(event.name)):
                    yield event.name, event.start_ns / 1e9, (event.start_ns + event.duration_ns) / 1e9


def _covered(spans) -> float:
    """The total time within the union of the spans [(start, end), ...]."""
    total, last_end = 0.0, float("-inf")
    for start, end in sorted(spans):
        total += max(0.0, end - max(start, last_end))
        last_end = max(last_end, end)
    return total
