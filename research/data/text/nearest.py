"""The most similar text of a training set: a baseline for translation and summaries, and a measure of near copies."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from research.axes import Float, Int

CHUNK = 64  # texts that are compared with all training texts at a time


class Nearest(NamedTuple):
    """For each text, the index of the most similar training text, and their similarity from 0 to 1."""

    indices: Int[np.ndarray, " rows"]
    similarity: Float[np.ndarray, " rows"]


def nearest_texts(train: Sequence[str], texts: Sequence[str]) -> Nearest:
    """Return the Nearest training text of each text, by the cosine of TF-IDF vectors of words; the first of equals.

    The vectors are those of scikit-learn's TfidfVectorizer, fitted on the training texts. Raises ValueError if the
    training texts have no word.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = TfidfVectorizer(sublinear_tf=True, token_pattern=r"\w+", dtype=np.float32)
    known = vectorizer.fit_transform(train).T.tocsr()
    indices, similarity = [], []
    for start in range(0, len(texts), CHUNK):
        cosines = (vectorizer.transform(texts[start : start + CHUNK]) @ known).toarray()
        indices.append(cosines.argmax(1))
        similarity.append(cosines.max(1))
    return Nearest(np.concatenate(indices), np.concatenate(similarity))
