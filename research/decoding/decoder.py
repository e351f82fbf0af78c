"""The interface between networks and searches: the logits of the next token, given a state."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp

from research.axes import Array, Float, Integer
from research.core import Trained, Tree


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Decoder:
    """A network that predicts the next token of each row, as pure functions of `variables` and a state.

    start(variables, prompts, lengths=, room=) -> (state, logits [batch, vocabulary])
    step(variables, state, tokens [batch])     -> (state, logits [batch, vocabulary])

    `prompts` [batch, time] are padded on the right; `lengths` [batch], at least 1, counts their tokens. `room` is the
    number of tokens that may follow the prompt. Every leaf of a state has the batch as its first axis: a beam search
    selects rows. The functions are static and should be defined once, at the top of a file, because a new function
    compiles anew; `variables` holds the weights and all other arrays, such as an encoded source sentence.

    Speculative decoding needs two more functions. `extend(variables, state, tokens [batch, time])` equals a step for
    each token, with the logits [batch, time, vocabulary] after each. `rewind(state, counts [batch])` forgets the last
    `counts` tokens of each row.
    """

    start: Callable[..., tuple[Tree, Float[Array, "batch vocabulary"]]] = dataclasses.field(metadata={"static": True})
    step: Callable[..., tuple[Tree, Float[Array, "batch vocabulary"]]] = dataclasses.field(metadata={"static": True})
    variables: Tree = dataclasses.field(repr=False)
    extend: Callable | None = dataclasses.field(default=None, metadata={"static": True})
    rewind: Callable | None = dataclasses.field(default=None, metadata={"static": True})


def recomputed(trained: Trained) -> Decoder:
    """Return the Decoder of a causal network without a cache: each token costs a forward pass over the whole row.

    `trained(tokens)` returns the logits of each next token, which must not depend on later tokens.
    """
    return Decoder(_start, _step, trained)


def last_logits(
    logits: Float[Array, "batch time vocabulary"], lengths: Integer[Array, " batch"]
) -> Float[Array, "batch vocabulary"]:
    """Return the logits after the last token of each row, in f32."""
    return jnp.take_along_axis(logits, lengths[:, None, None] - 1, 1)[:, 0].astype(jnp.float32)


def _start(trained, prompts, *, lengths, room):
    tokens = jnp.pad(prompts, ((0, 0), (0, room)))
    return (tokens, lengths), last_logits(trained(tokens), lengths)


def _step(trained, state, tokens):
    rows, lengths = state
    rows = rows.at[jnp.arange(len(rows)), lengths].set(tokens.astype(rows.dtype))
    return (rows, lengths + 1), last_logits(trained(rows), lengths + 1)
