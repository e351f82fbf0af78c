import numpy as np
import pytest
import sklearn.metrics

from research.errors import UserError
from research.metrics.agreement import LEVELS, fleiss_kappa, krippendorff_alpha
from tests.truth import load

TRUTH = load("raters")


def test_kappa_is_that_of_statsmodels_and_for_equal_frequencies_that_of_cohen():
    np.testing.assert_allclose(fleiss_kappa(TRUTH["ratings"]), TRUTH["fleiss"], rtol=1e-12)
    two = np.array([[0, 1, 2, 0, 1, 2], [0, 1, 1, 0, 2, 2]])
    np.testing.assert_allclose(fleiss_kappa(two), sklearn.metrics.cohen_kappa_score(*two), rtol=1e-12)


@pytest.mark.parametrize("level", LEVELS)
def test_alpha_is_that_of_krippendorffs_library(level):
    numbers = np.where(TRUTH["votes"] < 0, np.nan, TRUTH["votes"] + 1.0)
    np.testing.assert_allclose(krippendorff_alpha(numbers, level=level), TRUTH[f"alpha_{level}"], rtol=1e-12)


def test_edges_and_errors():
    assert krippendorff_alpha(TRUTH["votes"]) == pytest.approx(TRUTH["alpha_nominal"], rel=1e-12)  # -1 is missing
    same = np.array([[1, 1, 0], [1, 1, 0]])
    assert fleiss_kappa(same) == krippendorff_alpha(same) == 1
    assert np.isnan(fleiss_kappa(same * 0)) and np.isnan(krippendorff_alpha(same * 0))
    with pytest.raises(UserError, match="1 ratings are missing. krippendorff_alpha accepts"):
        fleiss_kappa(np.array([[0, -1], [0, 1]]))
    with pytest.raises(UserError, match="unknown level of measurement 'ordinl'.*ordinal"):
        krippendorff_alpha(same, level="ordinl")
    with pytest.raises(UserError, match="no record has them"):
        krippendorff_alpha(np.array([[0, -1], [-1, 1]]))
