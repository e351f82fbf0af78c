"""Lengths of a run and of its intervals, in the unit that the paper used."""

import math
from typing import NamedTuple

from research.errors import UserError, nearest


class Duration(NamedTuple):
    """An amount of training: `unit` is steps, epochs, examples or percent (of the whole run)."""

    amount: float
    unit: str = "steps"

    def __str__(self):
        return f"{self.amount:g}{'%' if self.unit == 'percent' else ' ' + self.unit}"


def steps(amount) -> Duration:
    """That many optimizer steps."""
    return Duration(amount, "steps")


def epochs(amount) -> Duration:
    """That many passes over the training examples."""
    return Duration(amount, "epochs")


def examples(amount) -> Duration:
    """That many training examples, repeats counted."""
    return Duration(amount, "examples")


def percent(amount) -> Duration:
    """That share of the whole run."""
    return Duration(amount, "percent")


def parse(text: str) -> Duration:
    """A Duration from `500`, `500steps`, `3epochs`, `1e6 examples` or `10%`. Raises UserError otherwise."""
    text = text.strip().lower().replace("%", "percent")
    number = text.rstrip("abcdefghijklmnopqrstuvwxyz ")
    unit = text[len(number) :].strip() or "steps"
    unit = unit if unit.endswith("s") or unit == "percent" else unit + "s"
    if unit not in ("steps", "epochs", "examples", "percent"):
        hint = nearest(unit, ("steps", "epochs", "examples", "percent"))
        raise UserError(f"unknown unit {unit!r} in the duration {text!r}.{hint} Expected e.g. 500, 3epochs, 10%.")
    try:
        return Duration(float(number), unit)
    except ValueError:
        raise UserError(f"{text!r} is not a duration. Expected e.g. 500, 3epochs, 1e6examples, 10%.") from None


def in_steps(duration, *, batch_size=None, epoch_examples=None, total=None, stride: int = 1) -> int:
    """The Duration (or a plain number of steps) as optimizer steps: at least one, a multiple of `stride`.

    A number of steps must be a multiple already; other units are rounded to the nearest.
    """
    duration = duration if isinstance(duration, Duration) else Duration(duration)
    amount, unit = duration
    if not amount > 0 or not math.isfinite(amount):
        raise UserError(f"a duration of {duration} is not positive.")
    if unit == "steps":
        if amount % stride:
            raise UserError(f"{duration} is not a multiple of the {stride} steps that one dispatch takes.")
        return int(amount)
    if unit == "percent":
        if total is None:
            raise UserError(f"{duration} of what? The length of the run itself cannot be given in percent.")
        count = amount / 100 * total
    elif not batch_size or not epoch_examples:
        raise UserError(f"{duration} needs a source that knows its batch size and examples; give steps instead.")
    else:
        count = amount * (epoch_examples if unit == "epochs" else 1) / batch_size
    return max(1, round(count / stride)) * stride
