import functools

import jax
import numpy as np
import pytest
import sklearn.metrics

from research.core import Trained, merge
from research.errors import UserError
from research.metrics.regression import measure_regression, r2

fetch_f64 = functools.partial(jax.tree.map, lambda x: np.asarray(x, np.float64))

RNG = np.random.default_rng(0)
X = RNG.normal(size=(23, 4)).astype(np.float32)
W = RNG.normal(size=(4, 3)).astype(np.float32)
Y = (X @ W + RNG.normal(size=(23, 3)) * [0.1, 1, 3] + 5).astype(np.float32)


def linear(params, stats, x, *, key=None, train=False):
    assert not train
    return x @ params + 4.9, {}


TRAINED = Trained(linear, W, {})


def padded(start, size=10):
    x, y = X[start : start + size], Y[start : start + size]
    missing = size - len(x)
    return {
        "features": np.concatenate([x, np.full((missing, 4), np.nan, np.float32)]),
        "target": np.concatenate([y, np.ones((missing, 3), np.float32)]),
        "mask": np.concatenate([np.ones(len(x)), np.zeros(missing)]),
    }


@pytest.mark.parametrize("center", [0.0, 5.0, -3.0])
def test_ragged_padded_batches_give_what_sklearn_gives_for_the_whole_set(center):
    measure = jax.jit(measure_regression(center=center))
    parts = [measure(TRAINED, padded(start)) for start in (0, 10, 20)]
    rows = [part.pop("rows") for part in parts]
    values = {name: state.value() for name, state in fetch_f64(functools.reduce(merge, parts)).items()}
    predictions = X @ W + 4.9
    np.testing.assert_allclose(values["mse"], sklearn.metrics.mean_squared_error(Y, predictions), rtol=1e-5)
    np.testing.assert_allclose(values["mae"], sklearn.metrics.mean_absolute_error(Y, predictions), rtol=1e-5)
    np.testing.assert_allclose(values["r2"], sklearn.metrics.r2_score(Y, predictions), rtol=1e-4)
    found = np.concatenate([np.asarray(row.values["error"])[np.asarray(row.mask) > 0] for row in rows])
    np.testing.assert_allclose(found, predictions - Y, atol=1e-5)


def test_a_centre_near_the_targets_saves_the_digits_of_r2():
    targets = (RNG.normal(size=1000) + 1e4).astype(np.float32)
    predictions = (targets + RNG.normal(size=1000) / 2).astype(np.float32)
    state = r2(predictions, targets, weights=np.ones(1000), center=1e4)
    np.testing.assert_allclose(state.value(), sklearn.metrics.r2_score(targets, predictions), rtol=1e-4)


def test_constant_targets_count_as_in_sklearn():
    targets = np.stack([np.full(4, 2), np.full(4, 2), np.arange(4)], 1).astype(np.float32)
    predictions = targets + np.array([0, 1, 0.5], np.float32)
    state = fetch_f64(r2(predictions, targets, weights=np.ones(4)))
    np.testing.assert_allclose(state.value(), sklearn.metrics.r2_score(targets, predictions), rtol=1e-6)
    for count in (0, 1):
        assert np.isnan(fetch_f64(r2(predictions, targets, weights=1.0 * (np.arange(4) < count))).value())


@pytest.mark.parametrize("constant", [0.1, -123.4])
def test_constant_targets_without_an_exact_binary_form(constant):
    targets = np.full((20, 50), constant, np.float32)
    for away, expected in ((0, 1), (0.5, 0)):
        parts = [r2(row + np.float32(away), row, weights=np.ones(50)) for row in targets]
        assert fetch_f64(functools.reduce(merge, parts)).value() == expected


def test_shapes_that_would_be_broadcast_are_an_error():
    with pytest.raises(UserError, match=r"predictions \[10, 3\] and targets"):
        measure_regression()(TRAINED, {**padded(0), "target": Y[:10, 0]})
    with pytest.raises(UserError, match="unknown batch field 'x'"):
        measure_regression(inputs="x")(TRAINED, padded(0))
