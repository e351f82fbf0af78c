"""Scores of BM25 by bm25s, with the logarithm of Lucene."""

import numpy as np

PACKAGES = ("bm25s==0.3.16",)


def values():
    import bm25s

    rng = np.random.default_rng(5)
    texts = [rng.choice(12, size=length, p=np.arange(1, 13) / 78).tolist() for length in (3, 5, 8, 13, 21)]
    queries = [[0, 11], [4, 5, 5], [7], [2, 9, 10]]
    words = lambda rows: [[f"w{i:02d}" for i in row] for row in rows]
    stored = {"texts": np.array([" ".join(row) for row in words(texts)])}
    stored["queries"] = np.array([" ".join(row) for row in words(queries)])
    for k1, b in ((1.2, 0.75), (0.9, 0.4)):
        model = bm25s.BM25(method="lucene", k1=k1, b=b)
        model.index(words(texts), show_progress=False)
        stored[f"scores_{k1}_{b}"] = np.stack([model.get_scores(row) for row in words(queries)])
    return stored
