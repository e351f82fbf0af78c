"""Which turns of the contenders were disturbed.

A process on another machine of the same host shows in no list of processes. It takes time from this machine (steal),
slows its memory (CPU time per step), and comes in bursts (spread).
"""

import statistics
from collections.abc import Iterable, Mapping
from typing import Any

FOREIGN = 0.03  # the share of the cores that other processes and the host may take in a turn
STEAL = 0.01  # the share that the host alone may take
SPREAD = 1.15  # the slowest part of a turn by its fastest
CPU = 1.10  # the CPU time of a step by the median of the contender's turns, or the inverse


def disturbances(rounds: Iterable[Mapping[str, Any]]) -> dict[tuple[str, int], list[str]]:
    """Of every turn, by (contender, round), what disturbed it: nothing in a stable turn."""
    turns = list(rounds)
    names = {turn["contender"] for turn in turns}
    usual = {name: statistics.median(t["cpu_ms"] for t in turns if t["contender"] == name) for name in names}

    def found(turn):
        low, high = sorted((turn["cpu_ms"], usual[turn["contender"]]))
        limits = {
            "steal": turn["steal"] > STEAL,
            "other processes": turn["foreign"] - turn["steal"] > FOREIGN,
            "spread": max(turn["parts"]) > SPREAD * min(turn["parts"]),
            "CPU time": high > CPU * low,
        }
        return [name for name, above in limits.items() if above]

    return {(turn["contender"], turn["round"]): found(turn) for turn in turns}


def stable(rounds: Iterable[Mapping[str, Any]]) -> dict[str, list[int]]:
    """The rounds of every contender in which its turn was stable."""
    result: dict[str, list[int]] = {}
    for (name, number), found in disturbances(rounds).items():
        result.setdefault(name, []).extend([] if found else [number])
    return result
