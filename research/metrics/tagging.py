"""The measure of a tagger's evaluation: accuracy, also of words that are not in the training data, and entities."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import jax.numpy as jnp
import numpy as np

from research.axes import Array, Bool, Integer, Num
from research.core import Mean, Rows, Trained, weighted_mean
from research.data.text.tagged import TaggedRows
from research.fields import example_weights, field
from research.metrics.entities import TagScheme, entity_counts


def tag_accuracy(
    predictions: Integer[Array, "*batch"],
    tags: Integer[Array, "*batch"],
    *,
    weights: Num[Array, "*batch"],
    known: Bool[Array, "*batch"] | None = None,
) -> dict[str, Mean]:
    """Return the Mean `accuracy` over the words and, with `known`, `accuracy_known` and `accuracy_unknown`.

    `known` is whether the training data contain the word. Words of weight 0 do not count.
    """
    hits = (jnp.asarray(predictions) == tags).astype(jnp.float32)
    means = {"accuracy": weighted_mean(hits, weights)}
    if known is not None:
        means["accuracy_known"] = weighted_mean(hits, weights * known)
        means["accuracy_unknown"] = weighted_mean(hits, weights * ~known)
    return means


def measure_tags(
    decode: Callable[[Trained, Mapping], Integer[Array, "batch time"]],
    *,
    known: Callable[[Mapping], Bool[Array, "batch time"]] | None = None,
    scheme: TagScheme | None = None,
) -> Callable:
    """Return the measure of a tagger's Eval: accuracy, and the rows of tags.

    `decode(trained, batch)` returns the predicted tags. Batches hold "tags" [batch, time], -1 for padding; the rows are
    "tag" and "predicted_tag", both -1 there. `known(batch)` adds the accuracies of known and unknown words (see
    `tag_accuracy`), and `scheme` adds `f1`, the F1 of entities. Examples of mask 0 do not count.
    """

    def measure(trained: Trained, batch: Mapping) -> dict:
        tags = field(batch, "tags")
        mask = example_weights(batch, len(tags))
        weights = (tags >= 0) * mask[:, None]
        predictions = decode(trained, batch)
        metrics = tag_accuracy(predictions, tags, weights=weights, known=None if known is None else known(batch))
        if scheme is not None:
            metrics["f1"] = entity_counts(predictions, tags, scheme=scheme, weights=weights)
        rows = {"tag": tags, "predicted_tag": jnp.where(tags >= 0, predictions, -1)}
        return {**metrics, "rows": Rows(rows, mask)}

    return measure


def tagged_texts(rows: TaggedRows, *, names: Sequence[str], most: int = 50) -> Callable:
    """Return a `finish` that keeps the sentences with the most wrong tags for the report.

    `rows` are the packed sentences of the evaluation, and `names` the tags in the order of their numbers. The result
    has the array "tagged", str [sentences, words, 3]: word, true tag and predicted tag, "" for padding.
    """
    segments = rows.data.column("segments")

    def finish(results: Mapping) -> dict:
        true, predicted = (np.asarray(results["rows"][name]) for name in ("tag", "predicted_tag"))
        wrong = (true != predicted).astype(np.int64)
        found = [
            (-int(wrong[row, places].sum()), row, places[0], places[-1] + 1)
            for row in range(len(true))
            for number in range(1, segments[row].max(initial=0) + 1)
            if len(places := np.flatnonzero(segments[row] == number))
        ]
        worst = sorted(found)[:most]
        longest = max((end - start for _, _, start, end in worst), default=0)
        tagged = np.full((len(worst), longest, 3), "", dtype=object)
        for i, (_, row, start, end) in enumerate(worst):
            tagged[i, : end - start, 0] = rows.text[row][start:end]
            for k, values in enumerate((true, predicted), 1):
                tagged[i, : end - start, k] = [names[tag] for tag in values[row, start:end]]
        return {"tagged": tagged.astype(str)}

    return finish
