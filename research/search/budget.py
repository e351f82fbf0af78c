"""How much a sweep may spend: trials, time, steps."""

import re
from typing import NamedTuple

from research.errors import UserError, nearest

UNITS = {"trials": 1, "steps": 1, "s": 1, "min": 60, "h": 3600, "d": 86400}


class Budget(NamedTuple):
    """No trial begins once one of these is spent; None is without end.

    `seconds` are those in which a worker trained, added up over workers: two workers for an hour are two hours.
    `steps` are optimizer steps of all trials. The trials that run then run to their end.
    """

    trials: int | None = None
    seconds: float | None = None
    steps: int | None = None


def parse(text: str) -> Budget:
    """A Budget from `50trials`, `2h` (s, min, h, d), `1e6steps`, or several with commas. Raises UserError."""
    found = Budget()
    for part in str(text).split(","):
        matched = re.fullmatch(r"\s*([0-9.]+(?:e[+-]?\d+)?)\s*([a-z]*)\s*", part.lower())
        if not matched:
            raise UserError(f"{part!r} is not a budget. Expected e.g. 50trials, 2h, 1e6steps, or 50trials,2h.")
        amount, unit = matched.groups()
        unit = {"": "trials", "trial": "trials", "step": "steps"}.get(unit, unit)
        if unit not in UNITS:
            raise UserError(
                f"unknown unit {unit!r} in the budget {text!r}.{nearest(unit, UNITS)} Valid: {', '.join(UNITS)}."
            )
        try:
            amount = float(amount) * UNITS[unit]
        except ValueError:
            raise UserError(f"{part!r} is not a budget: {amount!r} is not a number.") from None
        if amount <= 0:
            raise UserError(f"the budget {part!r} allows nothing.")
        field = unit if unit in ("trials", "steps") else "seconds"
        if getattr(found, field) is not None:
            raise UserError(f"the budget {text!r} gives its {field} twice.")
        found = found._replace(**{field: amount if field == "seconds" else max(1, round(amount))})
    return found


def spent(budget: Budget, *, trials: int, seconds: float, steps: int) -> str:
    """Which part of the budget is spent, in words; empty where there is some left."""
    if budget.trials is not None and trials >= budget.trials:
        return f"{trials} trials"
    if budget.seconds is not None and seconds >= budget.seconds:
        return f"{seconds:.0f} s of training"
    if budget.steps is not None and steps >= budget.steps:
        return f"{steps} steps"
    return ""
