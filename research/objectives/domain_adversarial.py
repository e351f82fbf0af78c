"""Domain-adversarial training: features that tell the classes apart, and not the domains."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from research import losses
from research.axes import Array, Int, Scalar
from research.core import Loss, Model, Out, draw, weighted_mean
from research.fields import example_weights, field
from research.layers.gradient_reversal import reverse_gradient
from research.objectives.unlabelled import amount, per_labelled, unlabelled_rows


def adversary_strength(
    steps: int, *, peak: float = 1.0, slope: float = 10.0
) -> Callable[[int | Int[Array, ""]], Scalar]:
    """The lambda of each step: peak * (2 / (1 + exp(-slope * step / steps)) - 1), from 0 to nearly `peak` (Ganin et
    al. 2016, section 5.2.2, with slope 10)."""
    return lambda step: peak * (2 * jax.nn.sigmoid(slope * jnp.asarray(step, jnp.float32) / steps) - 1)


def domain_adversarial(
    encoder: Model | Callable, classifier: Model | Callable, *, discriminator: Model | Callable,
    strength: float | Callable, inputs: str = "image", labels: str = "label", target: str = "unlabelled",
) -> Loss:  # fmt: skip
    """Classification of the source, while a discriminator learns the domain from features that learn to hide it
    (Ganin et al. 2016, eq. 18, by the gradient reversal layer of eq. 16-17).

    All three are Models or their `apply`, with their params in `params["encoder"]`, `["classifier"]` and
    `["discriminator"]`: `encoder` makes features [batch, features] of inputs, `classifier` logits [batch, classes] of
    features, `discriminator` logits [batch, 2] of features, source or target. `strength` is lambda, a number or a
    schedule `step -> value`. A batch is that of `data.sampling.paired`: `inputs` [batch, ...] with class numbers
    `labels`, int [batch], and for each row some examples of the target in `target` [batch, ratio, ...]. The encoder
    sees those of both domains in one call.

    The loss of a row is the cross-entropy of its class, plus half that of its domain, plus half the mean over its
    target examples. Thus it adds over rows, and a row of mask 0 counts in nothing. The discriminator's own gradient is
    not scaled by lambda. Metrics: loss (nats), accuracy on the source, domain_loss, domain_accuracy (0.5: the domains
    cannot be told apart). Stats of all three are passed on. The key is folded with "model" and the name of each.

    With strength 0 the encoder and the classifier get the gradient of `classify` on the source (but for the batch
    statistics of an encoder, which are of both domains). Raises UserError if a field is missing or does not fit.
    """
    encode, classify, judge = (getattr(model, "apply", model) for model in (encoder, classifier, discriminator))

    def loss(params, ctx):
        x, y = field(ctx.batch, inputs), field(ctx.batch, labels)
        other = unlabelled_rows(ctx.batch, target, like=x)
        key = draw(ctx.key, "model")
        features, encoded = encode(
            params["encoder"], ctx.stats, jnp.concatenate([x, other]), key=draw(key, "encoder"), train=True
        )
        logits, classified = classify(
            params["classifier"], ctx.stats, features[: len(x)], key=draw(key, "classifier"), train=True
        )
        hidden = reverse_gradient(features, amount(strength, ctx.step))
        domains, judged = judge(params["discriminator"], ctx.stats, hidden, key=draw(key, "discriminator"), train=True)
        truth = jnp.repeat(jnp.arange(2), jnp.array([len(x), len(other)]), total_repeat_length=len(features))
        halves = lambda values: (values[: len(x)] + per_labelled(values[len(x) :], len(x))) / 2
        of_domain = halves(losses.cross_entropy(domains, truth))
        weights = example_weights(ctx.batch, len(x))
        metrics = {
            "loss": weighted_mean(losses.cross_entropy(logits, y) + of_domain, weights),
            "accuracy": weighted_mean(losses.hits(logits, y), weights),
            "domain_loss": weighted_mean(of_domain, weights),
            "domain_accuracy": weighted_mean(halves(losses.hits(domains, truth)), weights),
        }
        return metrics["loss"].value(), Out({**encoded, **classified, **judged}, metrics)

    return loss
