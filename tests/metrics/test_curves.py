"""Every point of the curves is scikit-learn's, with ties, weights and absent classes."""

import warnings

import numpy as np
import pytest
import sklearn.metrics
from hypothesis import given, settings
from hypothesis import strategies as st

from research.metrics.curves import precision_recall_curve, roc_curve

ROWS = st.lists(st.tuples(st.booleans(), st.integers(0, 6), st.sampled_from([0.0, 0.5, 1.0, 3.0])), min_size=1)


@given(ROWS, st.booleans())
@settings(max_examples=200, deadline=None)
def test_points_and_areas_are_scikit_learns(rows, weighted):
    true, score, weight = (np.array(column) for column in zip(*rows, strict=True))
    weight = weight if weighted and weight.any() else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        x, y, threshold = sklearn.metrics.roc_curve(true, score, sample_weight=weight)
        found = roc_curve(true, score, weight)
        np.testing.assert_allclose(found[:3], (x, y, threshold))
        assert found.area == pytest.approx(np.trapezoid(y, x), nan_ok=True)
        y, x, threshold = sklearn.metrics.precision_recall_curve(
            true, score, sample_weight=weight, drop_intermediate=True
        )
        found = precision_recall_curve(true, score, weight)
        np.testing.assert_allclose(found[:3], (x, y, np.append(threshold, np.inf)))
        assert found.area == pytest.approx(sklearn.metrics.average_precision_score(true, score, sample_weight=weight))
