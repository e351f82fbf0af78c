"""The learning-rate range test: a short training whose rate rises from far too low to far too high."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from research.diagnose.case import Case, probed, stepper, training_batches
from research.diagnose.finding import Finding
from research.diagnose.outcome import Outcome, Passed, Skipped
from research.html.figure import COLOURS, inline_svg, new_figure, style, write_png

LOWEST, HIGHEST = 1e-4, 1e2  # of the experiment's own rate


class Range(NamedTuple):
    """`factors` [n]: of the experiment's own updates; `losses` and `smoothed` [n] at them; `reference`: the rate that
    factor 1 stands for, None where the experiment declares none. Of the factors: `steepest`, where the smoothed loss
    falls fastest; `turning`, where it is least; `diverged`, where it has risen again for good, None where it has not;
    `suggestion`, the smaller of `steepest` and a tenth of `diverged`; None where the loss never fell.
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
        """A factor as the rate that it stands for, in words."""
        if self.reference is None:
            return "the one it has" if factor == 1 else f"{factor:.2g} x the one it has"
        return f"{factor * self.reference:.2g}"


def peak(case: Case) -> tuple[int, float] | None:
    """The step at which the declared schedule "learning_rate" is highest, and the rate there; None without one."""
    schedule = case.built.wired.schedules.get("learning_rate")
    if schedule is None:
        return None
    steps = np.unique(np.linspace(0, max(0, case.built.total - 1), 1000).astype(np.int32))
    rates = np.asarray(jax.jit(jax.vmap(lambda step: jnp.asarray(schedule(step), jnp.float32)))(steps))
    return int(steps[rates.argmax()]), float(rates.max())


def prepared(case: Case, *, grad_fn=None):
    """The experiment's step with a probe, its schedules held where the declared rate is highest: (step, state)."""
    at = peak(case)
    return stepper(case, optimizer=probed(case.built.wired.optimizer, at=at[0] if at else None), grad_fn=grad_fn)


def range_test(case: Case, probe=None, *, steps: int = 100) -> Range:
    """Smith 2017 (section 3.3), with an exponentially rising rate: `steps` steps of the experiment itself, on its own
    batches, with updates of 1e-4 to 100 times those of its highest rate. Stops where the loss has diverged.

    Nothing in the experiment is edited: its optimizer's updates are multiplied. This is a change of the rate where
    updates are proportional to it, as in SGD (with or without momentum), Adam, AdamW, Muon and Lion, whose decay
    scales alike; not where the rate is within a state, as in schedule-free methods. Schedules made by optax
    are held at their highest step. `probe` is what `prepared` gives.
    """
    step, state = probe or prepared(case)
    batch_at, found = training_batches(case), peak(case)
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
    return judged(factors[: len(losses)], losses, reference=found[1] if found else None)


