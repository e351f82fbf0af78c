"""Probes of a frozen encoder: a linear classifier and nearest neighbours on its features."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence

import jax.numpy as jnp
import numpy as np

from research.core import Eval, Model, Rows, Trained
from research.data import eval_batches, in_memory
from research.data.readers.arrays import Arrays
from research.errors import UserError
from research.fields import example_weights, field

TRAIN, TEST = 0, 1  # values of the field `split`


def probe(
    train, test, *, features: Model | Callable | None = None, size: int = 512, penalty: float = 1.0,
    neighbors: int = 20, every=None, inputs: str = "image", labels: str = "label",
) -> Eval:  # fmt: skip
    """Return the Eval that fits a linear classifier to features of `train` and scores it on features of `test`.

    Both are data sets with the fields `inputs` and `labels`. `features` is a Model or an `apply` that returns the
    features (default: the experiment's own `apply`). Batches of `size` mix records of both sets. The metrics are those
    of `score`. To evaluate other weights, use `_replace(view=...)` on the result.
    """
    return Eval(
        eval_batches(join_splits(train, test, fields=(inputs, labels)), size),
        measure_features(features, inputs=inputs, labels=labels),
        every=every,
        finish=score(penalty=penalty, neighbors=neighbors),
    )


def join_splits(train, test, *, fields: Sequence[str] = ("image", "label")) -> Arrays:
    """Join the `fields` of two data sets in memory, shuffled in a fixed order.

    The added field "split" is 0 for records of `train` and 1 for records of `test`.
    """
    first, second = (in_memory(data).columns for data in (train, test))
    columns = {name: np.concatenate([field(first, name), field(second, name)]) for name in fields}
    sizes = [len(part[fields[0]]) for part in (first, second)]
    columns["split"] = np.repeat(np.array([TRAIN, TEST], np.int32), sizes)
    order = np.random.Generator(np.random.Philox(0)).permutation(sum(sizes))
    return Arrays({name: column[order] for name, column in columns.items()})


def measure_features(
    features: Model | Callable | None = None, *, inputs: str = "image", labels: str = "label"
) -> Callable:
    """Return the measure of a probe: rows of features (flat, f32), label and split for each example."""
    encode = getattr(features, "apply", features)

    def measure(trained: Trained, batch: Mapping) -> dict:
        x = field(batch, inputs)
        vectors, _ = (encode or trained.apply)(trained.params, trained.stats, x, train=False)
        vectors = vectors.reshape(len(x), -1).astype(jnp.float32)
        rows = {"features": vectors, "label": field(batch, labels), "split": field(batch, "split")}
        return {"rows": Rows(rows, example_weights(batch, len(x)))}

    return measure


def score(*, penalty: float = 1.0, neighbors: int = 20) -> Callable:
    """Return the `finish` of a probe: probe_accuracy, probe_train_accuracy and knn_accuracy, computed on the host.

    The linear probe is scikit-learn's multinomial logistic regression with the L2 penalty `penalty` (1 / C), on
    features standardised by the mean and deviation of the train rows. knn_accuracy is that of a majority vote among the
    nearest `neighbors` train rows by cosine distance, on unstandardised features (all train rows, if there are fewer).

    Raises UserError if either split has no row, or if the train rows have a single class.
    """

    def finish(results: Mapping) -> dict[str, float]:
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import LogisticRegression
        from sklearn.neighbors import KNeighborsClassifier

        rows = results["rows"]
        train, test = (rows["split"] == part for part in (TRAIN, TEST))
        if not (train.any() and test.any()):
            raise UserError(f"a probe of {train.sum()} train and {test.sum()} test rows; expected both (0 and 1).")
        x, y = rows["features"], rows["label"]
        if len(np.unique(y[train])) < 2:
            raise UserError(f"a probe needs train rows of two classes; all {train.sum()} are of class {y[train][0]}.")
        mean, deviation = x[train].mean(0), x[train].std(0)
        scaled = (x - mean) / np.where(deviation > 0, deviation, 1)
        with warnings.catch_warnings():
            # After 1,000 iterations, closer convergence does not change the accuracy.
            warnings.simplefilter("ignore", ConvergenceWarning)
            linear = LogisticRegression(C=1 / penalty, max_iter=1_000).fit(scaled[train], y[train])
        nearest = KNeighborsClassifier(min(neighbors, int(train.sum())), metric="cosine").fit(x[train], y[train])
        return {
            "probe_accuracy": linear.score(scaled[test], y[test]),
            "probe_train_accuracy": linear.score(scaled[train], y[train]),
            "knn_accuracy": nearest.score(x[test], y[test]),
        }

    return finish
