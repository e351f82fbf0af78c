"""Generative adversarial networks: two players' losses in one, told apart by what each may change."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from research.axes import Array, Float, Shaped
from research.core import Loss, Model, Out, Tree, draw, overlay, weighted_mean
from research.fields import example_weights, field


class Game(NamedTuple):
    """What the two players minimise for each example: `discriminator(real, fake)` and `generator(fake)`, of scores."""

    discriminator: Callable[[Float[Array, "..."], Float[Array, "..."]], Float[Array, "..."]]
    generator: Callable[[Float[Array, "..."]], Float[Array, "..."]]


# Goodfellow et al. 2014: cross-entropy, and for the generator its non-saturating form (section 3).
NON_SATURATING = Game(
    lambda real, fake: jax.nn.softplus(-real) + jax.nn.softplus(fake), lambda fake: jax.nn.softplus(-fake)
)
# Lim & Ye 2017; Miyato et al. 2018, equations 16 and 17.
HINGE = Game(lambda real, fake: jax.nn.relu(1 - real) + jax.nn.relu(1 + fake), lambda fake: -fake)
# Arjovsky et al. 2017. The scores must be kept from being steep: by `penalty`.
WASSERSTEIN = Game(lambda real, fake: fake - real, lambda fake: -fake)


def gan(
    generator: Model | Callable, discriminator: Model | Callable, *, latent: int, game: Game = NON_SATURATING,
    penalty: float = 0.0, inputs: str = "image",
) -> Loss:  # fmt: skip
    """The Loss of both players on params {"generator", "discriminator"}; real examples are `batch[inputs]`, f32.

    `generator` (latents [batch, latent] -> examples) and `discriminator` (examples -> scores [batch, ...], several
    scores of one example are averaged) are Models or their `apply`. The generator's loss does not reach the
    discriminator's parameters, nor the discriminator's the generator's: each follows its own gradient, at once; give
    each its optimizer by `optax.partition`. `penalty` weighs (|grad of the score| - 1)^2 at points between real and
    fake examples (Gulrajani et al. 2017, equation 3).

    It adds over examples unless a player mixes them. Metrics are loss (the sum of all terms), generator_loss,
    discriminator_loss, and gradient_norm if there is a penalty. The players' stats are passed on; the
    discriminator sees real examples, then fake ones. The key is folded with "latent", "between" and the players' names.
    """
    generate = getattr(generator, "apply", generator)
    judge = getattr(discriminator, "apply", discriminator)

    def loss(params, ctx):
        real = field(ctx.batch, inputs)
        weights = example_weights(ctx.batch, len(real))
        z = jax.random.normal(draw(ctx.key, "latent"), (len(real), latent))
        fake, made = generate(params["generator"], ctx.stats, z, key=draw(ctx.key, "generator"), train=True)
        shown = jax.lax.stop_gradient(fake)

        def score(
            judging: Tree, examples: Shaped[Array, "batch ..."], number: int, stats: Tree = ctx.stats
        ) -> tuple[Float[Array, "batch outputs"], Tree]:
            key = draw(ctx.key, "discriminator", number)
            scores, changed = judge(judging, stats, examples, key=key, train=True)
            return scores.astype(jnp.float32).reshape(len(examples), -1), changed

        fooled, _ = score(jax.lax.stop_gradient(params["discriminator"]), fake, 0)
        on_real, changed = score(params["discriminator"], real, 1)
        on_fake, again = score(params["discriminator"], shown, 2, overlay(ctx.stats, changed))
        terms = {
            "generator_loss": game.generator(fooled).mean(-1),
            "discriminator_loss": game.discriminator(on_real, on_fake).mean(-1),
        }
        total = sum(terms.values())
        if penalty:
            share = jax.random.uniform(draw(ctx.key, "between"), (len(real),) + (1,) * (real.ndim - 1))
            between = share * real + (1 - share) * shown
            slope = jax.grad(lambda x: score(params["discriminator"], x, 3)[0].mean(-1).sum())(between)
            # The root has no slope at 0.
            norm = jnp.sqrt(jnp.sum(slope.reshape(len(real), -1) ** 2, -1) + 1e-12)
            terms["gradient_norm"] = norm
            total += penalty * (norm - 1) ** 2
        metrics = {name: weighted_mean(term, weights) for name, term in {"loss": total, **terms}.items()}
        return metrics["loss"].value(), Out({**made, **changed, **again}, metrics)

    return loss
