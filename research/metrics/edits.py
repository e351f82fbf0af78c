"""Edit distance (Levenshtein 1966) with an alignment, and the word and character error rates computed from it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from research.axes import Array, Float
from research.core import Mean
from research.metrics.texts import check_pairs, reference_lists


class Edit(NamedTuple):
    """One step of an alignment: `kind` is "equal", "substitute", "delete" or "insert".

    `reference` is None for an insertion, `hypothesis` is None for a deletion.
    """

    kind: str
    reference: object
    hypothesis: object


class ErrorRate(NamedTuple):
    """Counts of edits from reference to hypothesis, and the length of the references. States add up."""

    substitutions: Float[Array, ""]
    deletions: Float[Array, ""]
    insertions: Float[Array, ""]
    length: Float[Array, ""]

    def value(self) -> Float[Array, ""] | float:
        """Return edits / length of the references, which may exceed 1.

        Without a reference, the length counts as 1: the rate is 0 for an empty hypothesis.
        """
        return (self.substitutions + self.deletions + self.insertions) / (self.length + (self.length == 0))


def align(hypothesis: Sequence, reference: Sequence) -> list[Edit]:
    """Return a shortest list of edits from `reference` to `hypothesis`, as Edits in the order of the text.

    Items are compared by ==. If several alignments are shortest, this one substitutes as late as possible. Memory is
    4 bytes for each pair of items.
    """
    table, i, j = _distances(hypothesis, reference), len(reference), len(hypothesis)
    edits = []
    while i or j:
        if i and j and table[i, j] == table[i - 1, j - 1] + (reference[i - 1] != hypothesis[j - 1]):
            i, j = i - 1, j - 1
            kind = "equal" if reference[i] == hypothesis[j] else "substitute"
            edits.append(Edit(kind, reference[i], hypothesis[j]))
        elif i and table[i, j] == table[i - 1, j] + 1:
            i -= 1
            edits.append(Edit("delete", reference[i], None))
        else:
            j -= 1
            edits.append(Edit("insert", None, hypothesis[j]))
    return edits[::-1]


def error_rate(hypotheses: Sequence[Sequence], references: Sequence[Sequence]) -> ErrorRate:
    """Return the ErrorRate of sequences of any items, such as token lists. Raises UserError if the numbers differ."""
    check_pairs(hypotheses, references)
    counts = dict.fromkeys(("substitute", "delete", "insert"), 0)
    for hypothesis, reference in zip(hypotheses, references, strict=True):
        for edit in align(hypothesis, reference):
            if edit.kind != "equal":
                counts[edit.kind] += 1
    return ErrorRate(*(np.float64(x) for x in (*counts.values(), sum(map(len, references)))))


def word_error_rate(hypotheses: Sequence[str], references: Sequence[str | Sequence[str]]) -> ErrorRate:
    """Return the word error rate (WER) as an ErrorRate. Words are separated by white space; case counts.

    Of several references, a text counts with the one that needs the fewest edits, the first of equals. Raises UserError
    if a hypothesis has no reference.
    """
    return _closest_rate(hypotheses, references, str.split)


def character_error_rate(hypotheses: Sequence[str], references: Sequence[str | Sequence[str]]) -> ErrorRate:
    """Return the character error rate (CER) as an ErrorRate, over Unicode code points without outer white space.

    Several references count as in `word_error_rate`.
    """
    return _closest_rate(hypotheses, references, str.strip)


def mismatch_rate(hypotheses: Sequence[str], references: Sequence[str | Sequence[str]]) -> Mean:
    """Return the share of texts that equal none of their references. Raises UserError if a text has no reference."""
    lists = reference_lists(hypotheses, references)
    wrong = sum(text not in texts for text, texts in zip(hypotheses, lists, strict=True))
    return Mean(np.float64(wrong), np.float64(len(lists)))


def _closest_rate(hypotheses, references, items):
    sides = [items(text) for text in hypotheses]
    lists = [[items(text) for text in texts] for texts in reference_lists(hypotheses, references)]
    closest = [
        min(texts, key=lambda one, side=side: _distances(side, one)[-1, -1]) if len(texts) > 1 else texts[0]
        for side, texts in zip(sides, lists, strict=True)
    ]
    return error_rate(sides, closest)


def _distances(hypothesis, reference):
    """Return the edit distance of every prefix of `reference` to every prefix of `hypothesis`, i32 [R + 1, H + 1]."""
    numbers: dict = {}
    codes = lambda items: np.array([numbers.setdefault(item, len(numbers)) for item in items], np.int32)
    columns, rows = codes(hypothesis), codes(reference)
    steps = np.arange(len(columns) + 1, dtype=np.int32)
    table = np.empty((len(rows) + 1, len(steps)), np.int32)
    table[0] = steps
    for i, code in enumerate(rows):
        above, row = table[i], table[i + 1]
        row[0] = i + 1
        np.minimum(above[1:] + 1, above[:-1] + (columns != code), out=row[1:])
        # An insertion costs 1 for each step to the right: a running minimum of the cost without these steps.
        row[:] = np.minimum.accumulate(row - steps) + steps
    return table
