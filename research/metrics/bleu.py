"""BLEU (Papineni et al. 2002): the overlap of n-grams of a translation with its references, in percent."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from research.axes import Array, Float
from research.errors import unknown
from research.metrics.texts import ngrams, reference_lists, words_13a

ORDERS = 4
SMOOTHINGS = ("none", "floor", "add-k", "exp")


class Bleu(NamedTuple):
    """The sums of a corpus BLEU: n-grams of the hypotheses, those found in a reference, and lengths. States add up.

    `matches` counts an n-gram at most as often as the reference that contains it most often. `reference_length` sums
    the lengths of the references that are closest to their hypotheses (of two equally close, the shorter).
    """

    matches: Float[Array, " orders"]
    totals: Float[Array, " orders"]
    length: Float[Array, ""]
    reference_length: Float[Array, ""]

    def value(self) -> float:
        """Return the BLEU of the corpus in percent, as sacreBLEU does by default (smoothing "exp")."""
        return self.score()

    def score(self, *, smoothing: str = "exp", amount: float | None = None, effective_order: bool = False) -> float:
        """Return the BLEU in percent: brevity penalty * geometric mean of the precisions of 1- to 4-grams.

        A precision with no match is smoothed (Chen & Cherry 2014): "exp" halves it from one such order to the next,
        "floor" counts `amount` (0.1) matches, "add-k" adds `amount` (1) to matches and totals of every order above 1,
        "none" makes the score 0. `effective_order` leaves out orders that the hypothesis is too short for; otherwise
        they make the score 0. Raises UserError for an unknown smoothing.
        """
        if smoothing not in SMOOTHINGS:
            raise unknown("smoothing", smoothing, SMOOTHINGS)
        matches, totals = np.array(self.matches, np.float64), np.array(self.totals, np.float64)
        if not matches.any():
            return 0.0
        if smoothing == "add-k":
            matches[1:] += 1 if amount is None else amount
            totals[1:] += 1 if amount is None else amount
        orders = int(np.argmin(totals > 0)) if (totals == 0).any() else ORDERS
        if orders < ORDERS and not effective_order:
            return 0.0
        matches, totals = matches[:orders], totals[:orders]
        absent = matches == 0
        if smoothing == "exp":
            matches[absent] = 0.5 ** np.arange(1, absent.sum() + 1)
        elif smoothing == "floor":
            matches[absent] = 0.1 if amount is None else amount
        if not matches.all():
            return 0.0
        penalty = min(0.0, 1 - float(self.reference_length) / float(self.length))
        return float(100 * np.exp(penalty + np.log(matches / totals).mean()))


def bleu(
    hypotheses: Sequence[str],
    references: Sequence[str | Sequence[str]],
    *,
    words: Callable[[str], list[str]] = words_13a,
) -> Bleu:
    """Return the Bleu of texts, each with one or several references. `words` splits a text.

    The value equals sacreBLEU's. For Chinese or Japanese, use `words=list` or a segmenter, and name it beside the
    number: the value depends on it. Raises UserError if a hypothesis has no reference.
    """
    matches, totals, length, reference_length = np.zeros(ORDERS), np.zeros(ORDERS), 0, 0
    for text, texts in zip(hypotheses, reference_lists(hypotheses, references), strict=True):
        hypothesis, candidates = words(text), [words(one) for one in texts]
        length += len(hypothesis)
        lengths = (len(one) for one in candidates)
        reference_length += min(lengths, key=lambda n: (abs(n - len(hypothesis)), n))
        for order in range(1, ORDERS + 1):
            found, allowed = ngrams(hypothesis, order), ngrams([], order)
            for one in candidates:
                allowed |= ngrams(one, order)  # the maximum of the counts
            matches[order - 1] += (found & allowed).total()
            totals[order - 1] += found.total()
    return Bleu(matches, totals, np.float64(length), np.float64(reference_length))


def sentence_bleu(
    hypothesis: str,
    references: str | Sequence[str],
    *,
    smoothing: str = "exp",
    amount: float | None = None,
    words: Callable[[str], list[str]] = words_13a,
) -> float:
    """Return the BLEU of one sentence in percent, over the orders that it is long enough for. See `Bleu.score`."""
    state = bleu([hypothesis], [references], words=words)
    return state.score(smoothing=smoothing, amount=amount, effective_order=True)
