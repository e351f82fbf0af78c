"""Preference optimization: raise the probability of the chosen response against the rejected one, without a reward."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import jax.numpy as jnp

from research import losses
from research.axes import Array, Float, Integer
from research.core import Loss, Model, Out, View, draw, weighted_mean
from research.errors import UserError
from research.fields import example_weights, field, inputs, targets
from research.objectives.teacher import teacher_outputs


def preference(
    model: Model | Callable, reference: Model | Callable, *, view: View, per_pair: Callable | None = None
) -> Loss:
    """Minimise `per_pair` of the margin by which the model prefers the chosen response more than the reference does.

    From Rafailov et al. 2023 (arXiv:2305.18290). A batch has the fields of a language model with one more axis,
    [batch, 2, time]: first the chosen, then the rejected text, each with its prompt. "response" marks the tokens of the
    response, whose log-probabilities are summed. `losses.dpo(beta)` and `losses.ipo(beta)` are for `per_pair`; the
    default is `dpo()`. `reference` is a Model or its `apply`, which runs in evaluation mode with the weights that
    `view` selects (`research.objectives.teacher`). It starts as the model itself: see `with_teacher`.

    Limit: if the model is the reference, all margins are 0. It adds over examples; those of mask 0 have no weight.
    Metrics are loss, margin (nats), accuracy (how often the margin is above 0, a tie counts half), chosen and rejected
    (log-probability of the response, nats). Effect on `stats`: the model's stats are passed on. The key is folded with
    "model". Raises UserError, while tracing, if the batch lacks a field or has no axis of two texts.
    """
    apply, apply_reference = getattr(model, "apply", model), getattr(reference, "apply", reference)
    per_pair = per_pair or losses.dpo()

    def loss(params, ctx):
        rows = pair_rows(ctx.batch)
        logits, stats = apply(params, ctx.stats, *inputs(rows), key=draw(ctx.key, "model"), train=True)
        expected = teacher_outputs(apply_reference, view, params, ctx, *inputs(rows))
        log_probs = response_log_probs(logits, rows)
        ratio = log_probs - response_log_probs(expected, rows)
        margin = ratio[:, 0] - ratio[:, 1]
        weights = example_weights(ctx.batch, len(margin))
        metrics = {
            "loss": weighted_mean(per_pair(margin), weights),
            "margin": weighted_mean(margin, weights),
            "accuracy": weighted_mean(positive(margin), weights),
            "chosen": weighted_mean(log_probs[:, 0], weights),
            "rejected": weighted_mean(log_probs[:, 1], weights),
        }
        return metrics["loss"].value(), Out(stats, metrics)

    return loss


def pair_rows(batch: Mapping) -> dict[str, Integer[Array, "texts time"]]:
    """Return the fields of a batch of pairs, [batch, 2, time], as rows of a language model, [2 batch, time].

    Raises UserError if the batch lacks a field or has no axis of two texts.
    """
    pairs = {name: field(batch, name) for name in ("tokens", "segments", "positions", "response")}
    for name, x in pairs.items():
        if x.ndim != 3 or x.shape[1] != 2:
            raise UserError(f"{name!r} has the shape {list(x.shape)}; expected [batch, 2, time]: chosen, rejected.")
    return {name: x.reshape(-1, x.shape[-1]) for name, x in pairs.items()}


def response_log_probs(logits: Float[Array, "texts time vocabulary"], rows: Mapping) -> Float[Array, "batch 2"]:
    """Return the log-probability of the chosen and the rejected response of each pair of `pair_rows`, in nats."""
    labels, weights = targets(rows)
    return -jnp.sum(losses.cross_entropy(logits, labels) * weights, -1).reshape(-1, 2)


def positive(margin: Float[Array, " batch"]) -> Float[Array, " batch"]:
    """Return 1 for a margin above 0, 0 for one below 0, and 1/2 for a tie."""
    return (jnp.sign(margin) + 1) / 2
