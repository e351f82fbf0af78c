"""Maximum spanning arborescences of random graphs by networkx, with one arc from the root."""

import numpy as np

PACKAGES = ("networkx==3.6.1",)


def values():
    import networkx as nx

    stored, rng = {}, np.random.default_rng(5)
    for words in (6, 9, 14, 25, 40):
        scores = rng.normal(size=(words, words + 1))
        # Integers make ties and long cycles.
        scores = scores if words % 2 else np.round(2 * scores)
        stored[f"scores_{words}"] = scores
        stored[f"best_{words}"] = max(_best(nx, scores, first) for first in range(words))
    return stored


def _best(nx, scores, first):
    """The best tree in which `first` is the only word below the root."""
    graph = nx.DiGraph()
    for word, head in np.ndindex(scores.shape):
        if head != word + 1 and (head or word == first):
            graph.add_edge(head, word + 1, weight=scores[word, head])
    tree = nx.maximum_spanning_arborescence(graph)
    return sum(scores[word - 1, head] for head, word in tree.edges)
