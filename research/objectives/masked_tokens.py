"""Masked language modelling: predict hidden tokens from the context on both sides (BERT, Devlin et al. 2019)."""

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
    """Tokens with some of them hidden, and the mask of tokens to predict."""

    tokens: Integer[Array, "*batch time"]
    chosen: Bool[Array, "*batch time"]


def masked_tokens(
    model: Model | Callable, *, vocabulary: int, mask_token: int, special: Sequence[int] = (), rate: float = 0.15
) -> Loss:
    """Make the Loss of a masked language model.

    A batch has the fields "tokens", "segments" and "positions", each int [batch, time]. `model` is a Model or its
    `apply`; it receives these three arrays with corrupted tokens, and returns logits [batch, time, vocabulary] of the
    original tokens. It must attend to both sides, such as `GPT(mask=full_mask)`. `corrupt` documents the other
    arguments. Loss (nats per token) and accuracy are means over the chosen tokens of the batch. Padding (segment 0),
    the tokens `special` and examples of mask 0 are never chosen. The loss adds over tokens. Effect on `stats`: all the
    model's stats are passed on. The key is folded with "corrupt" and "model".

    Raises UserError for a rate outside (0, 1]; while tracing, if the batch lacks a field or the logits do not fit.
    """
    apply = getattr(model, "apply", model)
    rules = dict(vocabulary=vocabulary, mask_token=mask_token, rate=check_rate(rate))

    def loss(params, ctx):
        tokens, segments, positions = inputs(ctx.batch)
        masked = corrupt(draw(ctx.key, "corrupt"), tokens, allowed=maskable(tokens, segments, special=special), **rules)
        model_inputs = (masked.tokens, segments, positions)
        logits, stats = apply(params, ctx.stats, *model_inputs, key=draw(ctx.key, "model"), train=True)
        weights = masked.chosen * example_weights(ctx.batch, len(tokens))[:, None]
        metrics = token_metrics(logits, tokens, weights=weights)
        return metrics["loss"].value(), Out(stats, metrics)

    return loss


def corrupt(
    key: Key[Array, ""], tokens: Integer[Array, "*batch time"], *, allowed: Bool[Array, "*batch time"],
    vocabulary: int, mask_token: int, rate: float = 0.15,
) -> Corrupted:  # fmt: skip
    """Choose each of the `allowed` tokens with probability `rate` and corrupt most of the chosen ones.

    Of the chosen, 80 % become `mask_token`, 10 % a random token below `vocabulary`, and 10 % stay (section 3.1; BERT's
    code fixes the number of chosen tokens instead).
    """
    tokens = jnp.asarray(tokens)
    chosen = allowed & jax.random.bernoulli(draw(key, "choose"), rate, tokens.shape)
    fate = jax.random.uniform(draw(key, "fate"), tokens.shape)
    random_token = jax.random.randint(draw(key, "other"), tokens.shape, 0, vocabulary, tokens.dtype)
    hidden = jnp.where(fate < 0.8, jnp.asarray(mask_token, tokens.dtype), jnp.where(fate < 0.9, random_token, tokens))
    return Corrupted(jnp.where(chosen, hidden, tokens), chosen)


def maskable(
    tokens: Integer[Array, "*batch time"], segments: Integer[Array, "*batch time"], *, special: Sequence[int] = ()
) -> Bool[Array, "*batch time"]:
    """Whether a token may be hidden: it is neither padding (segment 0) nor in `special`."""
    return (segments > 0) & ~jnp.isin(tokens, jnp.asarray(special, jnp.int32))


def token_metrics(
    logits: Float[Array, "batch time vocabulary"],
    tokens: Integer[Array, "batch time"],
    *,
    weights: Float[Array, "batch time"],
) -> dict[str, Mean]:
    """Compute the metrics "loss" (nats) and "accuracy" of `logits` for `tokens`."""
    return {
        "loss": weighted_mean(losses.cross_entropy(logits, tokens), weights),
        "accuracy": weighted_mean(losses.hits(logits, tokens), weights),
    }


def check_rate(rate: float) -> float:
    """Return the rate. Raises UserError unless 0 < rate <= 1."""
    if not 0 < rate <= 1:
        raise UserError(f"rate={rate} of tokens to hide; expected more than 0 and at most 1.")
    return rate
