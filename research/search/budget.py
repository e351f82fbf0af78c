"""Limits on the cost of a sweep: trials, time and steps."""

import re
from typing import NamedTuple

from research.errors import UserError, nearest

UNITS = {"trials": 1, "steps": 1, "s": 1, "min": 60, "h": 3600, "d": 86400}


class Budget(NamedTuple):
    """Limits of a sweep; once one of them is reached, no new trial starts. None means no limit.

    `seconds` is training time summed over workers: two workers for one hour are two hours. `steps` are the optimizer
    steps of all trials. Trials that are already running continue to their end.
    """

    trials: int | None = None
    seconds: float | None = None
    steps: int | None = None


def parse(text: str) -> Budget:
    """Parse a Budget from `50trials`, `2h` (units s, min, h, d), `1e6steps`, or several of them separated by commas.

    Raises UserError if the text is not a budget.
    """
    budget = Budget()
    for part in str(text).split(","):
        matched = re.fullmatch(r"\s*([0-9.]+(?:e[+-]?\d+)?)\s*([a-z]*)\s*", part.lower())
        if not matched:
            raise UserError(f"{part!r} is not a budget; expected, for example, 50trials, 2h, 1e6steps or 50trials,2h.")
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
            raise UserError(f"the budget must be positive, not {part!r}.")
        field = unit if unit in ("trials", "steps") else "seconds"
        if getattr(budget, field) is not None:
            raise UserError(f"the budget {text!r} sets {field} twice.")
        budget = budget._replace(**{field: amount if field == "seconds" else max(1, round(amount))})
    return budget


def spent(budget: Budget, *, trials: int, seconds: float, steps: int) -> str:
    """Return the part of the budget that is spent, in words; empty if the sweep may continue."""
    if budget.trials is not None and trials >= budget.trials:
        return f"{trials} trials"
    if budget.seconds is not None and seconds >= budget.seconds:
        return f"{seconds:.0f} s of training"
    if budget.steps is not None and steps >= budget.steps:
        return f"{steps} steps"
    return ""
