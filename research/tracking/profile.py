"""A trace of a few steps in the middle of a run, and what the time went to, by `train --profile`."""

import json
import re
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import jax

from research.events import Ended, Interval, Started
from research.files import write_json
from research.system import resources

STEPS = 20  # of the loop
SECONDS = 10.0  # at the most; a trace grows by megabytes a second
LARGEST = 12  # operations in the summary
COLLECTIVE = re.compile(
    r"all-?reduce|all-?gather|reduce-?scatter|all-?to-?all|collective|permute-(start|done)|nccl", re.I
)
# Of the threads of XLA on a CPU; what has :: in its name, or is told twice, is bookkeeping around operations.
CPU_LINE, BOOKKEEPING = re.compile(r"^tf_XLA"), re.compile(r"::|^end: |^\$|Rendezvous")


class Spent(NamedTuple):
    """What the `seconds` of a trace went to, as shares of them; at most one thing is counted at a time, in this order.

    `compile`: compiling. `compute` and `collectives`: some device computes, or only communicates. `data`: the loop
    waits for a batch and no device works. `host`: all else. `operations` are the longest, [[name, seconds], ...],
    summed over the devices.
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
    """A subscriber (see `tracking.trackers`) that traces `STEPS` steps, or `SECONDS`, after the first interval.

    The trace is `folder`/profile, which TensorBoard and xprof open; the summary is `profile/summary.json`, a `Spent`.
    Steps take longer while they are traced.
    """
    folder, over, state = Path(folder) / "profile", threading.Event(), {}

    def trace():
        options = jax.profiler.ProfileOptions()
        options.python_tracer_level = 0  # every Python call would be written down
        compiled, deaf = resources.compilations()
        began, first = time.perf_counter(), state["position"]()
        jax.profiler.start_trace(folder, profiler_options=options)
        try:
            while not over.wait(0.005):
                if state["position"]() >= first + STEPS or time.perf_counter() - began > SECONDS:
                    break
        finally:
            steps, seconds = state["position"]() - first, time.perf_counter() - began
            jax.profiler.stop_trace()
            deaf()
        state["traced"] = {"seconds": seconds, "steps": steps, "compiled": compiled()}

    def summarise():
        found = sorted(folder.rglob("*.xplane.pb"))
        if found:
            read = jax.profiler.ProfileData.from_file(str(found[-1]))
            spent = summary(read, data_wait=state["data_wait"], **state.pop("traced"))
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
    """A `Spent` of a jax.profiler.ProfileData over `seconds`, in which the loop made `steps`, `compiled` seconds went
    to compiling, and the loop waited for data for the share `data_wait` of the time.
    """
    work, talk, longest = [], [], {}
    for name, start, end in _operations(trace):
        (talk if COLLECTIVE.search(name) else work).append((start, end))
        longest[name] = longest.get(name, 0.0) + end - start
    busy, both = _covered(work), _covered(work + talk)
    compile_, compute, collectives = (min(1.0, x / seconds) for x in (compiled, busy, both - busy))
    idle = max(0.0, 1 - compile_ - compute - collectives)
    data = min(data_wait, idle)
    top = sorted(longest.items(), key=lambda item: -item[1])[:LARGEST]
    return Spent(seconds, steps, compile_, compute, collectives, data, idle - data, [list(item) for item in top])


def described(spent: Spent) -> str:
    """A Spent in a sentence."""
    shares = (("computing", spent.compute), ("collectives", spent.collectives), ("compiling", spent.compile),
              ("waiting for data", spent.data), ("the host", spent.host))  # fmt: skip
    told = ", ".join(f"{name} {100 * share:.0f} %" for name, share in shares)
    return f"Traced {spent.steps} steps in {spent.seconds:.2f} s: {told}."


def read_summary(folder) -> Spent | None:
    """The Spent of a run folder; None where it was not profiled."""
    path = Path(folder) / "profile" / "summary.json"
    return Spent(**json.loads(path.read_text(encoding="utf-8"))) if path.exists() else None


def _operations(trace) -> Iterable[tuple[str, float, float]]:
    """(name, start, end) in seconds of what the devices did: the lines of operations, not those that enclose them."""
    planes = list(trace.planes)
    devices = [plane for plane in planes if plane.name.startswith("/device:") and "CUSTOM" not in plane.name]
    for plane in devices or planes:
        for line in plane.lines:
            # A TPU names its lines; a GPU has one for each stream, and others that sum them up.
            wanted = line.name == "XLA Ops" or line.name.startswith("Stream") if devices else CPU_LINE.search(line.name)
            if not wanted:
                continue
            for event in line.events:
                if event.duration_ns > 0 and (devices or not BOOKKEEPING.search(event.name)):
                    yield event.name, event.start_ns / 1e9, (event.start_ns + event.duration_ns) / 1e9


def _covered(spans) -> float:
    """How much time lies within any of the spans [(start, end), ...]."""
    total, reached = 0.0, float("-inf")
    for start, end in sorted(spans):
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total
