"""Classical classifiers as baselines, evaluated on the same records and by the same measures as a network."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import jax.numpy as jnp
import numpy as np
from scipy import sparse

from research.core import Model
from research.data.readers.arrays import Arrays, in_memory, of_columns
from research.errors import UserError

LEAST = 1e-12  # a probability of 0 has no logarithm


def baseline(
    classifier: Any, parts: Iterable[Any], *, inputs: str | tuple[str, str] = "features", labels: str = "label",
    size: int | None = None,
) -> tuple[Model, list[Arrays]]:  # fmt: skip
    """Fit a classifier of scikit-learn, and return a Model and the data sets with its logits in place of the inputs.

    The classifier is fitted on the first of `parts`, to class numbers [n], or to several labels [n, labels] of 0 and 1.
    The Model returns its inputs, and has one parameter without use: train it for one epoch with `optax.sgd`. Logits are
    log probabilities, and log-odds for several labels; a classifier without probabilities, such as a support-vector
    machine, gives its decision function, and 0 for the first of two classes. They are made here: new rows have none.
    Sparse records of `size` ids (`research.data.text.bag`) are inputs=("ids", "values"); the logits replace the ids.
    Raises UserError if a class is absent from the first part.
    """
    parts = [in_memory(part) for part in parts]
    y = np.asarray(parts[0].columns[labels])
    classifier.fit(_matrix(parts[0], inputs, size), y)
    if y.ndim == 1:
        absent = [c for c in range(max(int(part.columns[labels].max()) for part in parts) + 1) if c not in y]
        if absent:
            raise UserError(f"the class {absent[0]} is absent from the records that the baseline is fitted on.")
    made, field = [], inputs if isinstance(inputs, str) else inputs[0]
    for part in parts:
        x = _matrix(part, inputs, size)
        if not hasattr(classifier, "predict_proba"):
            logits = classifier.decision_function(x)
            logits = logits if logits.ndim == 2 else np.stack([np.zeros(len(logits)), logits], 1)
        elif y.ndim == 1:
            found = classifier.predict_proba(x)
            logits = np.log(np.maximum(found, LEAST))
        else:
            p = np.clip(np.stack([one[:, 1] for one in classifier.predict_proba(x)], 1), LEAST, 1 - LEAST)
            logits = np.log(p) - np.log1p(-p)
        made.append(of_columns({**part.columns, field: logits.astype(np.float32)}, classes=part.classes))
    return Model(lambda key: ({"unused": jnp.zeros(())}, {}), lambda params, stats, x, *_, **__: (x, stats)), made


def _matrix(part, inputs, size):
    """Return the inputs as a matrix [n, features], in scipy's sparse form if they are ids and values."""
    if isinstance(inputs, str):
        x = np.asarray(part.columns[inputs])
        return x.reshape(len(x), -1)
    ids, values = (part.columns[name] for name in inputs)
    rows, entries = np.nonzero(values)
    places = rows.astype(np.int32), ids[rows, entries]  # scikit-learn takes indices of 32 bits only
    return sparse.csr_array((values[rows, entries], places), shape=(len(ids), size))
