"""Greedy decoding and random sampling, token by token."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from research.axes import Array, Bool, Float, Int, Integer, Key
from research.core import Tree, draw
from research.decoding.decoder import Decoder
from research.decoding.rules import Rule, applied, started, updated


class Generated(NamedTuple):
    """The tokens that follow the prompt, and how many precede the end token. The rest of a row is the end token."""

    tokens: Int[Array, "batch time"]
    lengths: Int[Array, " batch"]


class Progress(NamedTuple):
    """A generation in progress: the newest token of each row, its position in the row, and whether the row has ended.

    The Decoder's state and the memory of the rules precede, respectively include, the newest token.
    """

    tokens: Int[Array, " batch"]
    positions: Int[Array, " batch"]
    ended: Bool[Array, " batch"]
    state: Tree
    memory: tuple[Tree, ...]


def generate(
    decoder: Decoder,
    prompts: Integer[Array, "batch time"],
    *,
    lengths: Integer[Array, " batch"],
    count: int,
    rules: tuple[Rule, ...] = (),
    key: Key[Array, ""] | None = None,
    rows: Integer[Array, " batch"] | None = None,
    end: int | None = None,
) -> Generated:
    """Continue each prompt by up to `count` tokens, or to the token `end`.

    Without a `key`, the most likely token is chosen. With a key, tokens are sampled, and the sample of a row depends
    on (key, number of the row, position) alone, not on the other rows. `rows` [batch] numbers the rows, by default by
    their place. Rules are applied in order. The loop stops when every row has ended.
    """
    options = dict(rules=rules, key=key, rows=rows, end=end)
    progress = begin(decoder, prompts, lengths=lengths, room=count, **options)
    tokens = jnp.zeros((len(prompts), count), jnp.int32).at[:, 0].set(progress.tokens)

    def body(carry):
        i, tokens, progress = carry
        progress = advance(decoder, progress, **options)
        return i + 1, tokens.at[:, i].set(progress.tokens), progress

    def unfinished(carry):
        return (carry[0] < count) & ~carry[2].ended.all()

    _, tokens, _ = jax.lax.while_loop(unfinished, body, (1, tokens, progress))
    return after_end(tokens, end)


def begin(
    decoder: Decoder,
    prompts: Integer[Array, "batch time"],
    *,
    lengths: Integer[Array, " batch"],
    room: int,
    rules: tuple[Rule, ...] = (),
    key: Key[Array, ""] | None = None,
    rows: Integer[Array, " batch"] | None = None,
    end: int | None = None,
) -> Progress:
    """Read the prompts and choose the first token of each row; the options are those of `generate`."""
    state, logits = decoder.start(decoder.variables, prompts, lengths=lengths, room=room)
    memory = started(rules, prompts, lengths=lengths, room=room, vocabulary=logits.shape[-1])
    ended = jnp.zeros(len(prompts), bool)
    return _chosen(logits, lengths.astype(jnp.int32), ended, state, memory, rules=rules, key=key, rows=rows, end=end)


def advance(
    decoder: Decoder,
    progress: Progress,
    *,
    rules: tuple[Rule, ...] = (),
    key: Key[Array, ""] | None = None,
    rows: Integer[Array, " batch"] | None = None,
    end: int | None = None,
) -> Progress:
    """Choose the next token of each row. A row that has ended repeats the end token."""
    _, positions, ended, state, memory = progress
    state, logits = decoder.step(decoder.variables, state, progress.tokens)
    return _chosen(logits, positions + 1, ended, state, memory, rules=rules, key=key, rows=rows, end=end)


def _chosen(logits, positions, ended, state, memory, *, rules, key, rows, end) -> Progress:
    logits = applied(rules, memory, logits)
    tokens = pick(logits, keys=position_keys(key, positions, rows=rows)).astype(jnp.int32)
    if end is not None:
        tokens = jnp.where(ended, end, tokens)
        ended = tokens == end
    return Progress(tokens, positions, ended, state, updated(rules, memory, tokens))


def position_keys(
    key: Key[Array, ""] | None, positions: Integer[Array, " batch"], *, rows: Integer[Array, " batch"] | None = None
) -> Key[Array, " batch"] | None:
    """Return the key of each row at its position; None without a key."""
    if key is None:
        return None
    rows = jnp.arange(len(positions)) if rows is None else rows
    return jax.vmap(draw)(draw(key, rows), positions)


def pick(logits: Float[Array, "batch vocabulary"], *, keys: Key[Array, " batch"] | None) -> Integer[Array, " batch"]:
    """Sample one token of each row, or select the most likely one if `keys` is None."""
    return logits.argmax(-1) if keys is None else jax.vmap(jax.random.categorical)(keys, logits)


def after_end(tokens: Int[Array, "*batch time"], end: int | None) -> Generated:
    """Count the tokens before the first end token of each row, and fill the row with the end token after it."""
    if end is None:
        return Generated(tokens, jnp.full(tokens.shape[:-1], tokens.shape[-1], jnp.int32))
    before = jnp.cumsum(tokens == end, axis=-1) == 0
    return Generated(jnp.where(before, tokens, end), before.sum(-1).astype(jnp.int32))
