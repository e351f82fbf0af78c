"""Variational auto-encoders (Kingma & Welling 2014)."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from research.axes import Array, Float, Key, Num
from research.core import Loss, Model, Out, draw, weighted_mean
from research.errors import UserError
from research.fields import example_weights, field


class Posterior(NamedTuple):
    """q(z | x) of every example, a diagonal Gaussian: its mean and log variance, in f32."""

    mean: Float[Array, "batch latents"]
    log_variance: Float[Array, "batch latents"]


def bernoulli(logits: Float[Array, " batch *example"], x: Num[Array, " batch *example"]) -> Float[Array, " batch"]:
    """Compute log p(x | logits) of every example, summed over its pixels, in nats; x lies in 0..1."""
    logits = logits.astype(jnp.float32)
    return jnp.sum((x * logits - jax.nn.softplus(logits)).reshape(len(x), -1), -1)


def gaussian(std: float) -> Callable:
    """Make a `likelihood(mean, x)`: log N(x; mean, std^2) of every example, summed over pixels, in nats."""

    def likelihood(mean: Float[Array, " batch *example"], x: Num[Array, " batch *example"]) -> Float[Array, " batch"]:
        standardized = (x - mean.astype(jnp.float32)) / std
        return jnp.sum((-0.5 * standardized**2 - np.log(std) - 0.5 * np.log(2 * np.pi)).reshape(len(x), -1), -1)

    return likelihood


def vae(
    encoder: Model | Callable, decoder: Model | Callable, *, likelihood: Callable = bernoulli, beta: float = 1.0,
    inputs: str = "image",
) -> Loss:  # fmt: skip
    """Make the negative evidence lower bound on params {"encoder", "decoder"}, in nats per example.

    `encoder` (x -> [batch, 2 latents]: means, then log variances) and `decoder` (z [batch, latents] -> the `output` of
    `likelihood(output, x)`) are Models or their `apply`. One z per example is sampled by reparametrisation
    (equation 10). The divergence from the standard normal prior has a closed form (appendix B) and is weighted by
    `beta` (Higgins et al. 2017). Limit: with beta 0 only the reconstruction term remains.

    Metrics are loss, divergence and distortion (the negative log likelihood), in nats. Effect on `stats`: those of both
    models are passed on. The key is folded with "noise", "encoder" and "decoder". Raises UserError for an encoder of
    odd width.
    """
    encode, decode = (getattr(model, "apply", model) for model in (encoder, decoder))

    def loss(params, ctx):
        x = field(ctx.batch, inputs)
        weights = example_weights(ctx.batch, len(x))
        moments, encoder_stats = encode(params["encoder"], ctx.stats, x, key=draw(ctx.key, "encoder"), train=True)
        q = posterior(moments)
        z = sample(draw(ctx.key, "noise"), q)
        output, decoder_stats = decode(params["decoder"], ctx.stats, z, key=draw(ctx.key, "decoder"), train=True)
        kl, distortion = divergence(q), -likelihood(output, x)
        terms = {"loss": distortion + beta * kl, "divergence": kl, "distortion": distortion}
        metrics = {name: weighted_mean(term, weights) for name, term in terms.items()}
        return metrics["loss"].value(), Out({**encoder_stats, **decoder_stats}, metrics)

    return loss


def posterior(found: Float[Array, "batch outputs"]) -> Posterior:
    """Split an encoder's output into a Posterior. Raises UserError if its width is odd."""
    if found.shape[-1] % 2:
        raise UserError(f"an encoder returns means and log variances, an even number; this one has {found.shape[-1]}.")
    return Posterior(*jnp.split(found.astype(jnp.float32), 2, axis=-1))


def sample(key: Key[Array, ""], q: Posterior) -> Float[Array, "batch latents"]:
    """Sample one z of every posterior; gradients flow to its mean and variance."""
    return q.mean + jnp.exp(0.5 * q.log_variance) * jax.random.normal(key, q.mean.shape)


def divergence(q: Posterior) -> Float[Array, " batch"]:
    """Compute KL(q || standard normal) of every example, in nats (appendix B)."""
    return 0.5 * jnp.sum(q.mean**2 + jnp.exp(q.log_variance) - 1 - q.log_variance, -1)
