"""The interface between networks and searches: the logits of the next token, given a state."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp

from research.axes import Array, Float, Integer
from research.core import Trained, Tree
from research.errors import UserError
from research.layers.cache import Cache, NewCache


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
    each token, with the logits [batch, time, vocabulary] after each. `rewind(variables, state, counts [batch])` forgets
    the last `counts` tokens of each row, at most the number `rewinds` that `start` then receives as well.
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


def cached(trained: Trained) -> Decoder:
    """Return the Decoder of a network with a cache, such as GPT, LLaMA or LSTM: each token costs one step.

    `trained(tokens, segments, positions, cache)` returns (logits, cache); see `models.decoder.apply_cached`. The tokens
    are those of `recomputed`. A state holds the cache and the number of tokens of each row.
    """
    return Decoder(_start_cached, _step_cached, trained, extend=_extend_cached, rewind=_rewind_cached)


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


def _start_cached(trained, prompts, *, lengths, room, rewinds=0):
    time = prompts.shape[1]
    segments = (jnp.arange(time) < lengths[:, None]).astype(jnp.int32)
    logits, cache = trained(prompts, segments, None, NewCache(time + room, rewinds))
    return (cache, lengths), last_logits(logits, lengths)


def _step_cached(trained, state, tokens):
    state, logits = _extend_cached(trained, state, tokens[:, None])
    return state, logits[:, 0]


def _extend_cached(trained, state, tokens):
    cache, lengths = state
    positions = lengths[:, None] + jnp.arange(tokens.shape[1])
    logits, cache = trained(tokens, None, positions, cache)
    return (cache, lengths + tokens.shape[1]), logits.astype(jnp.float32)


def _rewind_cached(trained, state, counts):
    """Earlier positions count as not yet written; the places that they had before are outside the window."""
    cache, lengths = state
    if not all(isinstance(own, Cache) for own in (cache if type(cache) is tuple else [cache])):
        raise UserError("a recurrent network cannot forget tokens: its state does not contain the earlier states.")
    return cache, lengths - counts