def judged(factors, losses, *, reference: float | None = None) -> Range:
    """The Range of losses [n] at rising factors [n]; the last loss may be no number.

    It has diverged from where on the smoothed loss stays above the start, or above 4 x its least value where that is
    less, and beyond 3 x the median distance of single losses from it.
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
    # The least of many noisy losses is below their mean without any learning.
    if lowest >= 2 and start - smoothed[lowest] > 0.02 * abs(start) + 1.5 * noise:
        first = min(5, lowest - 1)  # before it, the average is of a few noisy losses
        slope = np.gradient(smoothed[first : lowest + 1], np.log(factors[first : lowest + 1]))
        steepest = float(factors[first + int(np.argmin(slope))])
    suggestion = None if steepest is None else min(steepest, diverged / 10) if diverged else steepest
    return Range(factors, losses, smoothed, reference, steepest, float(factors[lowest]), diverged, suggestion)


def smooth(losses, beta: float = 0.8) -> np.ndarray:
    """The exponential moving average of losses [n], unbiased at its start (Kingma & Ba 2015, section 3)."""
    average, found = 0.0, []
    for number, loss in enumerate(losses, 1):
        average = beta * average + (1 - beta) * loss
        found.append(average / (1 - beta**number))
    return np.array(found)


def _limit(losses, smoothed):
    """What the smoothed loss must rise above to have diverged."""
    low, start = np.min(smoothed[np.isfinite(smoothed)], initial=np.inf), smoothed[0]
    noise = np.nanmedian(np.abs(np.asarray(losses) - smoothed))
    return max(min(start, 4 * low) if low > 0 else start, low + 3 * noise)


def rate(case: Case, found: Range) -> Outcome:
    """The experiment's own highest rate against its range test: a problem where the loss has diverged at it, or has
    doubled since its least at a tenth of it; worth a look where that is so at a third, and where the loss falls fastest
    at a rate 100 x as high. A loss that never falls is a problem of its own, and
    worth a look where single batches differ by more than 5 % of it.
    """
    rule = "learning rate"
    if case.experiment.transform:
        return Skipped(rule, "the loss of a step with a transform (such as acting) does not tell how well it learns")
    evidence = {"factor": list(found.factors), "loss": list(found.losses), "smoothed": list(found.smoothed)}
    evidence |= {"reference": found.reference, "suggestion": found.suggestion, "diverged": found.diverged}
    if found.suggestion is None:
        text = f"The loss falls at no rate from {found.rate(LOWEST)} to {found.rate(found.factors[-1])}."
        noise = np.nanmedian(np.abs(found.losses - found.smoothed))
        clear = bool(noise <= 0.05 * abs(found.losses[:5].mean()))
        text += "" if clear else " Or it does, and its batches differ by more."
        return Finding(rule, clear, text, (
            "look at the other findings first: gradients, scale of the inputs, one batch by heart",
            "a larger batch, where the loss is so noisy that 100 steps do not show its fall",
        ), evidence)  # fmt: skip
    own, told = found.rate(1.0), f"the suggestion is {found.rate(found.suggestion)}"
    advice = (f"--learning-rate {found.suggestion * found.reference:.1g}" if found.reference
              else f"multiply the learning rate by {found.suggestion:.1g}",
              "warmup_cosine(learning_rate, steps=steps, warmup=steps // 10)",
              "optax.chain(optax.clip_by_global_norm(1.0), ...)")  # fmt: skip
    if found.diverged is not None and found.diverged <= 1:
        text = f"The loss diverges at a rate of {found.rate(found.diverged)}; the highest of the experiment is {own}; "
        return Finding(rule, True, text + told + ".", advice, evidence)
    here = int(np.abs(np.log(found.factors)).argmin())
    if found.turning <= 1 / 3 and found.smoothed[here] > 2 * np.nanmin(found.smoothed):
        text = f"The loss is least at a rate of {found.rate(found.turning)} and rises beyond; the highest of the "
        return Finding(rule, found.turning <= 0.1, f"{text}experiment is {own}; {told}.", advice, evidence)
    if found.suggestion >= 100:
        text = (
            f"The loss falls fastest at {found.rate(found.steepest)}; the experiment's highest rate, {own}, is tiny; "
        )
        return Finding(rule, False, text + told + ".", advice[:2], evidence)
    end = f"diverges at {found.rate(found.diverged)}" if found.diverged else "diverges at none that was tried"
    return Passed(rule, f"its highest is {own}; the loss is least at {found.rate(found.turning)}, {end}; {told}")


def picture(found: Range, path=None) -> str:
    """The losses over the rate as an SVG element, and as a PNG at `path`."""
    unit = found.reference or 1.0
    with style():
        figure, (ax,) = new_figure(6.4, 3.4)
        ax.plot(unit * found.factors, found.losses, color=COLOURS[0], alpha=0.35, linewidth=1, label="each step")
        ax.plot(unit * found.factors, found.smoothed, color=COLOURS[0], linewidth=1.8, label="smoothed")
        marks = [(1.0, COLOURS[2], "the experiment's highest", "-")]
        marks += [(found.suggestion, COLOURS[1], "suggestion", "--")] if found.suggestion else []
        marks += [(found.diverged, COLOURS[3], "diverges", ":")] if found.diverged else []
        for factor, colour, label, line in marks:
            ax.axvline(unit * factor, color=colour, linestyle=line, linewidth=1.4, label=label)
        ax.set_xscale("log")
        ax.xaxis.set_major_formatter("{x:g}")
        ax.xaxis.set_minor_formatter("")
        finite = found.smoothed[np.isfinite(found.smoothed)]
        low, high = (finite.min(), min(finite.max(), 2 * finite[0] - finite.min())) if len(finite) else (0, 1)
        room = 0.15 * (high - low) or 1.0
        ax.set_ylim(low - room, high + room)
        ax.set_title("Learning-rate range test", pad=34)
        ax.set_xlabel("learning rate" if found.reference else "times the experiment's own learning rate")
        ax.set_ylabel("training loss")
        ax.legend(loc="lower left", bbox_to_anchor=(-0.02, 0.99), ncols=3, borderpad=0.1, handlelength=1.6)
        if path is not None:
            write_png(figure, path)
        return inline_svg(figure, label="training loss over the learning rate")
