"""Durations of a run and its intervals, in steps, epochs, examples or percent."""

import math
from typing import NamedTuple

from research.errors import UserError, nearest


class Duration(NamedTuple):
    """An amount of training. `unit` is "steps", "epochs", "examples" or "percent" (of the complete run)."""

    amount: float
    unit: str = "steps"

    def __str__(self):
        # The text identifies the duration in a run folder, thus no digit may be missing.
        amount = int(self.amount) if self.amount == self.amount // 1 and abs(self.amount) < 2**53 else self.amount
        return f"{amount}{'%' if self.unit == 'percent' else ' ' + self.unit}"


def steps(amount) -> Duration:
    """Return a Duration of `amount` optimizer steps."""
    return Duration(amount, "steps")


def epochs(amount) -> Duration:
    """Return a Duration of `amount` passes over the training examples."""
    return Duration(amount, "epochs")


def examples(amount) -> Duration:
    """Return a Duration of `amount` training examples; a repeated example counts each time."""
    return Duration(amount, "examples")


def percent(amount) -> Duration:
    """Return a Duration of `amount` percent of the complete run."""
    return Duration(amount, "percent")


def parse(text: str) -> Duration:
    """Parse a Duration such as `500`, `500steps`, `3epochs`, `1e6 examples` or `10%`. Raises UserError otherwise."""
    text = text.strip().lower().replace("%", "percent")
    number = text.rstrip("abcdefghijklmnopqrstuvwxyz ")
    unit = text[len(number) :].strip() or "steps"
    unit = unit if unit.endswith("s") or unit == "percent" else unit + "s"
    if unit not in ("steps", "epochs", "examples", "percent"):
        hint = nearest(unit, ("steps", "epochs", "examples", "percent"))
        raise UserError(f"unknown unit {unit!r} in the duration {text!r}.{hint} Examples: 500, 3epochs, 10%.")
    try:
        return Duration(float(number), unit)
    except ValueError:
        raise UserError(f"{text!r} is not a duration. Examples: 500, 3epochs, 1e6examples, 10%.") from None


class Period(NamedTuple):
    """A repeated interval of `length` steps, which ends at the steps round(i * length), i = 1, 2, ...

    Roundings do not add up: ten intervals of 10 % of 625 steps end at step 625; ten intervals of 62 steps would not.
    `length` is at least `stride`, and the ends are rounded to multiples of `stride`.
    """

    length: float
    stride: int = 1

    def ends_at(self, step: int) -> bool:
        """Whether an interval ends at `step`, a multiple of the stride."""
        dispatches, length = step // self.stride, self.length / self.stride
        return step > 0 and round(round(dispatches / length) * length) == dispatches

    def next_end(self, step: int) -> int:
        """Return the first step after `step`, a multiple of the stride, at which an interval ends."""
        dispatches, length = step // self.stride, self.length / self.stride
        number = max(1, int(dispatches / length))
        while round(number * length) <= dispatches:
            number += 1
        return round(number * length) * self.stride


def in_steps(duration, **options) -> int:
    """Convert a Duration, or a plain number of steps, to optimizer steps: at least one, and a multiple of `stride`.

    Durations in epochs, examples or percent are rounded to the nearest multiple. `options` are those of `period`, which
    also raises the errors.
    """
    length, stride = period(duration, **options)
    return round(length / stride) * stride


def period(
    duration, *, batch_size=None, epoch_examples=None, total=None, stride: int = 1, name: str = "duration"
) -> Period:
    """Convert a Duration, or a plain number of steps, to the Period of intervals of this length.

    `name` is the name of the argument, for messages. Raises UserError for a value of another type, if a number of steps
    is not whole or not a multiple of `stride`, if the amount is not positive and finite, or if `batch_size`,
    `epoch_examples` or `total` is needed but missing.
    """
    duration = duration if isinstance(duration, Duration) else Duration(duration)
    amount, unit = duration
    whole = f"{name}={amount!r}; expected a whole number of steps, epochs(...) or percent(10)."
    if isinstance(amount, bool | str) or not hasattr(amount, "__float__"):
        raise UserError(whole)
    if not amount > 0 or not math.isfinite(amount):
        raise UserError(f"the duration {name}={duration} must be positive and finite.")
    if unit == "steps":
        if amount % 1:
            raise UserError(whole)
        if amount % stride:
            raise UserError(f"{name}: {duration} is not a multiple of the stride, {stride} steps per dispatch.")
        return Period(int(amount), stride)
    if unit == "percent":
        if total is None:
            raise UserError(f"the length of a run cannot be {duration}; give it in steps, epochs or examples.")
        count = amount / 100 * total
    elif not batch_size or not epoch_examples:
        raise UserError(
            f"{name}: {duration} needs a source with a batch size and a number of examples; give steps instead."
        )
    else:
        count = amount * (epoch_examples if unit == "epochs" else 1) / batch_size
    return Period(max(count, stride), stride)
