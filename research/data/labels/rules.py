"""Labelling rules: functions of a record that vote for a class or abstain (data programming, Ratner et al. 2016)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from research.axes import Int
from research.data.labels.crowd import ABSTAIN
from research.data.readers import records
from research.data.readers.arrays import data_set
from research.errors import UserError, unknown


def apply_rules(data, rules: Mapping[str, Callable], *, classes: tuple[str, ...]) -> Int[np.ndarray, "raters rows"]:
    """Return the votes of `rules`, {name: rule}, on every record, with -1 if a rule abstains.

    A rule is `rule(record) -> class name or None`. Combine the votes with `dawid_skene`, which estimates the accuracy
    of each rule from their agreement; the class probabilities are labels for `classify`.
    Raises UserError without rules, and for an answer that is not in `classes` (with the nearest one).
    """
    data = data_set(data)
    if not rules:
        raise UserError('there are no rules; expected, for example, {"link": lambda record: "spam" or None}.')
    numbers = {name: number for number, name in enumerate(classes)}
    votes = np.full((len(rules), len(data)), ABSTAIN)
    for start in range(0, len(data), 1024):
        for row, record in enumerate(records.records(data, range(start, min(start + 1024, len(data)))), start):
            for r, (name, rule) in enumerate(rules.items()):
                answer = rule(record)
                if answer is not None and answer not in numbers:
                    raise unknown(f"class of record {row} by the rule {name!r}", answer, classes)
                votes[r, row] = ABSTAIN if answer is None else numbers[answer]
    return votes


class RuleStats(NamedTuple):
    """How a rule votes: fractions of all rows, and its accuracy where the truth is known (NaN if it is not)."""

    coverage: float
    overlap: float
    conflict: float
    accuracy: float


def rule_table(
    votes: Int[np.ndarray, "raters rows"], names: tuple[str, ...], *, labels: Int[np.ndarray, " rows"] | None = None
) -> dict[str, RuleStats]:
    """Return for each rule how often it votes, votes beside another rule, and contradicts another rule.

    With `labels` (-1 if unknown), also the accuracy of its votes.
    """
    voted = votes != ABSTAIN
    table = {}
    for r, name in enumerate(names):
        others = np.delete(votes, r, 0)
        beside = voted[r] & (others != ABSTAIN).any(0)
        against = voted[r] & ((others != ABSTAIN) & (others != votes[r])).any(0)
        judged = voted[r] & (labels >= 0) if labels is not None else np.zeros(len(voted[r]), bool)
        accuracy = float((votes[r] == labels)[judged].mean()) if judged.any() else float("nan")
        table[name] = RuleStats(float(voted[r].mean()), float(beside.mean()), float(against.mean()), accuracy)
    return table
