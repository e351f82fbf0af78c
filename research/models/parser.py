"""A graph-based dependency parser (Dozat & Manning 2017): biaffine scores of arcs and relations, and the best tree."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax

from research.axes import Array, Float, Int, Integer
from research.core import Trained
from research.fields import field
from research.layers.linear import Linear
from research.models.spanning_tree import best_tree
from research.models.tagger import INPUTS, WordEncoder

FORBIDDEN = -1e9  # the score of an arc to another sentence; finite, because a row of padding has no other


class ParseScores(NamedTuple):
    """Scores of every arc and relation. Head 0 is the root, and head k is the word at place k - 1 of the row."""

    arcs: Float[Array, "batch time keys"]
    relations: Float[Array, "batch time keys classes"]


class Parse(NamedTuple):
    """Heads within the sentence (0 is the root, k the k-th word) and relations of words; 0 for padding."""

    heads: Int[Array, "batch time"]
    relations: Int[Array, "batch time"]


class Parser(nnx.Module):
    """A WordEncoder with two biaffine classifiers of pairs of words, which return ParseScores.

    The score of head j for word i is d_i U h_j + u h_j, with vectors d of words as dependents and h as heads. The score
    of a relation is the same with a matrix for each relation, and a bias. `arc` and `relation` are the sizes of the
    vectors of the two classifiers. The root has a vector of its own, and words of other sentences are no heads.
    """

    def __init__(
        self, *, relations: int, arc: int = 128, relation: int = 32, dropout: float = 0.3, rngs: nnx.Rngs, **encoder
    ):
        self.encoder = WordEncoder(dropout=dropout, rngs=rngs, **encoder)
        features = self.encoder.outputs
        self.root = nnx.Param(0.1 * jax.random.normal(rngs.params(), (features,)))
        sides = {"dependent": arc, "head": arc, "child": relation, "parent": relation}
        self.sides = nnx.Dict({name: Linear(features, size, rngs=rngs) for name, size in sides.items()})
        self.arc = Linear(arc, arc, rngs=rngs)  # its bias is u
        self.relation = Linear(relation, (relations * (relation + 1)), rngs=rngs)
        self.relations, self.dropout = relations, nnx.Dropout(dropout)

    def __call__(
        self,
        words: Integer[Array, "batch time"],
        characters: Integer[Array, "batch time _"],
        segments: Integer[Array, "batch time"],
        *,
        train: bool,
        rngs: nnx.Rngs | None = None,
    ) -> ParseScores:
        x = self.encoder(words, characters, segments, train=train, rngs=rngs)
        root = jnp.broadcast_to(self.root[...].astype(x.dtype), (len(x), 1, x.shape[-1]))
        heads = jnp.concatenate([root, x], 1)

        def side(name, values):
            return self.dropout(jax.nn.relu(self.sides[name](values)), deterministic=not train, rngs=rngs)

        arcs = jnp.einsum("bid,bjd->bij", self.arc(side("dependent", x)), side("head", heads)).astype(jnp.float32)
        maps = self.relation(side("child", x)).reshape(*words.shape, self.relations, -1)
        parents = side("parent", heads)
        relations = jnp.einsum("birp,bjp->bijr", maps[..., :-1], parents) + maps[..., None, :, -1]
        sentence = jnp.pad(segments[:, None, :] == segments[..., None], ((0, 0), (0, 0), (1, 0)), constant_values=True)
        itself = jnp.eye(words.shape[1], words.shape[1] + 1, 1, dtype=bool)
        return ParseScores(jnp.where(sentence & ~itself, arcs, FORBIDDEN), relations.astype(jnp.float32))


def heads_in_row(
    heads: Integer[Array, "batch time"], segments: Integer[Array, "batch time"]
) -> Integer[Array, "batch time"]:
    """Convert heads within the sentence to heads of ParseScores; 0 stays the root."""
    places = jnp.arange(segments.shape[1])
    begins = jnp.pad(segments[:, 1:] != segments[:, :-1], ((0, 0), (1, 0)))
    start = lax.cummax(jnp.where(begins, places, 0), axis=1)
    return jnp.where(heads > 0, start + heads, 0)


def parse(trained: Trained, batch: Mapping) -> Parse:
    """Return the best tree of each sentence of a batch of "words", "characters" and "segments".

    The trees are found on the host (`best_tree`). The relation of a word is the best one for its head.
    """
    inputs = [field(batch, name) for name in INPUTS]
    scores, segments = trained(*inputs), inputs[-1]
    shape = jax.ShapeDtypeStruct(segments.shape, jnp.int32)
    heads = jax.pure_callback(_trees, shape, scores.arcs, segments)
    places = heads_in_row(heads, segments)
    relations = jnp.take_along_axis(scores.relations, places[..., None, None], 2)[:, :, 0].argmax(-1)
    return Parse(heads, jnp.where(segments > 0, relations, 0).astype(jnp.int32))


def _trees(arcs, segments):
    arcs, segments = np.asarray(arcs), np.asarray(segments)
    heads = np.zeros(segments.shape, np.int32)
    for row, numbers in enumerate(segments):
        for number in range(1, numbers.max(initial=0) + 1):
            places = np.flatnonzero(numbers == number)
            heads[row, places] = best_tree(arcs[row, places][:, np.append(0, places + 1)])
    return heads
