"""Bags of words: counts, TF-IDF weights or means of words and n-grams, as sparse records of ids and values.

A record has "ids", i32 [entries], and "values", f32 [entries]: the terms of the text in ascending order of their ids,
then padding of id 0 and value 0. `research.models.sparse.SparseClassifier` sums the vectors of the ids.
"""

import json
import zlib
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from research.data.text.clean import Cleaning
from research.data.text.words import Words
from research.errors import UserError, check_range, unknown

UNITS = ("word", "char", "char_wb")
WEIGHTS = ("count", "tf_idf", "mean")
NORMS = ("l1", "l2", None)


class Encoded(NamedTuple):
    """Records made of n texts: `fields` {name: [n, ...]}, and per text the number of units and those not encoded.

    units: words, n-grams or tokens of the text
    unknown: those that are outside the vocabulary
    cut: those that were left out because the text is too long
    """

    fields: Mapping[str, np.ndarray]
    units: np.ndarray
    unknown: np.ndarray
    cut: np.ndarray


class TextStep(NamedTuple):
    """An encoding before fitting: its name, its arguments as JSON values, and `fit(texts) -> encoder`."""

    name: str
    arguments: Mapping[str, Any]
    fit: Callable


class Bag(NamedTuple):
    """A fitted bag of words; created by `bag`.

    settings: the arguments of `bag`
    terms: the vocabulary in the order of its ids; hashed n-grams follow it
    idf: the inverse document frequency of each term, f64 [terms], or None
    """

    settings: Mapping[str, Any]
    terms: tuple[str, ...]
    idf: np.ndarray | None

    @property
    def vocabulary(self) -> int:
        """The number of ids: terms and buckets."""
        return len(self.terms) + (self.settings["buckets"] or 0)

    def encode(self, texts, *, cleaning: Cleaning) -> Encoded:
        """Return the records of n clean texts. If a text has more terms than `entries`, the largest values stay."""
        analyze, numbers = _analyzer(self.settings, cleaning), {term: i for i, term in enumerate(self.terms)}
        buckets, entries = self.settings["buckets"], self.settings["entries"]
        ids, values = np.zeros((len(texts), entries), np.int32), np.zeros((len(texts), entries), np.float32)
        units, unknown, cut = (np.zeros(len(texts), np.int64) for _ in range(3))
        for row, text in enumerate(texts):
            found = analyze(text)
            counts = Counter(_number(term, numbers, self.settings, buckets) for term in found)
            units[row], unknown[row] = len(found), counts.pop(None, 0)
            term_ids = np.array(sorted(counts), np.int64)
            weights = self._weights(term_ids, np.array([counts[i] for i in term_ids.tolist()], np.float64))
            if len(term_ids) > entries:
                kept = np.sort(np.argsort(-np.abs(weights), kind="stable")[:entries])
                cut[row] = len(term_ids) - entries
                term_ids, weights = term_ids[kept], weights[kept]
            ids[row, : len(term_ids)], values[row, : len(term_ids)] = term_ids, weights
        return Encoded({"ids": ids, "values": values}, units, unknown, cut)

    def _weights(self, ids, counts):
        match self.settings["weights"]:
            case "mean":
                return counts / max(counts.sum(), 1)
            case "tf_idf":
                counts = 1 + np.log(counts) if self.settings["sublinear"] else counts
                counts = counts * self.idf[ids] if len(ids) else counts
        size = {"l2": np.sqrt((counts**2).sum()), "l1": np.abs(counts).sum(), None: 1}[self.settings["norm"]]
        return counts / (size or 1)

    def saved(self) -> tuple[dict, dict[str, np.ndarray]]:
        """Return what is stored of it: JSON values, and arrays."""
        return {"settings": self.settings, "terms": self.terms}, {} if self.idf is None else {"idf": self.idf}

    @classmethod
    def loaded(cls, values, arrays, folder) -> "Bag":
        """Return the bag that `saved` described."""
        settings = {**values["settings"], "words": Words(*values["settings"]["words"])}
        settings["ngrams"] = tuple(settings["ngrams"])
        return cls(settings, tuple(values["terms"]), arrays.get("idf"))


