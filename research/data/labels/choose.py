"""Active learning: which records to label next. Larger scores first; Settles 2009 surveys the methods.

Scores are functions of a network's class probabilities [rows, classes] or, for a committee (members of an ensemble, or
draws with dropout), [raters, rows, classes]. `core_set` reads features.
"""

from __future__ import annotations

import numpy as np
from scipy.special import entr

from research.axes import Float, Int
from research.errors import UserError


def uncertainty(probabilities: Float[np.ndarray, "rows classes"]) -> Float[np.ndarray, " rows"]:
    """Return 1 - the largest probability (least confidence; Lewis & Gale 1994)."""
    return 1 - probabilities.max(-1)


def margin(probabilities: Float[np.ndarray, "rows classes"]) -> Float[np.ndarray, " rows"]:
    """Return 1 - the difference of the two largest probabilities (Scheffer et al. 2001)."""
    second, first = np.sort(probabilities, -1)[:, -2:].T
    return 1 - (first - second)


def entropy(probabilities: Float[np.ndarray, "rows classes"]) -> Float[np.ndarray, " rows"]:
    """Return the entropy of the predicted class, in nats."""
    return entr(probabilities).sum(-1)


def vote_entropy(committee: Float[np.ndarray, "raters rows classes"]) -> Float[np.ndarray, " rows"]:
    """Return the entropy of the votes of a committee, in nats: disagreement (Dagan & Engelson 1995)."""
    votes = committee.argmax(-1)[..., None] == np.arange(committee.shape[-1])
    return entr(votes.mean(0)).sum(-1)


def information(committee: Float[np.ndarray, "raters rows classes"]) -> Float[np.ndarray, " rows"]:
    """Return the mutual information of label and weights, in nats (BALD; Houlsby et al. 2011, equation 2).

    It is the entropy of the mean prediction minus the mean entropy of the members: 0 if all members agree, also on
    being uncertain, because a label could then teach them nothing.
    """
    return entropy(committee.mean(0)) - entr(committee).sum(-1).mean(0)


def core_set(
    features: Float[np.ndarray, "rows features"], labelled: Int[np.ndarray, " points"], *, count: int
) -> Int[np.ndarray, " places"]:
    """Return `count` rows that cover the features, by greedy k-centre (Sener & Savarese 2018, Algorithm 1).

    Each choice is the row farthest from all labelled and chosen rows. The largest distance of any row to a centre is at
    most twice the least possible. Raises UserError for a count above the number of rows without a label.
    """
    labelled = np.asarray(labelled, np.int64)
    if not 0 < count <= len(features) - len(labelled):
        free = len(features) - len(labelled)
        raise UserError(f"core_set(count={count}) of {free} rows without a label; expected 1 to {free}.")
    nearest = np.full(len(features), np.inf)
    for row in labelled:
        nearest = np.minimum(nearest, ((features - features[row]) ** 2).sum(-1))
    chosen = []
    taken = np.zeros(len(features), bool)
    taken[labelled] = True
    for _ in range(count):
        row = int(np.argmax(np.where(taken, -1, nearest)))
        chosen.append(row)
        taken[row] = True
        nearest = np.minimum(nearest, ((features - features[row]) ** 2).sum(-1))
    return np.array(chosen)
