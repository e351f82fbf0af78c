import numpy as np
import pytest
from scipy import linalg

from research.core import Trained
from research.errors import UserError
from research.metrics.generative import compare_samples, frechet, measure_samples, precision_recall

RNG = np.random.default_rng(0)


def test_precision_and_recall_against_a_double_loop():
    real, fake = RNG.normal(size=(30, 2)), RNG.normal(size=(25, 2)) * 1.5 + 0.5

    def covered(points, by, k=3):
        hits = 0
        for point in points:
            hits += any(np.linalg.norm(point - b) <= sorted(np.linalg.norm(b - other) for other in by)[k] for b in by)
        return hits / len(points)

    found = precision_recall(real, fake)
    assert found == pytest.approx((covered(fake, real), covered(real, fake)))
    assert 0 < found.precision < 1 and 0 < found.recall < 1
    assert precision_recall(real, real) == (1, 1) and precision_recall(real, real + 100) == (0, 0)
    collapsed = np.repeat(real[:1], 25, 0) + 1e-3 * RNG.normal(size=(25, 2))
    assert precision_recall(real, collapsed).precision == 1 and precision_recall(real, collapsed).recall < 0.2
    with pytest.raises(UserError, match="3 real and .* fake points; expected more than neighbours=3"):
        precision_recall(real[:3], fake)


def test_the_frechet_distance_against_the_matrix_root():
    a, b = RNG.normal(size=(200, 4)), RNG.normal(size=(300, 4)) @ RNG.normal(size=(4, 4)) + 1
    root = linalg.sqrtm(np.cov(a.T) @ np.cov(b.T))
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(np.cov(a.T) + np.cov(b.T) - 2 * root.real)
    assert frechet(a, b) == pytest.approx(expected, rel=1e-9)
    assert frechet(a, a) == pytest.approx(0, abs=1e-9)
    assert frechet(a[:3], a[:3] + 2) == pytest.approx(4 * 4, rel=1e-6)  # fewer points than dimensions


def test_the_rows_of_a_measure_are_compared():
    measure = measure_samples()
    apply = lambda params, stats, z, train: (z[:, None] * params, {})
    real, z = RNG.normal(size=(6, 1, 2)), RNG.normal(size=(6, 2))
    rows = measure(Trained(apply, 2.0, {}), {"image": real, "latent": z})["rows"]
    np.testing.assert_array_equal(rows.values["fake"], 2 * z)
    np.testing.assert_array_equal(rows.values["real"], real[:, 0])
    found = compare_samples()({"rows": rows.values})
    assert found["frechet"] == pytest.approx(frechet(real[:, 0], 2 * z)) and set(found) == {
        "precision",
        "recall",
        "frechet",
    }


def test_points_that_are_repeated_cover_themselves():
    """As after a collapse of modes: the balls around them have a radius of 0."""
    points = np.repeat(np.random.default_rng(3).normal(size=(5, 64)), 8, 0)
    assert precision_recall(points, points.copy()) == (1, 1)
