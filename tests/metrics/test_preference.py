"""The measure of preferences, against log-probabilities that are summed by hand in numpy."""

import jax
import numpy as np
import pytest

from research.core import Trained
from research.errors import UserError
from research.metrics.preference import measure_preference
from tests.objectives.test_preference import BATCH, PAIRS, POLICY, REFERENCE, bigram, log_prob, view

TRAINED = Trained(bigram, POLICY, {"seen": 0, "reference": REFERENCE})
CHOSEN, REJECTED, CHOSEN_BEFORE, REJECTED_BEFORE = (
    np.array([log_prob(table, pair[i]) for pair in PAIRS]) for table in (POLICY, REFERENCE) for i in (0, 1)
)


def measured(batch=BATCH, **options):
    found = jax.jit(measure_preference(**options))(TRAINED, batch)
    return {name: float(mean.value()) for name, mean in found.items()}


def test_likelihood_and_implicit_reward():
    margin = CHOSEN - CHOSEN_BEFORE - REJECTED + REJECTED_BEFORE
    for mask in ([1, 1], [1, 0], [0, 1]):
        rows = np.array(mask) == 1
        expected = {"likelihood": (CHOSEN > REJECTED)[rows].mean()}
        assert measured({**BATCH, "mask": np.array(mask)}) == pytest.approx(expected)
        expected |= {"margin": margin[rows].mean(), "accuracy": (margin > 0)[rows].mean()}
        found = measured({**BATCH, "mask": np.array(mask)}, reference=bigram, view=view)
        assert found == pytest.approx(expected, rel=1e-5)


def test_the_reference_itself_has_no_margin():
    found = measured(reference=bigram, view=lambda state: (state.params, state.stats))
    assert found["margin"] == 0 and found["accuracy"] == 0.5


def test_a_batch_without_pairs_is_an_error():
    with pytest.raises(UserError, match=r"'tokens' has the shape \[2, 5\]; expected \[batch, 2, time\]"):
        measured({name: x[:, 0] for name, x in BATCH.items()})
