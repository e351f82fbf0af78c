"""Exact match and F1 of answers to questions (Rajpurkar et al. 2016, SQuAD), after normalisation of the texts."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence

import numpy as np

from research.core import Mean
from research.metrics.texts import reference_lists


def answer_scores(hypotheses: Sequence[str], references: Sequence[str | Sequence[str]]) -> dict[str, Mean]:
    """Return the means of `exact_match` (0 or 1) and `f1` over the answers; each takes its best reference.

    F1 is that of the words as a multiset. If one side has no word, both scores are 1 if the other has none either,
    which is how SQuAD 2.0 scores "no answer". Raises UserError if an answer has no reference.
    """
    sums, lists = np.zeros(2), reference_lists(hypotheses, references)
    for text, texts in zip(hypotheses, lists, strict=True):
        answer, expected = normalised(text), [normalised(one) for one in texts]
        sums += [answer in expected, max(_f1(answer.split(), one.split()) for one in expected)]
    count = np.float64(len(lists))
    return {"exact_match": Mean(sums[0], count), "f1": Mean(sums[1], count)}


def normalised(text: str) -> str:
    """Return an answer in lower case without ASCII punctuation, the articles a, an and the, and extra white space."""
    text = "".join(character for character in text.lower() if character not in string.punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


def _f1(answer, expected):
    if not answer or not expected:
        return float(answer == expected)
    found = (Counter(answer) & Counter(expected)).total()
    return 2 * found / (len(answer) + len(expected))
