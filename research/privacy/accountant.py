"""What DP-SGD costs: epsilon for noise and steps, and the noise for a wanted epsilon.

All of it is about the mechanism of `research.gradients.private` on batches of `data.sampling.poisson`: at each step
every example is in the batch with probability q = batch_size / examples, by itself, and Gaussian noise of `noise`
times the clipping norm is added. The guarantee is (epsilon, delta)-differential privacy for data sets that differ by
one example added or removed. What is published besides the weights (metrics, knobs tuned on the data) is not in it.
"""

from __future__ import annotations

import functools
import math
from typing import Any

from research.errors import UserError

INTERVAL = 5e-4  # of the privacy losses; a tenth of it lowers epsilon by less than 0.2 %
POINTS = 1e5  # at most about so many intervals: tiny noise has an enormous range of losses


def epsilon(*, examples: int, batch_size: float, noise: float, steps: int, delta: float) -> float:
    """The epsilon spent after `steps` steps, for an expected `batch_size`; inf without noise, 0 before the first step.

    Computed from the distribution of the privacy loss (Koskela et al. 2020; Doroshenko et al. 2022, "connect the
    dots"), rounded up at every place, with `dp_accounting`; about a tenth below the bound by Renyi divergences. With
    batch_size = examples it is the exact curve of the Gaussian mechanism (Balle & Wang 2018). The first call for a
    noise takes about 0.1 s, another number of steps a twentieth.

    Raises UserError for numbers out of range, and where the extra `privacy` is not installed.
    """
    check_plan(examples=examples, batch_size=batch_size, delta=delta)
    if not 0 <= noise < math.inf:
        raise UserError(f"a noise of {noise}; expected a number of at least 0, in units of the clipping norm.")
    if steps < 0 or steps != int(steps):
        raise UserError(f"{steps} steps; expected a whole number of at least 0.")
    if not steps:
        return 0.0
    if not noise:
        return math.inf
    return float(_one_step(batch_size / examples, noise).self_compose(int(steps)).get_epsilon_for_delta(delta))


def noise_for(*, epsilon: float, examples: int, batch_size: float, steps: int, delta: float) -> float:
    """The least noise (in units of the clipping norm, to 0.1 %, rounded up) whose `steps` steps cost at most `epsilon`.

    Raises UserError for numbers out of range, and where the extra `privacy` is not installed.
    """
    if not 0 < epsilon < math.inf:
        raise UserError(f"an epsilon of {epsilon}; expected a positive number.")
    if steps < 1:
        raise UserError(f"{steps} steps; expected at least 1.")
    from scipy.optimize import brentq

    spends = functools.partial(_epsilon, examples=examples, batch_size=batch_size, steps=steps, delta=delta)

    def excess(log_noise):
        # Logarithms, in which epsilon is nearly a straight line of the noise; held finite at both ends.
        return math.log(min(max(spends(noise=math.exp(log_noise)), 1e-9), 1e9) / epsilon)

    low, high = -0.5, 0.5
    while excess(high) > 0:
        low, high = high, high + 1
    while excess(low) <= 0:
        low, high = low - 0.5, low
    noise = math.exp(brentq(excess, low, high, xtol=3e-4))
    while spends(noise=noise) > epsilon:  # the root is met from either side
        noise *= 1.0002
    return noise


_epsilon = epsilon  # in `noise_for` the name is that of the wanted number


def check_plan(*, examples: int, batch_size: float, delta: float) -> None:
    """Raises UserError for numbers that no private training can have."""
    if not 0 < batch_size <= examples:
        raise UserError(f"an expected batch of {batch_size} of {examples} examples; expected more than 0, at most all.")
    if not 0 < delta < 1:
        raise UserError(f"a delta of {delta}; expected a probability, well below 1 / examples = {1 / examples:.1g}.")


@functools.lru_cache(maxsize=4)
def _one_step(rate: float, noise: float) -> Any:
    """The distribution of the privacy loss of one step."""
    try:
        from dp_accounting.pld import privacy_loss_distribution
    except ImportError:
        raise UserError("privacy accounting needs the extra: pip install 'research[privacy]'.") from None
    span = 0.5 / noise**2 + 10 / noise  # of one step's losses, up to tails of 1e-22
    return privacy_loss_distribution.from_gaussian_mechanism(
        noise, sampling_prob=rate, value_discretization_interval=max(INTERVAL, span / POINTS)
    )
