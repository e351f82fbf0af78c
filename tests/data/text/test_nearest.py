import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.neighbors import NearestNeighbors

from research.data.text import nearest
from research.data.text.nearest import nearest_texts

TRAIN = ["a library for music", "a game of chess", "development files for a library", "chess, a game", "music"]


def test_the_nearest_texts_are_those_of_scikit_learn(monkeypatch):
    monkeypatch.setattr(nearest, "CHUNK", 2)
    texts = ["the game of chess", "files", "music library", "unknown", "development files for a library"]
    found = nearest_texts(TRAIN, texts)
    vectors = TfidfVectorizer(sublinear_tf=True, token_pattern=r"\w+").fit(TRAIN)
    search = NearestNeighbors(n_neighbors=1, metric="cosine").fit(vectors.transform(TRAIN))
    distances, indices = (x[:, 0] for x in search.kneighbors(vectors.transform(texts)))
    np.testing.assert_allclose(found.similarity, 1 - distances, atol=1e-6)
    np.testing.assert_array_equal(found.indices, indices)
    assert found.similarity[3] == 0 and found.similarity[4] > 0.999
