"""The learning-rate range test: a short training run while the rate rises from far too low to far too high."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from research.diagnose.case import Case, probed, stepper, training_batches
from research.diagnose.finding import Finding
from research.diagnose.outcome import Outcome, Passed, Skipped
from research.html import marks
from research.html.chart import Axis, chart, save

LOWEST, HIGHEST = 1e-4, 1e2  # relative to the experiment's own rate


class Range(NamedTuple):
    """The result of a range test. Rates are factors relative to the experiment's highest rate.

    `factors`, `losses`, `smoothed` [n]: the tested rates and the loss at each. `reference`: the learning rate at factor
    1, None if the experiment declares none. `steepest`: the factor at which the smoothed loss falls fastest. `turning`:
    at its minimum. `diverged`: from where it stays high, None if it does not. `suggestion`: the smaller of `steepest`
    and a tenth of `diverged`. `steepest` and `suggestion` are None if the loss never fell.
    """

    factors: np.ndarray
    losses: np.ndarray
    smoothed: np.ndarray
    reference: float | None
    steepest: float | None
    turning: float
    diverged: float | None
    suggestion: float | None

    def rate(self, factor) -> str:
        """Format a factor as a learning rate, or relative to the current rate if that is unknown."""
        if self.reference is None:
            return "the current rate" if factor == 1 else f"{factor:.2g} x the current rate"
        return f"{factor * self.reference:.2g}"


def peak(case: Case) -> tuple[int, float] | None:
    """Return (step, rate) of the maximum of the declared schedule "learning_rate"; None without such a schedule."""
    schedule = case.built.wired.schedules.get("learning_rate")
    if schedule is None:
        return None
    steps = np.unique(np.linspace(0, max(0, case.built.total - 1), 1000).astype(np.int32))
    rates = np.asarray(jax.jit(jax.vmap(lambda step: jnp.asarray(schedule(step), jnp.float32)))(steps))
    return int(steps[rates.argmax()]), float(rates.max())


def prepared(case: Case, *, grad_fn=None):
    """Return (step, state) with a probed optimizer whose schedules are frozen at the highest declared rate."""
    at = peak(case)
    return stepper(case, optimizer=probed(case.built.wired.optimizer, at=at[0] if at else None), grad_fn=grad_fn)


def range_test(case: Case, probe=None, *, steps: int = 100) -> Range:
    """Run the learning-rate range test (Smith 2017, section 3.3) with an exponentially rising rate.

    The experiment makes up to `steps` steps on its own batches, with updates of 1e-4 to 100 times those at its highest
    rate. The test stops when the loss has diverged.

    The optimizer's updates are multiplied; the experiment is not edited. This equals a change of the rate if updates
    are proportional to it, as in SGD (with or without momentum), Adam, AdamW, Muon and Lion, including their weight
    decay. It does not if the rate is part of a state, as in schedule-free methods. Schedules of optax are frozen at the
    step of the highest rate. `probe` is the result of `prepared`.
    """
    step, state = probe or prepared(case)
    batch_at, highest = training_batches(case), peak(case)
    factors, losses = np.geomspace(LOWEST, HIGHEST, steps), []
    for number, factor in enumerate(factors):
        state = state._replace(opt=state.opt._replace(factor=np.float32(factor)))
        state, metrics = step(state, batch_at(number))
        losses.append(float(metrics["loss"].value()))
        smoothed = smooth(losses)
        if not np.isfinite(losses[-1]) or (
            number >= 10 and smoothed[-1] > 3 * max(smoothed[0], _limit(losses, smoothed))
        ):
            break
    return judged(factors[: len(losses)], losses, reference=highest[1] if highest else None)


def judged(factors, losses, *, reference: float | None = None) -> Range:
    """Analyse losses [n] at rising factors [n]; the last loss may be NaN or infinite.

    The loss has diverged where the smoothed loss stays above its start, or above 4 x its minimum if that is lower, and
    above the minimum by 3 x the noise, which is the median distance of single losses from the smoothed loss.
    """
    factors, losses = np.asarray(factors, np.float64), np.asarray(losses, np.float64)
    smoothed = smooth(losses)
    finite = np.isfinite(smoothed)
    lowest = int(np.nanargmin(np.where(finite, smoothed, np.nan))) if finite.any() else 0
    limit = _limit(losses, smoothed)
    over = np.flatnonzero((~finite | (smoothed > limit)) & (np.arange(len(factors)) > lowest))
    inside = np.flatnonzero(finite & (smoothed <= limit))
    over = over[over > (inside.max() if len(inside) else -1)]
    diverged = float(factors[over[0]]) if len(over) else None
    steepest = None
    start, noise = losses[:5].mean(), np.nanmedian(np.abs(losses - smoothed))
    # The minimum of many noisy losses is below their mean even without learning.
    if lowest >= 2 and start - smoothed[lowest] > 0.02 * abs(start) + 1.5 * noise:
        first = min(5, lowest - 1)  # earlier averages contain only a few noisy losses
        slope = np.gradient(smoothed[first : lowest + 1], np.log(factors[first : lowest + 1]))
        steepest = float(factors[first + int(np.argmin(slope))])
    suggestion = None if steepest is None else min(steepest, diverged / 10) if diverged else steepest
    return Range(factors, losses, smoothed, reference, steepest, float(factors[lowest]), diverged, suggestion)


def smooth(losses, beta: float = 0.8) -> np.ndarray:
    """Return the bias-corrected exponential moving average of losses [n] (Kingma & Ba 2015, section 3)."""
    average, averages = 0.0, []
    for number, loss in enumerate(losses, 1):
        average = beta * average + (1 - beta) * loss
        averages.append(average / (1 - beta**number))
    return np.array(averages)


def _limit(losses, smoothed):
    """The limit above which the smoothed loss has diverged."""
    low, start = np.min(smoothed[np.isfinite(smoothed)], initial=np.inf), smoothed[0]
    noise = np.nanmedian(np.abs(np.asarray(losses) - smoothed))
    return max(min(start, 4 * low) if low > 0 else start, low + 3 * noise)


def rate(case: Case, found: Range) -> Outcome:
    """Compare the experiment's highest rate with its range test.

    A problem if the loss has diverged at that rate, or is twice its minimum, which lies at a tenth of the rate or less.
    Worth a look if the minimum lies at a third or less, or if the suggestion is 100 x the rate. A loss that never
    falls is a problem, or only worth a look if the noise of single batches is above 5 % of the loss.
    """
    rule = "learning rate"
    if case.experiment.transform:
        return Skipped(rule, "the loss of a step with a transform (such as acting) does not measure learning")
    evidence = {"factor": list(found.factors), "loss": list(found.losses), "smoothed": list(found.smoothed)}
    evidence |= {"reference": found.reference, "suggestion": found.suggestion, "diverged": found.diverged}
    if found.suggestion is None:
        text = f"The loss falls at no rate from {found.rate(LOWEST)} to {found.rate(found.factors[-1])}."
        noise = np.nanmedian(np.abs(found.losses - found.smoothed))
        clear = bool(noise <= 0.05 * abs(found.losses[:5].mean()))
        text += "" if clear else " Noise between batches may hide a fall."
        return Finding(rule, clear, text, (
            "fix the other findings first: gradients, scale of the inputs, overfitting one batch",
            "use a larger batch if the loss is so noisy that 100 steps cannot show a fall",
        ), evidence)  # fmt: skip
    own, suggestion = found.rate(1.0), f"suggestion: {found.rate(found.suggestion)}"
    advice = (f"--learning-rate {found.suggestion * found.reference:.1g}" if found.reference
              else f"multiply the learning rate by {found.suggestion:.1g}",
              "warmup_cosine(learning_rate, steps=steps, warmup=steps // 10)",
              "optax.chain(optax.clip_by_global_norm(1.0), ...)")  # fmt: skip
    if found.diverged is not None and found.diverged <= 1:
        text = f"The loss diverges at {found.rate(found.diverged)}; the experiment's highest rate is {own}; "
        return Finding(rule, True, text + suggestion + ".", advice, evidence)
    current = int(np.abs(np.log(found.factors)).argmin())
    if found.turning <= 1 / 3 and found.smoothed[current] > 2 * np.nanmin(found.smoothed):
        text = f"The loss is lowest at {found.rate(found.turning)} and rises beyond it; the experiment's highest rate "
        return Finding(rule, found.turning <= 0.1, f"{text}is {own}; {suggestion}.", advice, evidence)
    if found.suggestion >= 100:
        text = f"The loss falls fastest at {found.rate(found.steepest)}; the experiment's highest rate is only {own}; "
        return Finding(rule, False, text + suggestion + ".", advice[:2], evidence)
    end = f"diverges at {found.rate(found.diverged)}" if found.diverged else "does not diverge"
    return Passed(rule, f"highest rate {own}; loss lowest at {found.rate(found.turning)}, {end}; {suggestion}")


def picture(found: Range, path=None) -> str:
    """Plot the loss over the rate as an SVG element, and as a file at `path`."""
    unit = found.reference or 1.0
    drawn = [
        marks.line(unit * found.factors, found.losses, opacity=0.4, width=1, name="each step"),
        marks.line(unit * found.factors, found.smoothed, width=2, name="smoothed"),
        marks.rule(unit, colour=marks.COLOURS[2], name="highest rate of the experiment"),
    ]
    if found.suggestion:
        drawn.append(marks.rule(unit * found.suggestion, colour=marks.COLOURS[1], name="suggestion", dash="5 3"))
    if found.diverged:
        drawn.append(marks.rule(unit * found.diverged, colour=marks.COLOURS[3], name="diverges", dash="1.5 2.5"))
    finite = found.smoothed[np.isfinite(found.smoothed)]
    low, high = (finite.min(), min(finite.max(), 2 * finite[0] - finite.min())) if len(finite) else (0, 1)
    room = 0.15 * (high - low) or 1.0
    x = Axis("learning rate" if found.reference else "learning rate relative to the experiment's", log=True)
    y = Axis("training loss", limits=(low - room, high + room))
    label, title = "training loss over the learning rate", "Learning-rate range test"
    svg = chart(drawn, label=label, title=title, x=x, y=y, width=620, height=240)
    if path is not None:
        save([svg], path)
    return svg
