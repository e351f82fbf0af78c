"""Retrieval: the rank of the text that answers a query, from dense scores, other scores and their sum."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import jax.numpy as jnp
import numpy as np

from research.axes import Array, Float, Integer
from research.core import Rows, Trained, weighted_mean
from research.fields import example_weights, field
from research.losses import l2_normalize


def answer_ranks(scores: Float[Array, "batch texts"], answers: Integer[Array, " batch"]) -> Float[Array, " batch"]:
    """Return the rank of the answer of each query, from 1; other texts with the same score count as before it."""
    own = jnp.take_along_axis(jnp.asarray(scores), jnp.asarray(answers)[:, None], 1)
    other = jnp.arange(scores.shape[1]) != jnp.asarray(answers)[:, None]  # rounding in a fused program may change `own`
    return 1 + (other & (scores >= own)).sum(1).astype(jnp.float32)


def standardized(scores: Float[Array, "batch texts"]) -> Float[Array, "batch texts"]:
    """Scale the scores of each query to mean 0 and variance 1 over the texts; equal scores become 0."""
    centred = scores - scores.mean(1, keepdims=True)
    deviation = jnp.sqrt((centred**2).mean(1, keepdims=True))
    return centred / jnp.where(deviation > 0, deviation, 1)


def measure_retrieval(texts: Mapping[str, Array], *, weight: float) -> Callable:
    """Return the measure of a retriever's Eval, with the mean reciprocal rank (MRR) and the recall of three scores.

    `texts` has the sparse texts that are searched, "text_ids" and "text_values" [texts, entries]. Batches have those
    of the queries, "query_ids" and "query_values", the scores of another retriever, "scores" [batch, texts], and
    "answer", the number of the right text. The scores are the other ones (`_given`), the cosines of the embeddings
    (`_dense`), and the sum of both, standardized for each query, with `weight` times the dense ones. Metrics are mrr,
    mrr_given and mrr_dense, recall_1 and recall_10, the fraction of queries with the answer among the first, with the
    same suffixes, and `gain` and `gain_10`, the gains of mrr and recall_10 over the given scores. Rows are the `rank`
    by the sum and `found`, its first text. Examples of mask 0 do not count.
    """

    def measure(trained: Trained, batch: Mapping) -> dict:
        embed = lambda fields, name: l2_normalize(
            trained(*(field(fields, f"{name}_{part}") for part in ("ids", "values")))
        )
        dense = embed(batch, "query") @ embed(texts, "text").T
        given, answers = field(batch, "scores"), field(batch, "answer")
        both = standardized(given) + weight * standardized(dense)
        ranks = {name: answer_ranks(s, answers) for name, s in (("", both), ("_given", given), ("_dense", dense))}
        mask = example_weights(batch, len(answers))
        values = {f"mrr{name}": 1 / rank for name, rank in ranks.items()}
        values["gain"] = values["mrr"] - values["mrr_given"]
        for name, rank in ranks.items():
            values |= {f"recall_{k}{name}": (rank <= k).astype(jnp.float32) for k in (1, 10)}
        values["gain_10"] = values["recall_10"] - values["recall_10_given"]
        metrics = {name: weighted_mean(x, mask) for name, x in values.items()}
        return {**metrics, "rows": Rows({"rank": ranks[""], "found": both.argmax(1)}, mask)}

    return measure


def answers_with_sources(
    questions: Sequence[str], answer: Callable[[str, int], tuple[str, str]], *, most: int = 20
) -> Callable:
    """Return a `finish` that keeps the questions with the worst ranks, and the answers found, for the report.

    `questions` are in the order of the evaluation; `answer(question, text)` returns a sentence of the text of that
    number, and its source. The result has the array "answers", str [questions, 4]: question, answer, source and rank of
    the right text.
    """

    def finish(results: Mapping) -> dict:
        ranks, found = (np.asarray(results["rows"][name]) for name in ("rank", "found"))
        order = np.argsort(-ranks, kind="stable")[:most]
        rows = [[questions[i], *answer(questions[i], int(found[i])), f"{ranks[i]:.0f}"] for i in order]
        return {"answers": np.array(rows, dtype=str)}

    return finish
