"""The best dependency tree of scores of arcs: Chu & Liu 1965, Edmonds 1967. It runs on the host."""

from __future__ import annotations

import numpy as np

from research.axes import Float, Int
from research.errors import UserError


def best_tree(scores: Float[np.ndarray, "rows columns"]) -> Int[np.ndarray, " rows"]:
    """Return the head of each word in the tree with the highest sum of scores: 0 is the root, k is word k.

    `scores[i, j]` is that of head j for word i + 1, with one more column than rows; the score of a word as its own head
    is ignored. Exactly one word has the head 0, as in most treebanks. Time grows with the cube of the words.

    Raises UserError for another shape, and if a score is not finite.
    """
    scores = np.asarray(scores, np.float64)
    count = len(scores)
    if scores.shape != (count, count + 1):
        raise UserError(f"scores of arcs have the shape {list(scores.shape)}; expected [words, words + 1].")
    if not np.isfinite(scores[~np.eye(count, count + 1, 1, dtype=bool)]).all():
        raise UserError("scores of arcs must be finite numbers.")
    if not count:
        return np.zeros(0, np.int64)
    # With a penalty larger than any difference between two trees, the best tree has as few words at the root as
    # possible; one is always enough, because every word may be the head of every other.
    full = np.concatenate([np.full((1, count + 1), -np.inf), scores])
    np.fill_diagonal(full, -np.inf)
    inner = full[1:][np.isfinite(full[1:])]
    full[1:, 0] -= (count + 1) * (inner.max() - inner.min() + 1)
    return _branching(full)[1:]


def _branching(scores):
    """Return the heads [n] of the maximum spanning arborescence; node 0 is the root, and has the head -1."""
    heads = scores.argmax(1)
    heads[0] = -1
    cycle = _cycle(heads)
    if cycle is None:
        return heads
    # The cycle becomes one node. An arc into it replaces the arc of the cycle to the same word.
    others = np.setdiff1d(np.arange(len(scores)), cycle)
    within = scores[cycle, heads[cycle]]
    gains = scores[np.ix_(cycle, others)] - within[:, None]  # entering the cycle at each of its nodes
    entry, leaving = gains.argmax(0), scores[np.ix_(others, cycle)].argmax(1)
    size = len(others)
    smaller = np.full((size + 1, size + 1), -np.inf)
    smaller[:size, :size] = scores[np.ix_(others, others)]
    smaller[size, :size] = gains.max(0)
    smaller[1:size, size] = scores[others[1:], cycle[leaving[1:]]]
    found = _branching(smaller)
    for node in range(1, size):
        head = found[node]
        heads[others[node]] = cycle[leaving[node]] if head == size else others[head]
    head = found[size]
    heads[cycle[entry[head]]] = others[head]
    return heads


def _cycle(heads):
    """Return the nodes of a cycle, or None. Each node is visited once."""
    visited = np.zeros(len(heads), np.int64)  # the walk that reached the node
    visited[0] = -1
    for start in range(1, len(heads)):
        node = start
        while not visited[node]:
            visited[node] = start
            node = heads[node]
        if visited[node] == start:
            cycle = [node]
            while heads[cycle[-1]] != node:
                cycle.append(heads[cycle[-1]])
            return np.array(sorted(cycle))
    return None
