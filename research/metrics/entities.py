"""Precision, recall and F1 of entities that are marked by one tag per word (BIO, IOBES), as in CoNLL's evaluations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import lax

from research.axes import Array, Bool, Float, Int, Integer, Num
from research.errors import UserError, unknown

# What may follow a tag inside of an entity of the same type, and the tags at which an entity may begin and end.
PREFIXES = {"BIO": "BIO", "IOBES": "BIESO", "lenient": "BIESO"}


class TagScheme(NamedTuple):
    """What each tag means for entities, as tables indexed by tag number. Get one with `tag_scheme`.

    The tables have one more row (and column) than there are tags: the last is for words without a tag.
    `starts[a, b]` is whether an entity begins at tag b after tag a; `continues[a, b]` whether one that covers a also
    covers b; `closed[a]` whether an entity may end at a; `kinds` is the number of a tag's type, -1 outside.
    """

    starts: Bool[np.ndarray, "tags tags"]
    continues: Bool[np.ndarray, "tags tags"]
    closed: Bool[np.ndarray, " tags"]
    kinds: Int[np.ndarray, " tags"]
    types: tuple[str, ...]


class Entities(NamedTuple):
    """Entities by the word at which they begin: whether there is one, the position of its last word, and its type."""

    starts: Bool[Array, "*batch time"]
    ends: Integer[Array, "*batch time"]
    kinds: Integer[Array, "*batch time"]


class EntityCounts(NamedTuple):
    """Numbers of entities of each type: predicted with the right words and type, predicted, and true. States add up."""

    correct: Float[Array, " classes"]
    predicted: Float[Array, " classes"]
    true: Float[Array, " classes"]

    def value(self) -> Float[Array, ""] | float:
        """Return the F1 over all entities (the micro average), 0 if none is correct."""
        return self.table()[-1, 2]

    def table(self) -> Float[np.ndarray, "rows 4"]:
        """Return precision, recall, F1 and number of true entities of each type; the last row is all types together."""
        correct, predicted, true = (np.append(x, np.sum(x)).astype(np.float64) for x in self)
        ratio = lambda part, whole: part / np.where(whole == 0, 1, whole)
        f1 = ratio(2 * correct, predicted + true)
        return np.stack([ratio(correct, predicted), ratio(correct, true), f1, true], -1)


def tag_scheme(tags: Sequence[str], *, scheme: str = "BIO") -> TagScheme:
    """Return the TagScheme of tags such as "B-person" or, for a single type, "B"; "O" is outside of entities.

    "BIO" and "IOBES" are strict: an entity is B I ..., or S, or B I ... E; tags that are not of this form mark nothing.
    "lenient" is the rule of CoNLL's script `conlleval`: an entity also begins at a tag of another type than the tag
    before, or after the end of an entity.

    Raises UserError for an unknown scheme, and for a tag that it does not have.
    """
    if scheme not in PREFIXES:
        raise unknown("tag scheme", scheme, PREFIXES)
    parts = [(tag[:1], tag[1:].removeprefix("-")) for tag in (*tags, "O")]
    for tag, (prefix, kind) in zip(tags, parts, strict=False):
        if not prefix or prefix not in PREFIXES[scheme] or (kind and prefix == "O") or tag[1:2] not in ("", "-"):
            expected = ", ".join(PREFIXES[scheme])
            raise UserError(f"tag {tag!r} in the scheme {scheme}; expected one of {expected}, as in B-person, or O.")
    types = tuple(sorted({kind for prefix, kind in parts if prefix != "O"}))
    rules = _lenient if scheme == "lenient" else _strict
    pairs = np.array([[rules(a, b) for b in parts] for a in parts])
    closed = [prefix in "ES" or scheme != "IOBES" for prefix, _ in parts]
    kinds = [-1 if prefix == "O" else types.index(kind) for prefix, kind in parts]
    return TagScheme(pairs[..., 0], pairs[..., 1], np.array(closed), np.array(kinds, np.int32), types)


def entities(
    tags: Integer[Array, "*batch time"], scheme: TagScheme, *, weights: Num[Array, "*batch time"] | None = None
) -> Entities:
    """Return the entities that `tags` mark. A word of weight 0 is padding and has no tag. Works under jit."""
    absent = len(scheme.kinds) - 1
    tags = jnp.asarray(tags) if weights is None else jnp.where(jnp.asarray(weights) > 0, tags, absent)
    before = jnp.concatenate([jnp.full_like(tags[..., :1], absent), tags[..., :-1]], -1)
    after = jnp.concatenate([tags[..., 1:], jnp.full_like(tags[..., :1], absent)], -1)
    places = jnp.broadcast_to(jnp.arange(tags.shape[-1]), tags.shape)
    last = ~jnp.asarray(scheme.continues)[tags, after]  # the next word is not of the same entity
    ends = lax.cummin(jnp.where(last, places, tags.shape[-1]), axis=tags.ndim - 1, reverse=True)
    closed = jnp.asarray(scheme.closed)[jnp.take_along_axis(tags, ends, -1)]
    return Entities(jnp.asarray(scheme.starts)[before, tags] & closed, ends, jnp.asarray(scheme.kinds)[tags])


def entity_counts(
    predictions: Integer[Array, "*batch time"],
    tags: Integer[Array, "*batch time"],
    *,
    scheme: TagScheme,
    weights: Num[Array, "*batch time"] | None = None,
) -> EntityCounts:
    """Return the EntityCounts of predicted and true tags. An entity is correct if its words and type are. Works in jit.

    With `tag_scheme(...)` strict or lenient, the values equal seqeval's in its strict or default mode.
    """
    found, true = (entities(x, scheme, weights=weights) for x in (predictions, tags))
    correct = found.starts & true.starts & (found.ends == true.ends) & (found.kinds == true.kinds)
    return EntityCounts(*(_by_type(x, k, scheme) for x, k in ((correct, true.kinds), found[::2], true[::2])))


def entity_counts_of_tags(
    predictions: Sequence[Sequence[str]], tags: Sequence[Sequence[str]], *, scheme: str = "BIO"
) -> tuple[EntityCounts, tuple[str, ...]]:
    """Return the EntityCounts of sentences of tag names, and the names of the types in the order of the counts.

    Raises UserError as `tag_scheme` does, and if a sentence has another number of predictions than of tags.
    """
    if [len(x) for x in predictions] != [len(x) for x in tags]:
        raise UserError("entity counts need a predicted tag for each true tag; the lengths of the sentences differ.")
    names = sorted({tag for sentence in (*predictions, *tags) for tag in sentence})
    rules, numbers = tag_scheme(names, scheme=scheme), {name: i for i, name in enumerate(names)}
    padded = np.full((2, len(tags), max([1, *map(len, tags)])), len(names), np.int32)
    for side, sentences in enumerate((predictions, tags)):
        for row, sentence in enumerate(sentences):
            padded[side, row, : len(sentence)] = [numbers[tag] for tag in sentence]
    return entity_counts(*padded, scheme=rules), rules.types


def _by_type(marked, kinds, scheme):
    zeros = jnp.zeros(len(scheme.types), jnp.float32)
    return zeros.at[jnp.where(marked, kinds, len(scheme.types))].add(1, mode="drop")


def _strict(before, now):
    (a, kind_before), (b, kind) = before, now
    return b in "BS", a in "BI" and b in "IE" and kind_before == kind


def _lenient(before, now):
    (a, kind_before), (b, kind) = before, now
    cut = a in "OES" or b in "BSO" or kind_before != kind
    return b != "O" and cut, not cut