def bag(
    *, weights: str = "tf_idf", words: Words = Words(), unit: str = "word", ngrams: tuple[int, int] = (1, 1),
    least: int = 1, share: float = 1.0, most: int | None = None, sublinear: bool = False, norm: str | None = "l2",
    buckets: int | None = None, entries: int | None = None,
) -> TextStep:  # fmt: skip
    """Encode a text as the weights of its terms.

    weights: one of
      - count: how often a term occurs in the text
      - tf_idf: that number times ln((1 + n) / (1 + df)) + 1, for n training texts, df of them with the term; as the
        TfidfVectorizer of scikit-learn
      - mean: that number divided by the number of terms of the text, as fastText (Joulin et al. 2016)
    words: how a text is cut into words
    unit: word; char, for n-grams of characters; char_wb, for those inside words, as in scikit-learn
    ngrams: the shortest and the longest n-gram
    least: the number of training texts that a term must be in
    share: the share of training texts that a term may be in at most
    most: the size of the vocabulary, of the terms that are most frequent in the training texts
    sublinear: 1 + ln(count) instead of the count, for tf_idf
    norm: l2 or l1, to which the values of a text are scaled, or None; not for mean
    buckets: hash n-grams of two or more words, or all n-grams of characters, to this number of further ids
    entries: terms of a text that are kept, by default the largest number in a training text

    Raises UserError for arguments out of range; at fitting, if no term remains.
    """
    check_range("bag", least=(least, 1, 2**31), share=(share, 0, 1), buckets=(buckets or 1, 1, 2**24))
    for name, value, known in (("weights", weights, WEIGHTS), ("unit", unit, UNITS), ("norm", norm, NORMS)):
        if value not in known:
            raise unknown(name, str(value), map(str, known))
    if not 1 <= ngrams[0] <= ngrams[1]:
        raise UserError(f"bag(ngrams={ngrams}); expected the shortest and the longest n-gram, such as (1, 2).")
    if buckets and weights == "tf_idf":
        raise UserError("bag(buckets=) is for weights='count' and 'mean': hashed n-grams have no document frequency.")
    settings = {
        "weights": weights, "words": words, "unit": unit, "ngrams": ngrams, "least": least, "share": share,
        "most": most, "sublinear": sublinear, "norm": norm, "buckets": buckets, "entries": entries,
    }  # fmt: skip
    return TextStep("bag", settings, lambda texts, cleaning: _fit(texts, settings, cleaning))


def _fit(texts, settings, cleaning) -> Bag:
    from sklearn.feature_extraction.text import CountVectorizer

    terms, frequency = (), None
    if not (settings["buckets"] and settings["unit"] != "word"):
        analyze = _analyzer(settings, cleaning, hashed=False)
        limits = {"min_df": settings["least"], "max_df": settings["share"], "max_features": settings["most"]}
        counter = CountVectorizer(analyzer=analyze, **limits)
        try:
            counts = counter.fit_transform(texts)
        except ValueError as error:
            raise UserError(f"bag(): no term of the {len(texts)} training texts remains: {error}.") from error
        terms = tuple(counter.get_feature_names_out().tolist())
        frequency = np.bincount(counts.tocsr().indices, minlength=len(terms))
    idf = np.log((1 + len(texts)) / (1 + frequency)) + 1 if settings["weights"] == "tf_idf" else None
    if settings["entries"] is None:
        analyze, numbers = _analyzer(settings, cleaning), {term: i for i, term in enumerate(terms)}
        distinct = ({_number(term, numbers, settings, settings["buckets"]) for term in analyze(x)} for x in texts)
        settings = {**settings, "entries": max(1, *(len(found - {None}) for found in distinct))}
    return Bag(settings, terms, idf)


def _number(term, numbers, settings, buckets) -> int | None:
    """Return the id of a term; None if it is outside the vocabulary."""
    if (number := numbers.get(term)) is not None or not buckets:
        return number
    hashed = settings["unit"] != "word" or " " in term
    return len(numbers) + zlib.crc32(term.encode("utf-8", "surrogatepass")) % buckets if hashed else None


def _analyzer(settings, cleaning, *, hashed=True):
    """Return the function text -> list of terms; without `hashed`, only those that the vocabulary may have."""
    from sklearn.feature_extraction.text import CountVectorizer

    words, (low, high) = settings["words"], settings["ngrams"]
    if settings["buckets"] and not hashed:
        high = 1
    options = {"tokenizer": words, "token_pattern": None} if settings["unit"] == "word" else {}
    return CountVectorizer(
        analyzer=settings["unit"], ngram_range=(low, high), preprocessor=cleaning, **options
    ).build_analyzer()


def described(step: TextStep) -> str:
    """Return a step as text, to recognise it."""
    return json.dumps([step.name, step.arguments], default=str)
