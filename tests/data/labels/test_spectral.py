import numpy as np
import pytest
from sklearn.datasets import make_moons
from sklearn.linear_model import LogisticRegression

from research.data.labels.spectral import spectral_labels
from research.errors import UserError

X, Y = make_moons(120, noise=0.05, random_state=0)
FEW = np.full(120, -1)
FEW[[np.flatnonzero(Y == c)[i] for c in (0, 1) for i in (0, 7, 31)]] = [0, 0, 0, 1, 1, 1]


def test_six_labels_of_two_moons_become_all_of_them():
    found = spectral_labels(X, FEW, num_clusters=2, seed=0)
    np.testing.assert_array_equal(found, Y)
    known = FEW >= 0
    assert LogisticRegression().fit(X[known], Y[known]).score(X, Y) < 0.95  # no line divides them


def test_known_labels_stay_and_a_cluster_without_any_stays_unknown():
    wrong = FEW.copy()
    wrong[np.flatnonzero(FEW == 0)[0]] = 1
    found = spectral_labels(X, wrong, num_clusters=2, seed=0)
    assert (found != Y).sum() == 1 and found[wrong >= 0].tolist() == wrong[wrong >= 0].tolist()
    one = np.where(FEW == 0, 0, -1)
    found = spectral_labels(X, one, num_clusters=2, seed=0)
    np.testing.assert_array_equal(found, np.where(Y == 0, 0, -1))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"labels": -np.ones(120, int)}, "needs a row whose label is known"),
        ({"num_clusters": 1}, "num_clusters=1 of 120 rows; expected 2 to 119"),
        ({"labels": FEW[:3]}, r"features \[120, 2\] and labels \[3\]"),
    ],
)
def test_what_cannot_be_clustered_is_an_error(options, message):
    with pytest.raises(UserError, match=message):
        spectral_labels(X, **{"labels": FEW, "num_clusters": 2, "seed": 0, **options})
