"""What a life of a run cost in energy: measured where the machine tells, estimated where it does not, and said so."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from research.events import Ended, Started

RAPL = Path("/sys/class/powercap")
WATTS = 10.0  # for the estimate: a busy core of a server with its share of memory and losses


class Meter(NamedTuple):
    """A meter that runs: `joules()` stops it and gives what was used since it was made; `method` says how. `tick()` is
    to be called now and then, some minutes apart at most.
    """

    joules: Callable[[], float]
    method: str
    tick: Callable[[], object] = lambda: None


def meter() -> Meter:
    """The best meter there is here: codecarbon where it is installed (the extra `energy`; it meters GPUs too), else the
    processors' own counters, else an estimate of 10 W for each second that a core was busy with this process.
    """
    return codecarbon() or rapl(RAPL) or estimate()


def codecarbon() -> Meter | None:
    """A meter by codecarbon, or None where it is not installed."""
    try:
        from codecarbon import OfflineEmissionsTracker
    except ImportError:
        return None
    # The country decides on grams of CO2 alone, which are not asked for.
    tracker = OfflineEmissionsTracker(country_iso_code="USA", save_to_file=False, log_level="error")
    tracker.start()

    def joules():
        tracker.stop()
        return 3.6e6 * tracker.final_emissions_data.energy_consumed

    return Meter(joules, "codecarbon")


def rapl(folder) -> Meter | None:
    """A meter by the counters of the processor packages (Intel's RAPL, and AMD's like it), all of this machine's work
    included; or None where they cannot be read, as often without root.
    """
    packages = sorted(path for path in Path(folder).glob("*-rapl:*") if path.name.count(":") == 1)

    def read(name):
        return [int((path / name).read_text()) for path in packages]

    try:
        last, ranges, total = read("energy_uj"), read("max_energy_range_uj"), 0
    except (OSError, ValueError):
        return None
    if not packages:
        return None

    def joules():
        nonlocal last, total
        then, last = last, read("energy_uj")
        # A counter begins again at 0 after some minutes of full load.
        total += sum((now - before) % size for now, before, size in zip(last, then, ranges, strict=True))
        return 1e-6 * total

    return Meter(joules, "RAPL", joules)


def estimate() -> Meter:
    """A meter that takes 10 W for every second of processor time; accelerators are not in it."""
    before = time.process_time()
    return Meter(lambda: WATTS * (time.process_time() - before), f"estimate, {WATTS:g} W a busy core")


def metered(folder, about=None):
    """A subscriber that adds a line {"seconds", "joules", "method"} to `folder/cost.jsonl` for each life of a run."""
    began, running = None, None

    def listen(event):
        nonlocal began, running
        if isinstance(event, Started) and running is None:
            began, running = time.perf_counter(), meter()
        elif running is not None:
            running.tick()
        if isinstance(event, Ended) and running is not None:
            line = {"seconds": time.perf_counter() - began, "joules": running.joules(), "method": running.method}
            with open(Path(folder) / "cost.jsonl", "a", encoding="utf-8") as file:
                print(json.dumps(line), file=file)

    return listen
