"""Corpora for word vectors: words and their contexts as a training source, and counts of words that occur together."""

import functools
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from research.data.readers.arrays import Arrays, arrays
from research.data.sampling.batches import check_size, generator, positions, walk
from research.data.sampling.source import Generated, generated
from research.errors import UserError, check_range


class Corpus(NamedTuple):
    """Texts as word numbers; created by `corpus`.

    words: the vocabulary, the most frequent word first
    counts: how often each occurs, i64 [vocabulary]
    tokens: the texts one after the other, i32 [n]; words outside the vocabulary are left out
    texts: the number of the text of each token, i32 [n]
    """

    words: tuple[str, ...]
    counts: np.ndarray
    tokens: np.ndarray
    texts: np.ndarray


def corpus(texts: Iterable[Sequence[str]], *, least: int = 5) -> Corpus:
    """Number the words of texts, given as lists of words, that occur at least `least` times.

    Raises UserError if no word remains.
    """
    texts = list(texts)
    found = Counter(word for text in texts for word in text)
    words = tuple(sorted((word for word, count in found.items() if count >= least), key=lambda w: (-found[w], w)))
    if not words:
        raise UserError(f"no word of {len(texts)} texts occurs {least} times; give more text, or a smaller least=.")
    numbers = {word: i for i, word in enumerate(words)}
    rows = [[numbers[word] for word in text if word in numbers] for text in texts]
    tokens = np.array([number for row in rows for number in row], np.int32)
    return Corpus(words, np.array([found[word] for word in words]), tokens,
                  np.repeat(np.arange(len(rows), dtype=np.int32), [len(row) for row in rows]))  # fmt: skip


def windows(made: Corpus, size: int, *, window: int = 5, subsample: float | None = 1e-3) -> Generated:
    """Return a training source of words and their contexts (Mikolov et al. 2013, arXiv:1301.3781, arXiv:1310.4546).

    A batch has "center", i32 [size], and "contexts", i32 [size, 2 * window]: the words at most r positions away in the
    same text, with -1 in the other places. r is uniform over 1 to `window` for each word and epoch. Every position of
    the corpus is a center once per epoch.

    With `subsample` t, a word of frequency f is left out with the probability max(0, 1 - sqrt(t / f)) (equation 5), as
    center and as context; contexts do not move closer. A center that is left out has no contexts. Everything random is
    keyed by (seed, epoch).
    Raises UserError for a window below 1 and a subsample that is not above 0.
    """
    check_range("windows", window=(window, 1, 10_000), subsample=(1 if subsample is None else subsample, 1e-12, 1))
    size, tokens, count = check_size(size), made.tokens, len(made.tokens)
    share = made.counts / made.counts.sum()
    kept_share = np.ones(len(share)) if subsample is None else np.minimum(1, np.sqrt(subsample / share))
    offsets = np.concatenate([np.arange(-window, 0), np.arange(1, window + 1)])

    def of_seed(seed):
        order = walk(tokens, seed=seed, stream="shuffle", shuffle=True)

        @functools.lru_cache(maxsize=2)
        def drawn(epoch):
            rng = generator(seed, "windows", epoch)
            return rng.random(count) < kept_share[tokens], rng.integers(1, window + 1, count)

        def at(step):
            epochs, centers = order(positions(step, size))
            places = centers[:, None] + offsets
            inside = np.clip(places, 0, count - 1)
            real = (places == inside) & (made.texts[inside] == made.texts[centers][:, None])
            for epoch in np.unique(epochs):
                rows = epochs == epoch
                kept, reach = drawn(int(epoch))
                near = np.abs(offsets) <= reach[centers[rows]][:, None]
                real[rows] &= near & kept[inside[rows]] & kept[centers[rows]][:, None]
            return {"center": tokens[centers], "contexts": np.where(real, tokens[inside], -1).astype(np.int32)}

        return at

    return generated(of_seed, size, examples=count)


def cooccurrences(made: Corpus, *, window: int = 10) -> Arrays:
    """Count the pairs of words at most `window` positions apart in a text (Pennington et al. 2014, section 3.1).

    A pair d positions apart counts 1 / d, in both orders. The records are the pairs that occur, "row" and "column",
    i32, and "count", f32.
    """
    from scipy import sparse

    check_range("cooccurrences", window=(window, 1, 10_000))
    total = sparse.csr_array((len(made.words),) * 2)
    for distance in range(1, window + 1):
        a, b = made.tokens[:-distance], made.tokens[distance:]
        same = made.texts[:-distance] == made.texts[distance:]
        pairs = np.concatenate([[a[same], b[same]], [b[same], a[same]]], axis=1)
        weights = np.full(pairs.shape[1], 1 / distance)
        total = total + sparse.coo_array((weights, tuple(pairs)), shape=total.shape).tocsr()
    found = total.tocoo()
    row, column = found.coords
    return arrays(row=row.astype(np.int32), column=column.astype(np.int32), count=found.data.astype(np.float32))
