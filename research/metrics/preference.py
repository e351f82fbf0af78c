"""Measure how often a language model prefers the better response of a pair."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from research.core import Ctx, Model, Trained, View, weighted_mean
from research.fields import example_weights, inputs
from research.objectives.preference import pair_rows, positive, response_log_probs
from research.objectives.teacher import teacher_outputs


def measure_preference(reference: Model | Callable | None = None, *, view: View | None = None) -> Callable:
    """Return the measure of pairs of responses, whose batches are those of `objectives.preference.preference`.

    likelihood is the fraction of pairs whose chosen response has the higher log-probability; a tie counts half. With a
    `reference` and the `view` of its weights, as in `preference`, there are also margin, the mean of the difference of
    log p(chosen) - log p(rejected) between the two models, in nats, and accuracy, the fraction of margins above 0.
    Both log-probabilities are sums over the tokens of a response; thus likelihood favours short responses.
    Examples of mask 0 do not count. The measure raises UserError if the batch has no pairs.
    """
    apply = getattr(reference, "apply", reference)

    def measure(trained: Trained, batch: Mapping) -> dict:
        rows = pair_rows(batch)
        log_probs = response_log_probs(trained(*inputs(rows)), rows)
        weights = example_weights(batch, len(log_probs))
        metrics = {"likelihood": weighted_mean(positive(log_probs[:, 0] - log_probs[:, 1]), weights)}
        if reference is None:
            return metrics
        ctx = Ctx(batch, trained.stats, None, None)
        ratio = log_probs - response_log_probs(teacher_outputs(apply, view, trained.params, ctx, *inputs(rows)), rows)
        margin = ratio[:, 0] - ratio[:, 1]
        return metrics | {
            "margin": weighted_mean(margin, weights),
            "accuracy": weighted_mean(positive(margin), weights),
        }

    return measure
