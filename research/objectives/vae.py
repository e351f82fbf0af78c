"""The variational auto-encoder (Kingma & Welling 2014)."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from research.core import Loss, Out, draw, weighted_mean
from research.errors import UserError
from research.fields import example_weights, field


class Posterior(NamedTuple):
    """q(z | x) of every example, a diagonal Gaussian: its mean and log variance, f32 [B, L]."""

    mean: Any
    log_variance: Any


def bernoulli(logits, x):
    """log p(x | logits) of pixels x in 0..1, summed over all axes but the first, in nats: [B, ...] -> [B]."""
    logits = logits.astype(jnp.float32)
    return jnp.sum((x * logits - jax.nn.softplus(logits)).reshape(len(x), -1), -1)


def gaussian(std: float):
    """The likelihood log N(x; mean, std^2), summed over all axes but the first, in nats: (mean, x) -> [B]."""

    def likelihood(mean, x):
        unit = (x - mean.astype(jnp.float32)) / std
        return jnp.sum((-0.5 * unit**2 - np.log(std) - 0.5 * np.log(2 * np.pi)).reshape(len(x), -1), -1)

    return likelihood


def vae(encoder, decoder, *, likelihood=bernoulli, beta: float = 1.0, inputs: str = "image") -> Loss:
    """The negative evidence lower bound on params {"encoder", "decoder"}, in nats an example.

    `encoder` (x -> [B, 2L]: means, then log variances) and `decoder` (z [B, L] -> what `likelihood(output, x)` takes)
    are Models or their `apply`. One sample of z an example, reparametrised (equation 10); the divergence from the
    standard normal prior in closed form (appendix B), weighted by `beta` (Higgins et al. 2017).

    Metrics are loss, divergence and distortion (the negative log likelihood). The models' stats are passed on; the
    key is folded with "noise", "encoder" and "decoder". Raises UserError for an encoder of odd width.
    """
    encode, decode = (getattr(model, "apply", model) for model in (encoder, decoder))

    def loss(params, ctx):
        x = field(ctx.batch, inputs)
        weights = example_weights(ctx.batch, len(x))
        found, seen = encode(params["encoder"], ctx.stats, x, key=draw(ctx.key, "encoder"), train=True)
        q = posterior(found)
        z = sample(draw(ctx.key, "noise"), q)
        output, made = decode(params["decoder"], ctx.stats, z, key=draw(ctx.key, "decoder"), train=True)
        apart, distortion = divergence(q), -likelihood(output, x)
        terms = {"loss": distortion + beta * apart, "divergence": apart, "distortion": distortion}
        metrics = {name: weighted_mean(term, weights) for name, term in terms.items()}
        return metrics["loss"].value(), Out({**seen, **made}, metrics)

    return loss


def posterior(found) -> Posterior:
    """An encoder's output [B, 2L] as a Posterior. Raises UserError where its width is odd."""
    if found.shape[-1] % 2:
        raise UserError(f"an encoder gives means and log variances, an even number; this one gives {found.shape[-1]}.")
    return Posterior(*jnp.split(found.astype(jnp.float32), 2, axis=-1))


def sample(key, q: Posterior):
    """One z of every posterior, [B, L]; gradients flow to its mean and variance."""
    return q.mean + jnp.exp(0.5 * q.log_variance) * jax.random.normal(key, q.mean.shape)


def divergence(q: Posterior):
    """KL(q || standard normal) in nats, [B] (appendix B)."""
    return 0.5 * jnp.sum(q.mean**2 + jnp.exp(q.log_variance) - 1 - q.log_variance, -1)
