"""Quality of word vectors on the host: similarity of pairs, analogies, nearest neighbours."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from research.axes import Array, Float, Int
from research.errors import UserError


def unit_rows(table: Float[Array, "vocabulary features"]) -> Float[Array, "vocabulary features"]:
    """Scale each row to length 1; a row of zeros stays."""
    table = np.asarray(table, np.float32)
    return table / np.maximum(np.linalg.norm(table, axis=1, keepdims=True), 1e-12)


def similarity(
    words: Sequence[str], table: Float[Array, "vocabulary features"], pairs: Iterable[tuple[str, str, float]]
) -> dict[str, float]:
    """Compare cosines with the ratings of pairs (word, word, rating): Spearman's rho, in `spearman`.

    Words are compared in lower case. `covered` is the share of the pairs that have both words; the others do not count.
    Raises UserError if fewer than two pairs are covered.
    """
    from scipy.stats import spearmanr

    numbers, unit = {word: i for i, word in enumerate(words)}, unit_rows(table)
    pairs = [(numbers.get(a.lower()), numbers.get(b.lower()), score) for a, b, score in pairs]
    known = [pair for pair in pairs if None not in pair[:2]]
    if len(known) < 2:
        raise UserError(f"{len(known)} of {len(pairs)} pairs have a vector of both words; expected at least 2.")
    first, second, ratings = (np.array(part) for part in zip(*known, strict=True))
    cosines = (unit[first] * unit[second]).sum(1)
    return {"spearman": float(spearmanr(cosines, ratings).statistic), "covered": len(known) / len(pairs)}


def analogies(
    words: Sequence[str], table: Float[Array, "vocabulary features"], questions: Iterable[tuple[str, str, str, str]],
    *, chunk: int = 512,
) -> dict[str, float]:  # fmt: skip
    """Answer a : b = c : ? by the word, other than a, b and c, that is nearest to b - a + c (Mikolov et al. 2013).

    Vectors have length 1, and nearness is the cosine (3CosAdd). `accuracy` is the share of right answers among the
    questions whose four words are known, in lower case; `covered` is the share of those questions.
    Raises UserError if no question is covered.
    """
    numbers, unit = {word: i for i, word in enumerate(words)}, unit_rows(table)
    questions = [[numbers.get(word.lower(), -1) for word in question] for question in questions]
    known = np.array([question for question in questions if min(question) >= 0], np.int64).reshape(-1, 4)
    if not len(known):
        raise UserError(f"none of {len(questions)} analogies has vectors of all four words.")
    hits = 0
    for start in range(0, len(known), chunk):
        part = known[start : start + chunk]
        a, b, c = (unit[part[:, i]] for i in range(3))
        scores = (b - a + c) @ unit.T
        np.put_along_axis(scores, part[:, :3], -np.inf, axis=1)
        hits += int((scores.argmax(1) == part[:, 3]).sum())
    return {"accuracy": hits / len(known), "covered": len(known) / len(questions)}


def neighbours(table: Float[Array, "vocabulary features"], row: int, *, count: int = 10) -> Int[Array, " {count}"]:
    """Return the rows with the largest cosine to `row`, without it, the nearest first."""
    unit = unit_rows(table)
    cosines = unit @ unit[row]
    cosines[row] = -np.inf
    return np.argsort(-cosines, kind="stable")[:count]
