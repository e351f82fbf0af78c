"""Metrics of texts as the `finish` of an Eval; n-grams, lists of references and the words of mteval-13a for them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from research.axes import Array, Integer
from research.errors import UserError, unknown

ENTITIES = {"&quot;": '"', "&amp;": "&", "&lt;": "<", "&gt;": ">"}
# ASCII punctuation; the apostrophe, the comma, the hyphen and the full stop depend on what is beside them.
PUNCTUATION = re.compile(r'([!"#$%&()*+/:;<=>?@\[\\\]^_`{|}~])')
MARK_AFTER, MARK_BEFORE = re.compile(r"([^0-9])([.,])"), re.compile(r"([.,])([^0-9])")
HYPHEN = re.compile(r"([0-9])(-)")


def text_scores(
    decode: Callable[[Array], str],
    decode_source: Callable[[Array], str] | None = None,
    /,
    **scores: Callable[[Sequence[str], Sequence], Any],
) -> Callable:
    """Return a `finish` that computes metrics of texts, and keeps the texts for the report.

    The measure stores the rows "hypothesis" and "reference", and perhaps "source", token ids int [rows, time];
    `decode(ids)` returns the text of one row; `decode_source`, by default the same, that of a source. References may be
    int [rows, references, time], with rows of 0 after the last one of a text. `scores` are functions (hypotheses,
    references) -> metric state, by the name of the metric: `text_scores(decode, bleu=bleu, wer=word_error_rate)`. A
    function may return a dict of states, as `rouge` does; its names then follow the metric's: rouge_rouge1.

    The result also has the array "texts" [rows, 3]: source ("" if there is none), reference and hypothesis. Of several
    references, it has the one that equals the hypothesis, or the first. It raises UserError if a row is missing.
    """

    def finish(results: Mapping) -> dict:
        rows = results["rows"]
        for name in ("hypothesis", "reference"):
            if name not in rows:
                raise unknown("row of the evaluation", name, rows)
        decoders = {"source": decode_source or decode, "reference": decode, "hypothesis": decode}
        columns = {name: _decoded(rows[name], each) for name, each in decoders.items() if name in rows}
        numbers: dict = {}
        for name, score in scores.items():
            state = score(columns["hypothesis"], columns["reference"])
            named = state if isinstance(state, dict) else {"": state}
            numbers |= {f"{name}_{key}".rstrip("_"): part.value() for key, part in named.items()}
        source = columns.get("source", [""] * len(columns["reference"]))
        pairs = zip(columns["hypothesis"], columns["reference"], strict=True)
        shown = [one if isinstance(one, str) else text if text in one else one[0] for text, one in pairs]
        texts = np.array([source, shown, columns["hypothesis"]], dtype=str).T
        return {**numbers, "texts": texts}

    return finish


def check_pairs(hypotheses: Sequence, references: Sequence) -> None:
    """Raise UserError unless there is one reference (or list of references) for each hypothesis."""
    if isinstance(hypotheses, str) or isinstance(references, str):
        raise UserError("metrics of texts take lists of texts; a single string was given. Write [text].")
    if len(hypotheses) != len(references):
        raise UserError(f"{len(hypotheses)} hypotheses and {len(references)} references; expected one for each.")


def reference_lists(hypotheses: Sequence[str], references: Sequence[str | Sequence[str]]) -> list[list[str]]:
    """Return the references of each hypothesis as a list. Raises UserError if one has none, or the numbers differ."""
    check_pairs(hypotheses, references)
    lists = [[one] if isinstance(one, str) else list(one) for one in references]
    if [] in lists:
        raise UserError(f"hypothesis {lists.index([])} has no reference; expected a text or a list of texts.")
    return lists


def ngrams(items: Sequence, order: int) -> Counter:
    """Count the runs of `order` neighbouring items, each as a tuple (of a string: a substring)."""
    runs: Iterable = (items[i : i + order] for i in range(len(items) - order + 1))
    return Counter(runs if isinstance(items, str) else map(tuple, runs))


def words_13a(text: str) -> list[str]:
    """Return the words of a text, as NIST's mteval-v13a separates them, which is the default of sacreBLEU.

    ASCII punctuation is a word of its own, except the apostrophe, a comma or full stop between digits, and a hyphen
    that does not follow a digit. The four escaped characters &quot; &amp; &lt; &gt; are unescaped; words that are
    hyphenated at the end of a line are joined.
    """
    text = text.rstrip().replace("<skipped>", "").replace("-\n", "").replace("\n", " ")
    for escaped, character in ENTITIES.items():
        text = text.replace(escaped, character)
    text = PUNCTUATION.sub(r" \1 ", f" {text} ")
    text = MARK_BEFORE.sub(r" \1 \2", MARK_AFTER.sub(r"\1 \2 ", text))
    return HYPHEN.sub(r"\1 \2 ", text).split()


def _decoded(rows: Integer[np.ndarray, "rows ..."], decode: Callable[[Array], str]) -> list[str] | list[list[str]]:
    if rows.ndim == 3:
        return [[decode(one) for one in texts if one.any()] for texts in rows]
    return [decode(row) for row in rows]
