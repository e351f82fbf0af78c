"""Masked language modelling: guess the tokens that were hidden from both sides' context (Devlin et al. 2019, BERT)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from research import losses
from research.axes import Array, Bool, Float, Integer, Key
from research.core import Loss, Mean, Model, Out, draw, weighted_mean
from research.errors import UserError
from research.fields import example_weights, inputs


class Corrupted(NamedTuple):
    """Tokens with some hidden, and which of them are to be guessed."""

    tokens: Integer[Array, "*batch time"]
    chosen: Bool[Array, "*batch time"]


def masked_tokens(
    model: Model | Callable, *, vocabulary: int, mask_token: int, special: Sequence[int] = (), rate: float = 0.15
) -> Loss:
    """The Loss of a masked language model on a batch of {"tokens", "segments", "positions"}, each int [batch, time].

    `model` is a Model or its `apply`, called with these three, tokens corrupted, and giving logits
    [batch, time, vocabulary] of the tokens that were there (a model that sees both sides, such as
    `GPT(mask=full_mask)`). `corrupt` has the other arguments. Loss (nats a token) and accuracy are means over the
    chosen tokens of the batch; padding (segment 0), the tokens `special` and examples of mask 0 are never chosen. The
    loss adds over tokens. All the model's stats are passed on. The key is folded with "corrupt" and "model".

    Raises UserError, while tracing, if the batch lacks a field or the logits do not fit, and at once for a rate
    outside 0..1.
    """
    apply = getattr(model, "apply", model)
    how = dict(vocabulary=vocabulary, mask_token=mask_token, rate=check_rate(rate))

    def loss(params, ctx):
        tokens, segments, positions = inputs(ctx.batch)
        found = corrupt(draw(ctx.key, "corrupt"), tokens, allowed=maskable(tokens, segments, special=special), **how)
        given = (found.tokens, segments, positions)
        logits, stats = apply(params, ctx.stats, *given, key=draw(ctx.key, "model"), train=True)
        weights = found.chosen * example_weights(ctx.batch, len(tokens))[:, None]
        metrics = guessed(logits, tokens, weights=weights)
        return metrics["loss"].value(), Out(stats, metrics)

    return loss


def corrupt(
    key: Key[Array, ""], tokens: Integer[Array, "*batch time"], *, allowed: Bool[Array, "*batch time"],
    vocabulary: int, mask_token: int, rate: float = 0.15,
) -> Corrupted:  # fmt: skip
    """Chooses each of the `allowed` tokens with probability `rate` (section 3.1; BERT's code fixes the number instead).
    Of the chosen, 80 % become `mask_token`, 10 % a random token below `vocabulary`, 10 % stay.
    """
    tokens = jnp.asarray(tokens)
    chosen = allowed & jax.random.bernoulli(draw(key, "choose"), rate, tokens.shape)
    fate = jax.random.uniform(draw(key, "fate"), tokens.shape)
    other = jax.random.randint(draw(key, "other"), tokens.shape, 0, vocabulary, tokens.dtype)
    hidden = jnp.where(fate < 0.8, jnp.asarray(mask_token, tokens.dtype), jnp.where(fate < 0.9, other, tokens))
    return Corrupted(jnp.where(chosen, hidden, tokens), chosen)


def maskable(
    tokens: Integer[Array, "*batch time"], segments: Integer[Array, "*batch time"], *, special: Sequence[int] = ()
) -> Bool[Array, "*batch time"]:
    """Whether a token may be hidden: it is no padding (segment 0), and none of the numbers in `special`."""
    return (segments > 0) & ~jnp.isin(tokens, jnp.asarray(special, jnp.int32))


def guessed(
    logits: Float[Array, "batch time vocabulary"],
    tokens: Integer[Array, "batch time"],
    *,
    weights: Float[Array, "batch time"],
) -> dict[str, Mean]:
    """The metrics "loss" (nats) and "accuracy" of `logits` about `tokens`."""
    return {
        "loss": weighted_mean(losses.cross_entropy(logits, tokens), weights),
        "accuracy": weighted_mean(losses.hits(logits, tokens), weights),
    }


def check_rate(rate: float) -> float:
    """The rate; raises UserError unless 0 < rate <= 1."""
    if not 0 < rate <= 1:
        raise UserError(f"a share of {rate} of the tokens to hide; expected more than 0 and at most 1.")
    return rate
