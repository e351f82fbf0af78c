"""Attacks: perturbations of the inputs, within a ball, that a trained network gets wrong; and how many it withstands.

An attack raises `objective(x)`, one value for every example or their sum, in f32: a function of the inputs, which
closes over the frozen parameters and the labels. Value i depends on example i alone. Inputs are attacked as f32.
`epsilon` (the ball's radius), `step_size` and `bounds` (the valid range, (lowest, highest), or None) are in the units
of the inputs: 0.1 of pixels on the scale 0..1 is 25.5 of pixels 0..255.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from research import losses
from research.axes import Array, Float, Integer, Key, Num, Scalar
from research.core import Measure, Rows, draw, repeat, weighted_mean
from research.errors import UserError
from research.fields import example_weights, field
from research.robust.norms import Norm, linf


class Attacked(NamedTuple):
    """The inputs that an attack found, and their score, in f32."""

    inputs: Float[Array, " batch *example"]
    score: Float[Array, " batch"]


def ascend(
    objective: Callable,
    x: Num[Array, " batch *example"],
    *,
    epsilon: float | Scalar,
    steps: int,
    bounds: tuple[float, float] | None,
    step_size: float | Scalar | None = None,
    norm: Norm = linf,
    key: Key[Array, ""] | None = None,
) -> Float[Array, " batch *example"]:
    """Projected gradient ascent (Madry et al. 2018, section 2.1), one run.

    `steps` times the norm's steepest step of `step_size` (2.5 epsilon / steps unless given, as theirs), then back into
    the ball and into `bounds`. With a key it starts at a point drawn evenly from the ball, one for every row of the
    batch, else at x. No gradient passes through the result.

    Raises UserError for less than one step, and for bounds that are not (lowest, highest).
    """
    if steps < 1:
        raise UserError(f"an attack of {steps} steps; expected at least 1.")
    low, high = (-jnp.inf, jnp.inf) if bounds is None else bounds
    if not low < high:
        raise UserError(f"the bounds {bounds}; expected the lowest and the highest valid value of an input.")
    step_size = 2.5 * epsilon / steps if step_size is None else step_size
    x = jnp.asarray(x, jnp.float32)

    def within(delta: Float[Array, " batch *example"]) -> Float[Array, " batch *example"]:
        # To clip moves every entry towards x, so it does not leave the ball.
        return jnp.clip(x + jax.vmap(lambda d: norm.project(d, epsilon))(delta), low, high)

    def step(at, _):
        gradient = jax.grad(lambda z: jnp.sum(objective(z)))(at)
        free = jnp.where(gradient > 0, at < high, at > low)
        return within(at - x + step_size * jax.vmap(norm.steepest)(gradient, free)), None

    start = x
    if key is not None:
        start = within(jax.vmap(lambda k: norm.sample(k, x.shape[1:], epsilon))(draw(key, jnp.arange(len(x)))))
    return jax.lax.stop_gradient(repeat(step, start, length=steps)[0])


def fgsm(
    objective: Callable,
    x: Num[Array, " batch *example"],
    *,
    epsilon: float | Scalar,
    bounds: tuple[float, float] | None,
    norm: Norm = linf,
) -> Float[Array, " batch *example"]:
    """The fast gradient sign method (Goodfellow et al. 2015, section 4): x + epsilon sign(gradient), within `bounds`;
    in another norm, epsilon times its steepest direction.
    """
    return ascend(objective, x, epsilon=epsilon, steps=1, bounds=bounds, step_size=epsilon, norm=norm)


def pgd(
    objective: Callable,
    x: Num[Array, " batch *example"],
    *,
    key: Key[Array, ""],
    epsilon: float | Scalar,
    steps: int,
    bounds: tuple[float, float] | None,
    restarts: int = 1,
    step_size: float | Scalar | None = None,
    norm: Norm = linf,
    score: Callable[[Float[Array, " batch *example"]], Float[Array, " batch"]] | None = None,
) -> Attacked:
    """The worst of x itself and the ends of `restarts` runs of `ascend` from random starts, example by example.

    The worst has the highest `score`, which is the objective unless given. The runs are made side by side, in
    `restarts` times the memory of one. More of them never lower the score: run r has the key of place r.
    """
    score = objective if score is None else score
    x = jnp.asarray(x, jnp.float32)

    def run(key):
        found = ascend(
            objective, x, epsilon=epsilon, steps=steps, bounds=bounds, step_size=step_size, norm=norm, key=key
        )
        return Attacked(found, score(found))

    ends = jax.vmap(run)(draw(key, jnp.arange(restarts)))
    every = jax.tree.map(lambda a, b: jnp.concatenate([a[None], b]), Attacked(x, score(x)), ends)
    worst = every.score.argmax(0)
    return jax.tree.map(lambda values: values[worst, jnp.arange(len(x))], every)


def margin(logits: Float[Array, "batch classes"], labels: Integer[Array, " batch"]) -> Float[Array, " batch"]:
    """By how much the largest wrong logit exceeds the true one, in f32; above 0 is an error."""
    true = jax.nn.one_hot(labels, logits.shape[-1], dtype=bool)
    logits = logits.astype(jnp.float32)
    return jnp.max(jnp.where(true, -jnp.inf, logits), -1) - jnp.max(jnp.where(true, logits, -jnp.inf), -1)


def measure_robust(
    *,
    epsilon: float | Scalar,
    steps: int,
    bounds: tuple[float, float] | None,
    restarts: int = 1,
    step_size: float | Scalar | None = None,
    norm: Norm = linf,
    seed: int = 0,
    inputs: str = "image",
    labels: str = "label",
) -> Measure:
    """The measure of an Eval: accuracy, robust_accuracy, and rows of label, prediction and attacked_prediction.

    An example withstands the attack if the label is predicted for x and for the end of every run of `pgd` on the
    cross-entropy, of the network in evaluation mode. Thus robust_accuracy is at most accuracy, and it is an upper
    bound of the accuracy that a stronger attack would leave. The starts are drawn by (seed, restart, row of the
    batch). Examples of mask 0 do not count. Labels are class numbers, int [batch].
    """

    def measure(trained, batch):
        x, y = field(batch, inputs), field(batch, labels)
        weights = example_weights(batch, len(x))

        found = pgd(
            lambda z: losses.cross_entropy(trained(z), y), x, key=draw(seed, "attack"), epsilon=epsilon, steps=steps,
            bounds=bounds, restarts=restarts, step_size=step_size, norm=norm, score=lambda z: margin(trained(z), y),
        )  # fmt: skip
        clean, attacked = trained(x), trained(found.inputs)
        rows = {"label": y, "prediction": clean.argmax(-1), "attacked_prediction": attacked.argmax(-1)}
        return {
            "accuracy": weighted_mean(losses.hits(clean, y), weights),
            "robust_accuracy": weighted_mean(losses.hits(attacked, y), weights),
            "rows": Rows(rows, weights),
        }

    return measure
