"""Speculative decoding: a small network proposes tokens, and the large one checks all of them in one call."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from research.axes import Array, Float, Int, Integer, Key
from research.core import Tree, draw
from research.decoding.decoder import Decoder
from research.decoding.rules import Rule, applied, started, updated
from research.decoding.sampling import after_end, position_keys
from research.errors import UserError


class Speculated(NamedTuple):
    """As `Generated`, with the number of tokens that the draft proposed for each row, and how many were accepted."""

    tokens: Int[Array, "batch time"]
    lengths: Int[Array, " batch"]
    proposed: Int[Array, " batch"]
    accepted: Int[Array, " batch"]


class _Progress(NamedTuple):
    """`newest` is chosen, but not yet part of either state; `made` counts the tokens of each row, `newest` included."""

    tokens: Int[Array, "batch places"]
    made: Int[Array, " batch"]
    newest: Int[Array, " batch"]
    state: Tree
    draft_state: Tree
    memory: tuple[Tree, ...]
    proposed: Int[Array, " batch"]
    accepted: Int[Array, " batch"]


def speculate(
    decoder: Decoder,
    prompts: Integer[Array, "batch time"],
    *,
    draft: Decoder,
    lengths: Integer[Array, " batch"],
    count: int,
    proposals: int = 4,
    rules: tuple[Rule, ...] = (),
    key: Key[Array, ""] | None = None,
    rows: Integer[Array, " batch"] | None = None,
    end: int | None = None,
) -> Speculated:
    """Continue each prompt by up to `count` tokens with the distribution of `decoder`, in fewer calls of it.

    In each round, `draft` proposes `proposals` tokens. `decoder` computes their probabilities p in one call. A token
    with the probability q under the draft is accepted with the probability min(1, p / q). The first rejected token is
    replaced by a sample from max(0, p - q), normalised; if all are accepted, one more token follows from p. The
    samples then have exactly the distribution p (Leviathan et al. 2023, theorem 3.5), with the rules applied to p and
    to q. Without a `key`, the result equals that of `generate`. The other options are those of `generate`.

    Raises UserError if a Decoder cannot rewind, or if the vocabularies differ.
    """
    if decoder.extend is None or decoder.rewind is None or draft.rewind is None:
        raise UserError(
            "speculate needs a Decoder with `extend` and `rewind`, and a draft with `rewind`: see `cached`."
        )
    if proposals < 1:
        raise UserError(f"speculate(proposals={proposals}); expected at least 1.")
    batch = len(prompts)
    options = dict(lengths=lengths, room=count + proposals, rewinds=proposals + 1)
    state, logits = decoder.start(decoder.variables, prompts, **options)
    draft_state, draft_logits = draft.start(draft.variables, prompts, **options)
    if logits.shape != draft_logits.shape:
        raise UserError(f"the draft has {draft_logits.shape[-1]} tokens and the network has {logits.shape[-1]}.")

    def probabilities(memory, logits):
        logits = applied(rules, memory, logits)
        return jax.nn.softmax(logits) if key is not None else jax.nn.one_hot(logits.argmax(-1), logits.shape[-1])

    def sample(weights: Float[Array, "batch vocabulary"], positions, name: str) -> Int[Array, " batch"]:
        if key is None:
            return weights.argmax(-1).astype(jnp.int32)
        keys = position_keys(draw(key, name), positions, rows=rows)
        return jax.vmap(jax.random.categorical)(keys, jnp.log(weights)).astype(jnp.int32)

    def chance(positions) -> Float[Array, " batch"]:
        if key is None:
            return jnp.full(batch, 0.5)
        return jax.vmap(jax.random.uniform)(position_keys(draw(key, "accept"), positions, rows=rows))

    def finished(progress):
        over = progress.made >= count
        if end is not None:
            over = over | (progress.tokens == end).any(1)
        return over

    def body(progress: _Progress) -> _Progress:
        position = lengths + progress.made  # of the next token
        token, draft_state = progress.newest, progress.draft_state
        given, memories, expected = [token], [progress.memory], []
        for i in range(proposals):
            draft_state, logits = draft.step(draft.variables, draft_state, token)
            expected.append(probabilities(memories[-1], logits))
            token = sample(expected[-1], position + i, "draft")
            memories.append(updated(rules, memories[-1], token))
            given.append(token)
        draft_state, _ = draft.step(draft.variables, draft_state, token)
        state, logits = decoder.extend(decoder.variables, progress.state, jnp.stack(given, 1))
        right = [probabilities(memory, logits[:, i]) for i, memory in enumerate(memories)]
        expected.append(jnp.zeros_like(right[0]))  # nothing was proposed after the last proposal
        of = lambda weights, tokens: jnp.take_along_axis(weights, tokens[:, None], 1)[:, 0]
        accepts = [
            chance(position + i) * of(expected[i], given[i + 1]) < of(right[i], given[i + 1]) for i in range(proposals)
        ]
        agreed = jnp.cumprod(jnp.stack(accepts, 1), axis=1).sum(1).astype(jnp.int32)
        chosen = lambda parts: jax.tree.map(lambda *x: jnp.stack(x)[agreed, jnp.arange(batch)], *parts)
        rest = jnp.maximum(chosen(right) - chosen(expected), 0)
        last = sample(rest, position + agreed, "rest")
        active = ~finished(progress)
        tokens = jnp.stack([*given[1:], last], 1)
        places = jnp.arange(proposals + 1)
        tokens = jnp.where(places == agreed[:, None], last[:, None], tokens)
        written = active[:, None] & (places <= agreed[:, None])
        targets = jnp.where(written, progress.made[:, None] + places, count)  # `count` is no place: it is dropped
        made = jnp.where(active, jnp.minimum(progress.made + agreed + 1, count), progress.made)
        forget = proposals + 1 - (made - progress.made)
        keep = lambda new, old: jax.tree.map(
            lambda x, y: jnp.where(active.reshape(-1, *(1,) * (x.ndim - 1)), x, y), new, old
        )
        return _Progress(
            tokens=progress.tokens.at[jnp.arange(batch)[:, None], targets].set(tokens, mode="drop"),
            made=made,
            newest=jnp.where(active, last, progress.newest),
            state=decoder.rewind(decoder.variables, state, forget),
            draft_state=draft.rewind(draft.variables, draft_state, forget),
            memory=keep(updated(rules, chosen(memories), last), progress.memory),
            proposed=progress.proposed + active * proposals,
            accepted=progress.accepted + active * agreed,
        )

    memory = started(rules, prompts, lengths=lengths, room=count, vocabulary=logits.shape[-1])
    first = sample(probabilities(memory, logits), lengths, "rest")
    none = jnp.zeros(batch, jnp.int32)
    # An impossible token marks the places that are still empty.
    tokens = jnp.full((batch, count), -1, jnp.int32).at[:, 0].set(first)
    memory = updated(rules, memory, first)
    progress = _Progress(tokens, none + 1, first, state, draft_state, memory, none, none)
    progress = jax.lax.while_loop(lambda p: ~finished(p).all(), body, progress)
    return Speculated(*after_end(progress.tokens, end), progress.proposed, progress.accepted)
