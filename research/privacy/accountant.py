"""Privacy cost of DP-SGD: epsilon for a given noise and number of steps, and the noise for a target epsilon.

All functions describe the mechanism of `research.gradients.private` on batches of `data.sampling.poisson`. At each step
every example is in the batch independently with probability q = batch_size / examples, and Gaussian noise of standard
deviation `noise` times the clipping norm is added. The guarantee is (epsilon, delta)-differential privacy for data sets
that differ by one example added or removed. It does not cover anything published besides the weights, such as metrics
or hyperparameters tuned on the data.
"""

from __future__ import annotations

import functools
import math
from typing import Any

from research.errors import UserError

INTERVAL = 5e-4  # largest discretisation interval of privacy losses
# The same in standard deviations of one step's loss. A tenth of both lowers epsilon by less than 0.2 %, or 0.00003.
DEVIATION = 1 / 8
POINTS = (
    2e5  # approximate maximum number of intervals, some seconds of work: tiny noise has an enormous range of losses
)


def epsilon(*, examples: int, batch_size: float, noise: float, steps: int, delta: float) -> float:
    """Compute the epsilon spent after `steps` steps, for an expected `batch_size`; inf without noise, 0 for 0 steps.

    Computed with `dp_accounting` from the distribution of the privacy loss (Koskela et al. 2020; Doroshenko
    et al. 2022, "connect the dots"), rounded up throughout; the result is about a tenth below the bound by Renyi
    divergences. `noise` is in units of the clipping norm. Limit: with batch_size = examples it is the exact curve of
    the Gaussian mechanism (Balle & Wang 2018). The first call for a noise takes about 0.1 s, at a tiny sampling rate
    some seconds; a further call with another number of steps takes a twentieth of that.

    Raises UserError for numbers out of range, and if the extra `privacy` is not installed.
    """
    check_plan(examples=examples, batch_size=batch_size, delta=delta)
    if not 0 <= noise < math.inf:
        raise UserError(f"a noise of {noise}; expected a finite number of at least 0, in units of the clipping norm.")
    if steps < 0 or steps != int(steps):
        raise UserError(f"{steps} steps; expected an integer of at least 0.")
    if not steps:
        return 0.0
    if not noise:
        return math.inf
    return float(_one_step(batch_size / examples, noise).self_compose(int(steps)).get_epsilon_for_delta(delta))


def noise_for(*, epsilon: float, examples: int, batch_size: float, steps: int, delta: float) -> float:
    """Find the smallest noise whose `steps` steps cost at most `epsilon`.

    The noise is in units of the clipping norm, accurate to 0.1 % and rounded up. Raises UserError for numbers out of
    range, and if the extra `privacy` is not installed.
    """
    if not 0 < epsilon < math.inf:
        raise UserError(f"an epsilon of {epsilon}; expected a positive number.")
    if steps < 1:
        raise UserError(f"{steps} steps; expected at least 1.")
    from scipy.optimize import brentq

    epsilon_of = functools.partial(_epsilon, examples=examples, batch_size=batch_size, steps=steps, delta=delta)

    def excess(log_noise):
        # In logarithms epsilon is nearly linear in the noise. Clamped, because epsilon may be 0 or inf.
        return math.log(min(max(epsilon_of(noise=math.exp(log_noise)), 1e-9), 1e9) / epsilon)

    low, high = -0.5, 0.5
    while excess(high) > 0:
        low, high = high, high + 1
    while excess(low) <= 0:
        low, high = low - 0.5, low
    noise = math.exp(brentq(excess, low, high, xtol=3e-4))
    while epsilon_of(noise=noise) > epsilon:  # the root finder may stop on either side
        noise *= 1.0002
    return noise


_epsilon = epsilon  # inside `noise_for` the parameter `epsilon` hides the function


def check_plan(*, examples: int, batch_size: float, delta: float) -> None:
    """Raise UserError for numbers that no private training run can have."""
    if not 0 < batch_size <= examples:
        raise UserError(f"an expected batch of {batch_size} of {examples} examples; expected more than 0, at most all.")
    if not 0 < delta < 1:
        raise UserError(f"a delta of {delta}; expected a probability, well below 1 / examples = {1 / examples:.1g}.")


@functools.lru_cache(maxsize=4)
def _one_step(rate: float, noise: float) -> Any:
    """Return the privacy loss distribution of one step."""
    try:
        from dp_accounting.pld import privacy_loss_distribution
    except ImportError:
        raise UserError(
            "privacy accounting needs the extra: pip install -e '.[privacy]' in the project's folder."
        ) from None
    # The losses of one step range up to log(1 + rate (exp(span) - 1)), except tails of 1e-22. Their deviation is that
    # of the likelihood ratio, to first order in the rate (Bu et al. 2020, equation 5).
    span = 0.5 / noise**2 + 10 / noise
    highest = span + math.log(rate + (1 - rate) * math.exp(-span))
    deviation = rate * math.sqrt(math.expm1(min(1 / noise**2, 100)))
    interval = max(min(INTERVAL, DEVIATION * deviation), highest / POINTS)
    return privacy_loss_distribution.from_gaussian_mechanism(
        noise, sampling_prob=rate, value_discretization_interval=interval
    )
