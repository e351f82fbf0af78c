"""ROUGE-1, ROUGE-2 and ROUGE-L (Lin 2004): the F-score of the words of a summary against its references."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import numpy as np

from research.core import Mean
from research.metrics.texts import ngrams, reference_lists


def rouge(
    hypotheses: Sequence[str],
    references: Sequence[str | Sequence[str]],
    *,
    stem: Callable[[str], str] | None = None,
) -> dict[str, Mean]:
    """Return the mean F-scores over the texts: rouge1 (words), rouge2 (word pairs) and rougeL (common subsequence).

    Words are runs of a to z and 0 to 9 in lower case; other scripts have no words here. `stem`, such as `stem_porter`,
    is applied to words longer than three letters. Of several references, each score takes the best. The values equal
    rouge-score's, with `use_stemmer` if `stem` is `stem_porter`. Raises UserError if a hypothesis has no reference.
    """
    sums, lists = np.zeros(3), reference_lists(hypotheses, references)
    for text, texts in zip(hypotheses, lists, strict=True):
        hypothesis = words_of(text, stem=stem)
        scores = [_scores(hypothesis, words_of(one, stem=stem)) for one in texts]
        sums += np.max(scores, axis=0)
    count = np.float64(len(lists))
    return {name: Mean(total, count) for name, total in zip(("rouge1", "rouge2", "rougeL"), sums, strict=True)}


def words_of(text: str, *, stem: Callable[[str], str] | None = None) -> list[str]:
    """Return the words of a text as ROUGE counts them: lower case, a to z and 0 to 9."""
    words = re.findall("[a-z0-9]+", text.lower())
    return [stem(word) if stem and len(word) > 3 else word for word in words]


def common_length(a: Sequence, b: Sequence) -> int:
    """Return the length of the longest common subsequence of `a` and `b`."""
    row = [0] * (len(b) + 1)
    for x in a:
        corner = 0
        for j, y in enumerate(b, 1):
            corner, row[j] = row[j], corner + 1 if x == y else max(row[j], row[j - 1])
    return row[-1]


def _scores(hypothesis, reference):
    matches = [(ngrams(hypothesis, n) & ngrams(reference, n)).total() for n in (1, 2)]
    f_of = lambda found, lengths: 2 * found / sum(lengths) if found else 0.0
    scores = [f_of(m, [max(len(x) - n, 0) for x in (hypothesis, reference)]) for n, m in enumerate(matches)]
    return [*scores, f_of(common_length(hypothesis, reference), (len(hypothesis), len(reference)))]
