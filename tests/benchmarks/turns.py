"""A contender's side: it says when it is set up, then works when it is told to and sleeps in between."""

import argparse
import contextlib
import functools
import json
import os
import resource
import socket
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tests.benchmarks.works import Work, work


class Gate:
    """Between a contender and the harness: `turn()` reports the turn that ended and sleeps until the next."""

    def __init__(self, channel):
        self._file = channel.makefile("rw")
        self.facts: dict[str, Any] = {}
        self._began = None

    def turn(self, *, loss: float | None = None, seconds: float | None = None) -> int:
        """The steps to do next; 0 is the end. Call it when the results of the last turn are there.

        `loss` is that of the last step, read when the clock has stopped by calling it where it is a function;
        `seconds` replaces the clock where a turn has parts that do not count.
        """
        if self._began is not None:
            report = passed(self._began, _clocks())
            if seconds is not None:
                report["seconds"] = seconds
            report["loss"] = float(loss()) if callable(loss) else loss
            report["rss"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
            self._send({**report, "facts": self.facts})
        else:
            self._send({"facts": self.facts})
        line = self._file.readline()
        steps = int(line) if line else 0
        self._began = _clocks()
        return steps

    def _send(self, report):
        self._file.write(json.dumps(report) + "\n")
        self._file.flush()


def turns(gate: Gate, step: Callable[[], Any], *, wait: Callable[[Any], Any], loss=None):
    """The turns of a contender that is a function: `step()` begins a step, `wait(result)` returns when it is done.

    `loss(result)` is the loss of the step.
    """
    read = None
    while steps := gate.turn(loss=read):
        for _ in range(steps):
            result = step()
        wait(result)
        read = functools.partial(loss, result) if loss else None


def serve(contenders: Mapping[str, Callable[[Work, Gate], None]]):
    """The main program of a contender's process: `CONTENDER WORK --channel FD [--quick]`."""
    parser = argparse.ArgumentParser()
    parser.add_argument("contender", choices=contenders)
    parser.add_argument("work")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--channel", type=int, required=True)
    given = parser.parse_args()
    with socket.socket(fileno=given.channel) as channel:
        contenders[given.contender](work(given.work, quick=given.quick), Gate(channel))
    os._exit(0)  # what threads a framework left behind is no matter


def _clocks():
    """(wall clock, CPU time of this process and its children, of the whole machine, taken by its host), in seconds."""
    return time.perf_counter(), own(), *_machine()


def passed(before, after) -> dict[str, float]:
    """What a turn took, and the shares of the cores that others took (`foreign`), its host among them (`steal`)."""
    wall, own, machine, stolen = (b - a for a, b in zip(before, after, strict=True))
    share = lambda seconds: min(1.0, max(0.0, seconds) / (wall * os.cpu_count())) if wall else 0.0
    return {"seconds": wall, "cpu": own, "foreign": share(machine - own), "steal": share(stolen)}


def own() -> float:
    """CPU time of this process, of children that live (the workers of a loader) and that have ended, in seconds."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    total, tick = time.process_time() + ended.ru_utime + ended.ru_stime, os.sysconf("SC_CLK_TCK")
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # a thread or a child that has just ended
            for child in (task / "children").read_text().split():
                fields = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()
                total += (int(fields[11]) + int(fields[12])) / tick
    return total


def _machine() -> tuple[float, float]:
    """CPU time that all processes of the machine and its host have had, and that the host has taken, in seconds."""
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(
        int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]
    )
    tick = os.sysconf("SC_CLK_TCK")
    return (user + nice + system + irq + softirq + steal) / tick, steal / tick
