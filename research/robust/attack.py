"""Adversarial attacks: perturb inputs within a ball so that a trained network misclassifies them.

An attack maximises `objective(x)`, a function of the inputs that closes over the frozen parameters and the labels. It
returns one value per example, or their sum, in f32; value i depends on example i alone. Inputs are converted to f32.
`epsilon` (the ball's radius), `step_size` and `bounds` (the valid range, (lowest, highest), or None) are in the units
of the inputs: 0.1 for pixels in 0..1 is 25.5 for pixels in 0..255.
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
    """The perturbed inputs that an attack returns, and their scores, in f32."""

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
    """Run projected gradient ascent once (Madry et al. 2018, section 2.1).

    Repeats `steps` times: take the norm's steepest step of `step_size` (default 2.5 epsilon / steps, as in the paper),
    then project into the ball and clip to `bounds`. With a key it starts at a point drawn uniformly from the ball,
    separately for every row of the batch; otherwise at x. No gradient flows through the result.

    Raises UserError for fewer than one step, and for bounds that are not (lowest, highest).
    """
    if steps < 1:
        raise UserError(f"an attack of {steps} steps; expected at least 1.")
    low, high = (-jnp.inf, jnp.inf) if bounds is None else bounds
    if not low < high:
        raise UserError(f"the bounds {bounds}; expected (lowest, highest), the valid range of an input, or None.")
    step_size = 2.5 * epsilon / steps if step_size is None else step_size
    x = jnp.asarray(x, jnp.float32)

    def within(delta: Float[Array, " batch *example"]) -> Float[Array, " batch *example"]:
        # Clipping moves every entry towards x, so the point stays inside the ball.
        return jnp.clip(x + jax.vmap(lambda d: norm.project(d, epsilon))(delta), low, high)

    def step(point, _):
        gradient = jax.grad(lambda z: jnp.sum(objective(z)))(point)
        free = jnp.where(gradient > 0, point < high, point > low)
        return within(point - x + step_size * jax.vmap(norm.steepest)(gradient, free)), None

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
    """Run the fast gradient sign method: x + epsilon sign(gradient), clipped to `bounds`.

    From Goodfellow et al. 2015, section 4. In another norm it takes a step of epsilon in that norm's steepest
    direction.
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
    """Return, per example, the worst of x itself and the results of `restarts` runs of `ascend` from random starts.

    The worst has the highest `score`, by default the objective. The runs are computed in parallel and need `restarts`
    times the memory of one. More restarts never lower the score, because run r always uses the key of index r.
    """
    score = objective if score is None else score
    x = jnp.asarray(x, jnp.float32)

    def run(key):
        perturbed = ascend(
            objective, x, epsilon=epsilon, steps=steps, bounds=bounds, step_size=step_size, norm=norm, key=key
        )
        return Attacked(perturbed, score(perturbed))

    results = jax.vmap(run)(draw(key, jnp.arange(restarts)))
    candidates = jax.tree.map(lambda a, b: jnp.concatenate([a[None], b]), Attacked(x, score(x)), results)
    worst = candidates.score.argmax(0)
    return jax.tree.map(lambda values: values[worst, jnp.arange(len(x))], candidates)


def margin(logits: Float[Array, "batch classes"], labels: Integer[Array, " batch"]) -> Float[Array, " batch"]:
    """Compute how far the largest wrong logit exceeds the true one, in f32; a value above 0 is an error."""
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
    """Make the measure of an Eval: accuracy, robust_accuracy, and rows of label, prediction and attacked_prediction.

    An example is robust if the network, in evaluation mode, predicts its label for x and for the result of every run of
    `pgd` on the cross-entropy. robust_accuracy is therefore at most accuracy, and it is an upper bound on the accuracy
    under a stronger attack. Random starts depend on (seed, restart, row of the batch). Examples of mask 0 do not count.
    Labels are class numbers, int [batch].
    """

    def measure(trained, batch):
        x, y = field(batch, inputs), field(batch, labels)
        weights = example_weights(batch, len(x))

        worst = pgd(
            lambda z: losses.cross_entropy(trained(z), y), x, key=draw(seed, "attack"), epsilon=epsilon, steps=steps,
            bounds=bounds, restarts=restarts, step_size=step_size, norm=norm, score=lambda z: margin(trained(z), y),
        )  # fmt: skip
        clean, attacked = trained(x), trained(worst.inputs)
        rows = {"label": y, "prediction": clean.argmax(-1), "attacked_prediction": attacked.argmax(-1)}
        return {
            "accuracy": weighted_mean(losses.hits(clean, y), weights),
            "robust_accuracy": weighted_mean(losses.hits(attacked, y), weights),
            "rows": Rows(rows, weights),
        }

    return measure
