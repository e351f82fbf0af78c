"""Search of texts by their words: BM25, and training pairs for a retriever that is to do better."""

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import sparse

from research.errors import UserError, check_range

SENTENCE = re.compile(r"(?<=[.?!:])\s+|\n\s*\n")
CHUNK = 1000  # queries whose scores are in memory together


def bm25(counts: sparse.csr_array, *, k1: float = 1.2, b: float = 0.75) -> sparse.csr_array:
    """Return the weights of terms [texts, vocabulary] from their counts; queries' counts @ weights.T are the scores.

    A term that is in n of N texts, and c times in a text of length l (its number of terms; m is the mean over the
    texts), has there the weight log(1 + (N - n + 1/2) / (n + 1/2)) c / (c + k1 (1 - b + b l / m)) (Robertson &
    Zaragoza 2009, "The Probabilistic Relevance Framework", with the logarithm of Lucene).
    Raises UserError for a negative k1 and for b outside of 0 to 1.
    """
    check_range("bm25", k1=(k1, 0, float("inf")), b=(b, 0, 1))
    weights = sparse.csr_array(counts, dtype=np.float64)
    present = np.bincount(weights.indices, minlength=weights.shape[1])
    idf = np.log(1 + (weights.shape[0] - present + 0.5) / (present + 0.5))
    length = weights.sum(1)
    usual = k1 * (1 - b + b * length / max(length.mean(), 1e-12))
    row = np.repeat(np.arange(weights.shape[0]), np.diff(weights.indptr))
    weights.data = idf[weights.indices] * weights.data / (weights.data + usual[row])
    return weights


class Search(NamedTuple):
    """Texts that can be searched by BM25; created by `search`. `counter` is the fitted CountVectorizer."""

    texts: Sequence[str]
    counter: Any
    weights: sparse.csr_array

    def scores(self, queries: Sequence[str]) -> np.ndarray:
        """Return the scores of all texts for each query, f32 [queries, texts]."""
        return (self.counter.transform(queries) @ self.weights.T).toarray().astype(np.float32)

    def sentence(self, query: str, text: int) -> str:
        """Return the first sentence of the text of this number in which the words of the query weigh most."""
        sentences = [part for part in SENTENCE.split(self.texts[text]) if part.strip()]
        wanted = self.weights[[text]].multiply(self.counter.transform([query]) > 0)
        return sentences[int((self.counter.transform(sentences) > 0).astype(float).dot(wanted.T).toarray().argmax())]


def search(texts: Sequence[str], *, k1: float = 1.2, b: float = 0.75) -> Search:
    """Return a Search of texts by English words in lower case, without scikit-learn's stop words."""
    from sklearn.feature_extraction.text import CountVectorizer

    counter = CountVectorizer(stop_words="english")
    return Search(texts, counter, bm25(sparse.csr_array(counter.fit_transform(texts)), k1=k1, b=b))


class Queries(NamedTuple):
    """Queries, the texts that answer them, and the number of the whole text of each."""

    queries: list[str]
    answers: list[str]
    numbers: np.ndarray


def cloze_queries(texts: Sequence[str], *, count: int, seed: int = 0) -> Queries:
    """Return up to `count` random sentences of each text as queries, with the rest of the text as the answer.

    The inverse cloze task (Lee, Chang & Toutanova 2019, arXiv:1906.00300, section 4), always without the sentence.
    Sentences of fewer than five words, and texts of one sentence, give no query.
    """
    rng, found = np.random.default_rng(seed), []
    for number, text in enumerate(texts):
        sentences = [part for part in SENTENCE.split(text) if part.strip()]
        usable = [part for part in sentences if len(part.split()) >= 5] if len(sentences) > 1 else []
        chosen = [usable[i] for i in rng.permutation(len(usable))[:count]]
        found += [(sentence, text.replace(sentence, " "), number) for sentence in chosen]
    queries, answers, numbers = zip(*found, strict=True) if found else ((), (), ())
    return Queries(list(queries), list(answers), np.array(numbers, np.int64))


def hard_negatives(
    found: Search, queries: Sequence[str], answers: np.ndarray, *, hardest: int, seed: int = 0
) -> np.ndarray:
    """Return for each query a random one of the `hardest` texts that BM25 finds first, without its answer.

    `answers` are the numbers of the answers [queries], as are the results. Raises UserError if there are not more texts
    than `hardest`.
    """
    if not 1 <= hardest < len(found.texts):
        raise UserError(
            f"hard_negatives(hardest={hardest}) of {len(found.texts)} texts; expected at least 1 and fewer."
        )
    rng, chosen = np.random.default_rng(seed), []
    for start in range(0, len(queries), CHUNK):
        scores, own = found.scores(queries[start : start + CHUNK]), np.asarray(answers[start : start + CHUNK])
        scores[np.arange(len(own)), own] = -np.inf
        first = np.argpartition(-scores, hardest - 1, axis=1)[:, :hardest]
        chosen.append(first[np.arange(len(own)), rng.integers(hardest, size=len(own))])
    return np.concatenate(chosen)
