"""Beam search with a length penalty."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from research.axes import Array, Float, Int, Integer
from research.core import Tree
from research.decoding.decoder import Decoder
from research.decoding.rules import Rule, applied, started, updated
from research.decoding.sampling import after_end
from research.errors import UserError


class Beams(NamedTuple):
    """The best sequences of each row, best first, as `Generated`, and their scores."""

    tokens: Int[Array, "batch beams time"]
    lengths: Int[Array, "batch beams"]
    scores: Float[Array, "batch beams"]


class _Search(NamedTuple):
    """`running` sequences may grow, `finished` ones have ended; scores of the former are not normalised."""

    running: Int[Array, "batch beams time"]
    running_scores: Float[Array, "batch beams"]
    finished: Int[Array, "batch beams time"]
    finished_scores: Float[Array, "batch beams"]
    state: Tree
    memory: tuple[Tree, ...]


def beam_search(
    decoder: Decoder,
    prompts: Integer[Array, "batch time"],
    *,
    lengths: Integer[Array, " batch"],
    count: int,
    beams: int,
    end: int | None = None,
    length_penalty: float = 1.0,
    rules: tuple[Rule, ...] = (),
) -> Beams:
    """Search for the continuations of at most `count` tokens with the highest score, keeping `beams` prefixes.

        score = sum of log p(token) / (number of tokens, the end token included) ** length_penalty

    A penalty of 0 compares probabilities; larger values favour longer sequences. A continuation ends with the token
    `end` or after `count` tokens. An ending sequence counts only if it is among the best `beams` candidates of its
    step. The search stops when no running prefix can reach the score of the worst finished sequence. With as many
    beams as sequences, the result is exact. Rules are applied to the log-probabilities.
    """
    if beams < 1:
        raise UserError(f"beam_search(beams={beams}); expected at least 1.")
    batch = len(prompts)
    state, logits = decoder.start(decoder.variables, prompts, lengths=lengths, room=count)
    vocabulary = logits.shape[-1]
    memory = started(rules, prompts, lengths=lengths, room=count, vocabulary=vocabulary)
    spread = lambda tree: jax.tree.map(lambda x: jnp.repeat(x, beams, axis=0), tree)
    nothing = jnp.zeros((batch, beams, count), jnp.int32)
    lowest = jnp.full((batch, beams), -jnp.inf)
    # All beams of a row are equal at first: only one counts.
    search = _Search(nothing, lowest.at[:, 0].set(0.0), nothing, lowest, spread(state), spread(memory))

    def extended(search: _Search, logits: Float[Array, "rows vocabulary"], i) -> _Search:
        scores = applied(rules, search.memory, jax.nn.log_softmax(logits)).reshape(batch, beams, vocabulary)
        scores = (scores + search.running_scores[..., None]).reshape(batch, beams * vocabulary)
        # Half of the candidates may end, one for each beam; enough remain to continue.
        scores, places = jax.lax.top_k(scores, 2 * beams)
        origins, tokens = places // vocabulary, (places % vocabulary).astype(jnp.int32)
        candidates = jnp.take_along_axis(search.running, origins[..., None], 1).at[:, :, i].set(tokens)
        ends = tokens == end if end is not None else jnp.zeros(tokens.shape, bool)
        counts = (ends | (i == count - 1)) & (jnp.arange(tokens.shape[1]) < beams)
        normalised = jnp.where(counts, scores / (i + 1.0) ** length_penalty, -jnp.inf)
        finished_scores, best = jax.lax.top_k(jnp.concatenate([search.finished_scores, normalised], 1), beams)
        finished = jnp.concatenate([search.finished, candidates], 1)
        finished = jnp.take_along_axis(finished, best[..., None], 1)
        running_scores, best = jax.lax.top_k(jnp.where(ends, -jnp.inf, scores), beams)
        select = lambda x: jnp.take_along_axis(x, best, 1)
        running = jnp.take_along_axis(candidates, best[..., None], 1)
        rows = (jnp.arange(batch)[:, None] * beams + select(origins)).reshape(-1)
        state, memory = jax.tree.map(lambda x: x[rows], (search.state, search.memory))
        memory = updated(rules, memory, select(tokens).reshape(-1))
        return _Search(running, running_scores, finished, finished_scores, state, memory)

    def unfinished(carry):
        i, search = carry
        # Scores are negative: the best possible length of a running sequence is the one with the largest divisor.
        best_length = jnp.float32(count) if length_penalty > 0 else i + 1.0
        possible = search.running_scores.max(1) / best_length**length_penalty
        return (i < count) & (possible > search.finished_scores.min(1)).any()

    def body(carry):
        i, search = carry
        newest = jax.lax.dynamic_index_in_dim(search.running, i - 1, 2, keepdims=False)
        state, logits = decoder.step(decoder.variables, search.state, newest.reshape(-1))
        return i + 1, extended(search._replace(state=state), logits, i)

    search = extended(search, jnp.repeat(logits, beams, axis=0), 0)
    search = jax.lax.while_loop(unfinished, body, (1, search))[1]
    return Beams(*after_end(search.finished, end), search.finished_scores)
