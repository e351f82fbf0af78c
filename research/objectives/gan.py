"""Generative adversarial networks: the losses of generator and discriminator combined in one Loss."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from research.axes import Array, Float, Shaped
from research.core import Loss, Model, Out, Tree, draw, overlay, weighted_mean
from research.fields import example_weights, field


class Game(NamedTuple):
    """Per-example losses of the players, as functions of scores: `discriminator(real, fake)` and `generator(fake)`."""

    discriminator: Callable[[Float[Array, "..."], Float[Array, "..."]], Float[Array, "..."]]
    generator: Callable[[Float[Array, "..."]], Float[Array, "..."]]


# Goodfellow et al. 2014: cross-entropy, with the non-saturating form for the generator (section 3).
NON_SATURATING = Game(
    lambda real, fake: jax.nn.softplus(-real) + jax.nn.softplus(fake), lambda fake: jax.nn.softplus(-fake)
)
# Lim & Ye 2017; Miyato et al. 2018, equations 16 and 17.
HINGE = Game(lambda real, fake: jax.nn.relu(1 - real) + jax.nn.relu(1 + fake), lambda fake: -fake)
# Arjovsky et al. 2017. Needs `penalty`, which limits the slope of the scores.
WASSERSTEIN = Game(lambda real, fake: fake - real, lambda fake: -fake)


def gan(
    generator: Model | Callable, discriminator: Model | Callable, *, latent: int, game: Game = NON_SATURATING,
    penalty: float = 0.0, inputs: str = "image",
) -> Loss:  # fmt: skip
    """Make the Loss of both players on params {"generator", "discriminator"}; real examples are `batch[inputs]`, f32.

    `generator` (latents [batch, latent] -> examples) and `discriminator` (examples -> scores [batch, ...]; several
    scores of one example are averaged) are Models or their `apply`. The generator's loss does not reach the
    discriminator's parameters, nor the reverse: each player follows its own gradient, in the same step. Use
    `optax.partition` for an optimizer per player. `penalty` weights (|grad of the score| - 1)^2 at points between real
    and fake examples (Gulrajani et al. 2017, equation 3).

    The loss adds over examples unless a player mixes them. Metrics are loss (the sum of all terms), generator_loss,
    discriminator_loss, and gradient_norm if there is a penalty. Effect on `stats`: those of both players are passed on;
    the discriminator processes real examples, then fake ones. The key is folded with "latent", "between" and the
    players' names.
    """
    generate = getattr(generator, "apply", generator)
    discriminate = getattr(discriminator, "apply", discriminator)

    def loss(params, ctx):
        real = field(ctx.batch, inputs)
        weights = example_weights(ctx.batch, len(real))
        z = jax.random.normal(draw(ctx.key, "latent"), (len(real), latent))
        fake, generator_stats = generate(params["generator"], ctx.stats, z, key=draw(ctx.key, "generator"), train=True)
        fake_constant = jax.lax.stop_gradient(fake)

        def score(
            discriminator_params: Tree, examples: Shaped[Array, "batch ..."], number: int, stats: Tree = ctx.stats
        ) -> tuple[Float[Array, "batch outputs"], Tree]:
            key = draw(ctx.key, "discriminator", number)
            scores, changed = discriminate(discriminator_params, stats, examples, key=key, train=True)
            return scores.astype(jnp.float32).reshape(len(examples), -1), changed

        generator_scores, _ = score(jax.lax.stop_gradient(params["discriminator"]), fake, 0)
        real_scores, changed = score(params["discriminator"], real, 1)
        fake_scores, fake_stats = score(params["discriminator"], fake_constant, 2, overlay(ctx.stats, changed))
        terms = {
            "generator_loss": game.generator(generator_scores).mean(-1),
            "discriminator_loss": game.discriminator(real_scores, fake_scores).mean(-1),
        }
        total = sum(terms.values())
        if penalty:
            fraction = jax.random.uniform(draw(ctx.key, "between"), (len(real),) + (1,) * (real.ndim - 1))
            interpolated = fraction * real + (1 - fraction) * fake_constant
            slope = jax.grad(lambda x: score(params["discriminator"], x, 3)[0].mean(-1).sum())(interpolated)
            # The epsilon keeps the gradient of the root finite at 0.
            norm = jnp.sqrt(jnp.sum(slope.reshape(len(real), -1) ** 2, -1) + 1e-12)
            terms["gradient_norm"] = norm
            total += penalty * (norm - 1) ** 2
        metrics = {name: weighted_mean(term, weights) for name, term in {"loss": total, **terms}.items()}
        return metrics["loss"].value(), Out({**generator_stats, **changed, **fake_stats}, metrics)

    return loss
