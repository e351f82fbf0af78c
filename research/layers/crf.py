"""A linear-chain conditional random field (Lafferty et al. 2001): a loss of tag sequences, and their best sequence.

The score of a sequence y of n words is start[y_1] + sum_t unary[t, y_t] + sum_t pairwise[y_t, y_t+1] + end[y_n], and
its probability is exp(score) / Z, with Z the sum over all sequences. Several sentences may be packed into a row:
`segments` numbers them, 0 is padding at the end of the row. Every sentence is a chain of its own.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax.nn import logsumexp

from research.axes import Array, Float, Int, Integer
from research.core import repeat


class Chain(NamedTuple):
    """The scores of tag sequences: what a tagger with a CRF returns instead of logits."""

    unary: Float[Array, "batch time classes"]
    pairwise: Float[Array, "classes classes"]
    start: Float[Array, " classes"]
    end: Float[Array, " classes"]


class CRF(nnx.Module):
    """The parameters of the transitions, which start at 0; the call adds them to the logits of single words."""

    def __init__(self, classes: int, *, rngs: nnx.Rngs):
        self.pairwise = nnx.Param(jnp.zeros((classes, classes)))
        self.start = nnx.Param(jnp.zeros(classes))
        self.end = nnx.Param(jnp.zeros(classes))

    def __call__(self, logits: Float[Array, "batch time classes"]) -> Chain:
        return Chain(logits.astype(jnp.float32), self.pairwise[...], self.start[...], self.end[...])


def chain_loss(
    scores: Chain, tags: Integer[Array, "batch time"], *, segments: Integer[Array, "batch time"]
) -> Float[Array, " batch"]:
    """Return -log p(tags) of each row in nats, summed over its sentences; 0 for a row without words.

    Tags of padding do not count.
    """
    unary, pairwise, start, end = scores
    word, same, first, last = _places(segments)
    tags = jnp.where(word, tags, 0)
    score = jnp.take_along_axis(unary, tags[..., None], -1)[..., 0] * word
    score += start[tags] * first + end[tags] * last
    score = score.sum(1) + (pairwise[tags[:, :-1], tags[:, 1:]] * same[:, 1:]).sum(1)

    def step(total, now):
        here, inside, is_word = now
        continued = logsumexp(total[:, :, None] + pairwise, axis=1)
        begun = logsumexp(total + end, axis=1, keepdims=True) + start
        new = jnp.where(inside[:, None], continued, begun) + here
        return jnp.where(is_word[:, None], new, total), None

    total, _ = repeat(step, start + unary[:, 0], _later(unary, same, word))
    return jnp.where(word[:, 0], logsumexp(total + end, axis=1) - score, 0)


def viterbi(scores: Chain, *, segments: Integer[Array, "batch time"]) -> Int[Array, "batch time"]:
    """Return the most probable tags of every sentence (Viterbi 1967). Padding has the tag of the word before it."""
    unary, pairwise, start, end = scores
    word, same, _, _ = _places(segments)
    itself = jnp.broadcast_to(jnp.arange(unary.shape[-1]), (len(unary), unary.shape[-1]))

    def step(best, now):
        here, inside, is_word = now
        paths = jnp.where(inside[:, None, None], best[:, :, None] + pairwise, (best + end)[:, :, None] + start)
        new, before = paths.max(1) + here, paths.argmax(1)
        return jnp.where(is_word[:, None], new, best), jnp.where(is_word[:, None], before, itself)

    best, before = repeat(step, start + unary[:, 0], _later(unary, same, word))
    final = (best + end).argmax(-1)

    def back(tag, before):
        earlier = jnp.take_along_axis(before, tag[:, None], 1)[:, 0]
        return earlier, earlier

    _, earlier = repeat(back, final, before[::-1])
    return jnp.concatenate([earlier[::-1], final[None]]).T.astype(jnp.int32)


def _places(segments):
    """Return whether each position is a word, in the sentence of the word before, the first, the last of a sentence."""
    word = segments > 0
    same = jnp.pad(segments[:, 1:] == segments[:, :-1], ((0, 0), (1, 0))) & word
    next_same = jnp.pad(same[:, 1:], ((0, 0), (0, 1)))
    return word, same, word & ~same, word & ~next_same


def _later(unary, *masks):
    """Return the positions after the first, time first."""
    return jax.tree.map(lambda x: x[:, 1:].swapaxes(0, 1), (unary, *masks))
