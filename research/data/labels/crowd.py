"""Labels of several raters: from votes to the probability of each class."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from research.axes import Float, Int
from research.errors import UserError

ABSTAIN = -1


def majority_vote(votes: Int[np.ndarray, "raters rows"], *, num_classes: int) -> Float[np.ndarray, "rows classes"]:
    """Return the share of each class among the votes of each row; equal shares for a row without votes.

    `argmax` gives the label; of classes with equal shares it takes the first. Raises UserError for votes that are not
    -1 or a class number.
    """
    counts = _one_hot(votes, num_classes).sum(0)
    total = counts.sum(-1, keepdims=True)
    return np.where(total > 0, counts / np.maximum(total, 1), 1 / num_classes)


class Consensus(NamedTuple):
    """The estimates of `dawid_skene`.

    `probabilities` are those of the true class of each row. `confusion[r, i, j]` is the probability that rater r
    answers j if the true class is i. `prior` are the class frequencies. `log_likelihood` is that of the votes, in nats,
    after each iteration.
    """

    probabilities: Float[np.ndarray, "rows classes"]
    confusion: Float[np.ndarray, "raters classes classes"]
    prior: Float[np.ndarray, " classes"]
    log_likelihood: Float[np.ndarray, " steps"]


def dawid_skene(
    votes: Int[np.ndarray, "raters rows"], *, num_classes: int, iterations: int = 100, tolerance: float = 1e-6,
    smoothing: float = 0.0,
) -> Consensus:  # fmt: skip
    """Estimate true classes and each rater's confusion matrix together, by expectation maximization.

    Dawid & Skene 1979: raters err independently given the true class. EM starts from the majority vote, and stops if
    the log-likelihood per vote rises by less than `tolerance`. `smoothing` adds that many votes of each class to each
    row of a rater's matrix, for raters with few votes. A row without votes gets the prior.
    Raises UserError for votes that are not -1 or a class number, and without any votes.
    """
    one_hot = _one_hot(votes, num_classes)
    count = one_hot.sum()
    if not count:
        raise UserError("dawid_skene needs votes; every entry is -1.")
    probabilities = majority_vote(votes, num_classes=num_classes)
    history = []
    for _ in range(iterations):
        prior = probabilities.mean(0)
        confusion = np.einsum("nc,rnk->rck", probabilities, one_hot) + smoothing
        total = confusion.sum(-1, keepdims=True)
        confusion = np.where(total > 0, confusion / np.where(total > 0, total, 1), 1 / num_classes)
        with np.errstate(divide="ignore"):
            log_confusion, log_prior = np.log(confusion), np.log(prior)
        # 0 votes times log 0 is no evidence.
        terms = np.where(one_hot[:, :, None] > 0, log_confusion[:, None], 0)
        joint = log_prior + terms.sum((0, 3))
        log_rows = np.logaddexp.reduce(joint, -1)
        probabilities = np.exp(joint - log_rows[:, None])
        history.append(log_rows.sum())
        if len(history) > 1 and history[-1] - history[-2] < tolerance * count:
            break
    return Consensus(probabilities, confusion, prior, np.array(history))


def _one_hot(votes, num_classes):
    votes = np.asarray(votes)
    if votes.ndim != 2 or votes.dtype.kind not in "iu":
        raise UserError(f"votes are {votes.dtype}{list(votes.shape)}; expected integers [raters, rows].")
    wrong = np.argwhere((votes < ABSTAIN) | (votes >= num_classes))
    if len(wrong):
        rater, row = wrong[0]
        raise UserError(
            f"rater {rater} gives record {row} the class {votes[rater, row]}; expected 0 to {num_classes - 1}, or -1 "
            "for no vote."
        )
    return (votes[..., None] == np.arange(num_classes)).astype(np.float64)
