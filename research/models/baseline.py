"""Classical classifiers as baselines, evaluated on the same records and by the same measures as a network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from research.core import Model
from research.data.readers.arrays import Arrays, in_memory, of_columns
from research.errors import UserError

LEAST = 1e-12  # a probability of 0 has no logarithm


def baseline(
    classifier: Any, parts: Sequence[Any], *, inputs: str = "features", labels: str = "label"
) -> tuple[Model, list[Arrays]]:
    """Fit a classifier of scikit-learn, and return a Model and the data sets with its logits in place of the inputs.

    The classifier is fitted on the first of `parts`, to class numbers [n], or to several labels [n, labels] of 0 and 1.
    The Model returns its inputs, and has one parameter without use: train it for one epoch with `optax.sgd`. Logits are
    log probabilities, and log-odds for several labels. They are made here, and new rows have none.
    Raises UserError if a class is absent from the first part.
    """
    parts = [in_memory(part) for part in parts]
    x, y = (np.asarray(parts[0].columns[name]) for name in (inputs, labels))
    classifier.fit(x.reshape(len(x), -1), y)
    if y.ndim == 1:
        absent = [c for c in range(max(int(part.columns[labels].max()) for part in parts) + 1) if c not in y]
        if absent:
            raise UserError(f"the class {absent[0]} is absent from the records that the baseline is fitted on.")
    made = []
    for part in parts:
        x = np.asarray(part.columns[inputs])
        found = classifier.predict_proba(x.reshape(len(x), -1))
        if y.ndim == 1:
            logits = np.log(np.maximum(found, LEAST))
        else:
            p = np.clip(np.stack([one[:, 1] for one in found], 1), LEAST, 1 - LEAST)
            logits = np.log(p) - np.log1p(-p)
        made.append(of_columns({**part.columns, inputs: logits.astype(np.float32)}, classes=part.classes))
    return Model(lambda key: ({"unused": jnp.zeros(())}, {}), lambda params, stats, x, **_: (x, stats)), made
