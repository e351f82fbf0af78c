"""chrF and chrF++ (Popović 2015, 2017): the F-score of character n-grams, and of words and word pairs, in percent."""

from __future__ import annotations

import string
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from research.axes import Array, Float
from research.metrics.texts import ngrams, reference_lists

CHARACTERS, BETA = 6, 2.0


class Chrf(NamedTuple):
    """Counts of n-grams of each order: characters first, then words. States add up.

    `hypothesis` does not count an order that the reference is too short for.
    """

    matches: Float[Array, " orders"]
    hypothesis: Float[Array, " orders"]
    reference: Float[Array, " orders"]

    def value(self) -> float:
        """Return F2 in percent, of precision and recall averaged over the orders that occur on both sides."""
        matches, hypothesis, reference = (np.asarray(x, np.float64) for x in self)
        both = (hypothesis > 0) & (reference > 0)
        if not both.any():
            return 0.0
        precision = (matches[both] / hypothesis[both]).mean()
        recall = (matches[both] / reference[both]).mean()
        if not precision + recall:
            return 0.0
        return float(100 * (1 + BETA**2) * precision * recall / (BETA**2 * precision + recall))


def chrf(hypotheses: Sequence[str], references: Sequence[str | Sequence[str]], *, words: int = 0) -> Chrf:
    """Return the Chrf of texts. `words` is the highest order of word n-grams: 0 is chrF, 2 is chrF++.

    White space is not a character. Of several references, a text counts with the one of the highest score. The value
    equals sacreBLEU's. Raises UserError if a hypothesis has no reference.
    """
    total = Chrf(*np.zeros((3, CHARACTERS + words)))
    for text, texts in zip(hypotheses, reference_lists(hypotheses, references), strict=True):
        counts = _counts(text, words)
        candidates = [_compared(counts, _counts(one, words)) for one in texts]
        best = max(candidates, key=_segment_score)  # the first of equals
        total = Chrf(*(a + b for a, b in zip(total, best, strict=True)))
    return total


def _segment_score(state):
    return state.value()


def _counts(text, words):
    separated = [part for word in text.split() for part in _separated(word)]
    characters = "".join(text.split())
    return [ngrams(characters, n + 1) for n in range(CHARACTERS)] + [ngrams(separated, n + 1) for n in range(words)]


def _separated(word):
    """Separate one mark of ASCII punctuation from the end of a word, otherwise one from its start."""
    if len(word) > 1 and word[-1] in string.punctuation:
        return [word[:-1], word[-1]]
    if len(word) > 1 and word[0] in string.punctuation:
        return [word[0], word[1:]]
    return [word]


def _compared(hypothesis, reference):
    matches = [(a & b).total() for a, b in zip(hypothesis, reference, strict=True)]
    lengths = [a.total() if b else 0 for a, b in zip(hypothesis, reference, strict=True)]
    return Chrf(*(np.array(x, np.float64) for x in (matches, lengths, [b.total() for b in reference])))
