"""Domain-adversarial training: learn features that discriminate classes but not domains."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from research import losses
from research.axes import Array, Int, Scalar
from research.core import Loss, Model, Out, draw, weighted_mean
from research.fields import example_weights, field
from research.layers.gradient_reversal import reverse_gradient
from research.objectives.unlabelled import mean_per_labelled, unlabelled_rows, value_at


def adversary_strength(
    steps: int, *, peak: float = 1.0, slope: float = 10.0
) -> Callable[[int | Int[Array, ""]], Scalar]:
    """Make the schedule of lambda: peak * (2 / (1 + exp(-slope * step / steps)) - 1), from 0 to nearly `peak`.

    From Ganin et al. 2016, section 5.2.2, with slope 10.
    """
    return lambda step: peak * (2 * jax.nn.sigmoid(slope * jnp.asarray(step, jnp.float32) / steps) - 1)


def domain_adversarial(
    encoder: Model | Callable, classifier: Model | Callable, *, discriminator: Model | Callable,
    strength: float | Callable, inputs: str = "image", labels: str = "label", target: str = "unlabelled",
) -> Loss:  # fmt: skip
    """Classify the source domain while the encoder learns features that a domain discriminator cannot tell apart.

    From Ganin et al. 2016, eq. 18, with the gradient reversal layer of eq. 16-17. All three networks are Models or
    their `apply`, with params in `params["encoder"]`, `["classifier"]` and `["discriminator"]`. `encoder` maps inputs
    to features [batch, features], `classifier` maps features to logits [batch, classes], and `discriminator` maps
    features to logits [batch, 2] of source and target. `strength` is lambda, a number or a schedule `step -> value`. A
    batch is one of `data.sampling.paired`: `inputs` [batch, ...] with class numbers `labels`, int [batch], and for each
    row some examples of the target domain in `target` [batch, ratio, ...]. The encoder processes both domains in one
    call.

    The loss of a row is the cross-entropy of its class, plus half the cross-entropy of its domain, plus half the mean
    domain cross-entropy of its target examples. It therefore adds over rows, and a row of mask 0 contributes nothing.
    Lambda does not scale the discriminator's own gradient. Metrics are loss (nats), accuracy on the source, domain_loss
    and domain_accuracy (0.5: the domains are indistinguishable). Effect on `stats`: those of all three networks are
    passed on. The key is folded with "model" and the name of each network.

    Limit: with strength 0 the encoder and the classifier get the gradient of `classify` on the source, except that an
    encoder's batch statistics cover both domains. Raises UserError if a field is missing or does not fit.
    """
    encode, classify, judge = (getattr(model, "apply", model) for model in (encoder, classifier, discriminator))

    def loss(params, ctx):
        x, y = field(ctx.batch, inputs), field(ctx.batch, labels)
        target_x = unlabelled_rows(ctx.batch, target, like=x)
        key = draw(ctx.key, "model")
        features, encoder_stats = encode(
            params["encoder"], ctx.stats, jnp.concatenate([x, target_x]), key=draw(key, "encoder"), train=True
        )
        logits, head_stats = classify(
            params["classifier"], ctx.stats, features[: len(x)], key=draw(key, "classifier"), train=True
        )
        hidden = reverse_gradient(features, value_at(strength, ctx.step))
        domains, judged = judge(params["discriminator"], ctx.stats, hidden, key=draw(key, "discriminator"), train=True)
        domain_labels = jnp.repeat(jnp.arange(2), jnp.array([len(x), len(target_x)]), total_repeat_length=len(features))
        domain_mean = lambda values: (values[: len(x)] + mean_per_labelled(values[len(x) :], len(x))) / 2
        domain_loss = domain_mean(losses.cross_entropy(domains, domain_labels))
        weights = example_weights(ctx.batch, len(x))
        metrics = {
            "loss": weighted_mean(losses.cross_entropy(logits, y) + domain_loss, weights),
            "accuracy": weighted_mean(losses.hits(logits, y), weights),
            "domain_loss": weighted_mean(domain_loss, weights),
            "domain_accuracy": weighted_mean(domain_mean(losses.hits(domains, domain_labels)), weights),
        }
        return metrics["loss"].value(), Out({**encoder_stats, **head_stats, **judged}, metrics)

    return loss
