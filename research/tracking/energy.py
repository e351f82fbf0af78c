"""The energy of a run, measured if the machine allows it, otherwise estimated; the record names the method."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from research.events import Ended, Started

RAPL = Path("/sys/class/powercap")
WATTS = 10.0  # for the estimate: a busy core of a server, with its part of memory and losses


class Meter(NamedTuple):
    """A running energy meter.

    `joules()`: stop the meter and return the energy since its creation. `method`: the name of the method. `tick()`:
    must be called every few minutes, because hardware counters wrap around.
    """

    joules: Callable[[], float]
    method: str
    tick: Callable[[], object] = lambda: None


def meter() -> Meter:
    """Start the best available meter.

    codecarbon if it is installed (the extra `energy`; it includes GPUs), otherwise the counters of the processors,
    otherwise an estimate of 10 W for each second of processor time of this process.
    """
    return codecarbon() or rapl(RAPL) or estimate()


def codecarbon() -> Meter | None:
    """Start a meter of codecarbon; None if it is not installed."""
    try:
        from codecarbon import OfflineEmissionsTracker
    except ImportError:
        return None
    # The country affects only the grams of CO2, which are not used.
    tracker = OfflineEmissionsTracker(country_iso_code="USA", save_to_file=False, log_level="error")
    tracker.start()

    def joules():
        tracker.stop()
        return 3.6e6 * tracker.final_emissions_data.energy_consumed

    return Meter(joules, "codecarbon")


def rapl(folder) -> Meter | None:
    """Start a meter that reads the counters of the processor packages (RAPL, of Intel and AMD).

    They count all work of the machine. Returns None if they cannot be read, which often needs root.
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
        previous, last = last, read("energy_uj")
        # A counter wraps around to 0 after some minutes of full load.
        total += sum((now - before) % size for now, before, size in zip(last, previous, ranges, strict=True))
        return 1e-6 * total

    return Meter(joules, "RAPL", joules)


def estimate() -> Meter:
    """Start a meter that assumes 10 W for every second of processor time; accelerators are not included."""
    before = time.process_time()
    return Meter(lambda: WATTS * (time.process_time() - before), f"estimate, {WATTS:g} W a busy core")


def metered(folder, about=None):
    """Return a subscriber that appends {"seconds", "joules", "method"} to `folder/cost.jsonl` per process of a run."""
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
