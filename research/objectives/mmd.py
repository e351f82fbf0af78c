"""Maximum mean discrepancy (MMD) of two samples, and training that aligns two domains' features with it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from research import losses
from research.axes import Array, Float, Num, Scalar
from research.core import Loss, Mean, Model, Out, draw, not_additive, weighted_mean
from research.fields import example_weights, field
from research.objectives.unlabelled import unlabelled_rows, value_at

SCALES = (0.25, 0.5, 1.0, 2.0, 4.0)  # multiples of `mean_variance`: a mix of five Gaussians, as in Long et al. 2015


def squared_mmd(
    x: Float[Array, "batch features"],
    y: Float[Array, "others features"],
    *,
    variances: Sequence[float | Scalar],
    x_weights: Num[Array, " batch"] | None = None,
    y_weights: Num[Array, " others"] | None = None,
    unbiased: bool = False,
) -> Scalar:
    """Estimate MMD^2 of the samples x and y, in f32 (Gretton et al. 2012, section 2).

    The kernel is the mean of Gaussians exp(-|a - b|^2 / (2 v)) over `variances`. The biased estimate (eq. 5) is the
    squared distance between the two mean embeddings: at least 0, and 0 for equal samples. The unbiased one (eq. 3)
    omits the pairs of an example with itself, and has mean 0 if both samples come from one distribution. Weights count
    examples: 0 omits one. If a sample has no pair the value is 0.
    """
    x, y = x.astype(jnp.float32), y.astype(jnp.float32)
    a = jnp.ones(len(x), jnp.float32) if x_weights is None else jnp.asarray(x_weights, jnp.float32)
    b = jnp.ones(len(y), jnp.float32) if y_weights is None else jnp.asarray(y_weights, jnp.float32)

    def mean_kernel(s, t, pairs):
        distances = squared_distances(s, t)
        kernel = sum(jnp.exp(-distances / (2 * v)) for v in variances) / len(variances)
        return weighted_mean(kernel, pairs).value(), jnp.sum(pairs)

    x_pairs, y_pairs = (1 - jnp.eye(len(z)) if unbiased else jnp.ones((len(z), len(z))) for z in (x, y))
    xx, nx = mean_kernel(x, x, jnp.outer(a, a) * x_pairs)
    yy, ny = mean_kernel(y, y, jnp.outer(b, b) * y_pairs)
    xy, _ = mean_kernel(x, y, jnp.outer(a, b))
    return jnp.where((nx > 0) & (ny > 0), xx + yy - 2 * xy, 0.0)


def squared_distances(
    x: Float[Array, "batch features"], y: Float[Array, "others features"]
) -> Float[Array, "batch others"]:
    """Compute |x_i - y_j|^2 directly: |x|^2 + |y|^2 - 2 xy would lose precision for close points."""
    return jnp.sum(jnp.square(x[:, None] - y[None]), -1)


def mean_variance(
    x: Float[Array, "batch features"], y: Float[Array, "others features"], x_weights: Num[Array, " batch"],
    y_weights: Num[Array, " others"],
) -> Scalar:  # fmt: skip
    """Compute half the weighted mean squared distance between an x and a y, without gradient.

    It scales the kernels' widths. The result is at least 1e-6.
    """
    distances = weighted_mean(squared_distances(x, y), jnp.outer(x_weights, y_weights)).value() / 2
    return jax.lax.stop_gradient(jnp.maximum(distances, 1e-6))


def mmd_alignment(
    encoder: Model | Callable, classifier: Model | Callable, *, strength: float | Callable,
    scales: tuple[float, ...] = SCALES, unbiased: bool = False, inputs: str = "image", labels: str = "label",
    target: str = "unlabelled",
) -> Loss:  # fmt: skip
    """Classify the source domain, plus `strength` * MMD^2 between the features of both domains.

    From Long et al. 2015, eq. 4. MMD is computed for one layer; the kernels have equal weights, which are not learned.
    `encoder` (inputs -> features [batch, features]) and `classifier` (features -> logits [batch, classes]) are Models
    or their `apply`, with params in `params["encoder"]` and `params["classifier"]`. `strength` is a number or a
    schedule `step -> value`. A batch is one of `data.sampling.paired`: `inputs` [batch, ...] with class numbers
    `labels`, int [batch], and for each row some examples of the target domain in `target` [batch, ratio, ...]. The
    encoder processes both domains in one call. A row of mask 0 and its target examples contribute nothing. The kernels'
    variances are `scales` times half the mean squared distance between the domains, without gradient.

    Metrics are loss (nats; NotAdditive, because MMD does not add over examples), accuracy on the source, and mmd.
    Effect on `stats`: those of both networks are passed on. The key is folded with "model" and the name of each
    network. Limit: with strength 0 it equals `classify` on the source, except that an encoder's batch statistics cover
    both domains. Raises UserError if a field is missing or does not fit.
    """
    encode, classify = (getattr(model, "apply", model) for model in (encoder, classifier))

    def loss(params, ctx):
        x, y = field(ctx.batch, inputs), field(ctx.batch, labels)
        target_inputs = unlabelled_rows(ctx.batch, target, like=x)
        key = draw(ctx.key, "model")
        features, encoder_stats = encode(
            params["encoder"], ctx.stats, jnp.concatenate([x, target_inputs]), key=draw(key, "encoder"), train=True
        )
        source, shifted = features[: len(x)], features[len(x) :]
        logits, head_stats = classify(params["classifier"], ctx.stats, source, key=draw(key, "classifier"), train=True)
        weights = example_weights(ctx.batch, len(x))
        target_weights = jnp.repeat(weights, len(target_inputs) // len(x))
        width = mean_variance(source, shifted, weights, target_weights)
        distance = squared_mmd(
            source, shifted, variances=[scale * width for scale in scales], x_weights=weights, y_weights=target_weights,
            unbiased=unbiased,
        )  # fmt: skip
        task = weighted_mean(losses.cross_entropy(logits, y), weights)
        total = Mean(task.sum + value_at(strength, ctx.step) * distance * task.weight, task.weight)
        metrics = {
            "loss": not_additive(total),
            "accuracy": weighted_mean(losses.hits(logits, y), weights),
            "mmd": Mean(distance * task.weight, task.weight),
        }
        return total.value(), Out({**encoder_stats, **head_stats}, metrics)

    return loss
