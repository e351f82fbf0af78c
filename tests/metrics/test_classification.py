import jax.numpy as jnp
import numpy as np
import pytest
import sklearn.metrics

from research.core import Rows, eval_step
from research.errors import UserError
from research.metrics.classification import Confusion, confusion, measure_classification, predict_classes

RNG = np.random.default_rng(0)
X = RNG.normal(size=(23, 4)).astype(np.float32)
Y = RNG.integers(5, size=23)
W = RNG.normal(size=(4, 5)).astype(np.float32)


def linear(params, stats, x, *, key=None, train=False):
    assert not train
    return x @ params, {}


def padded(start, size=10):
    """A batch of `size` whose last rows may be padding, with labels that would be counted."""
    x, y = X[start : start + size], Y[start : start + size]
    missing = size - len(x)
    return {
        "image": np.concatenate([x, np.full((missing, 4), np.nan, np.float32)]),
        "label": np.concatenate([y, np.zeros(missing, int)]),
        "mask": np.concatenate([np.ones(len(x)), np.zeros(missing)]),
    }


def test_ragged_padded_batches_give_what_sklearn_gives_for_the_whole_set():
    measure = measure_classification(num_classes=5)
    step = eval_step(linear, measure)
    totals, rows = None, []
    for start in (0, 10, 20):
        if totals is None:
            totals = {name: s for name, s in measure(linear, W, {}, padded(start)).items() if not isinstance(s, Rows)}
            found = measure(linear, W, {}, padded(start))["rows"]
        else:
            totals, found = step(W, {}, totals, padded(start))
            found = found["rows"]
        rows.append({name: np.asarray(v)[np.asarray(found.mask) > 0] for name, v in found.values.items()})
    rows = {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}
    scores = X.astype(np.float64) @ W
    probabilities = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
    prediction = scores.argmax(-1)
    values = {name: np.asarray(state.value()) for name, state in totals.items()}
    np.testing.assert_allclose(values["accuracy"], sklearn.metrics.accuracy_score(Y, prediction), rtol=1e-6)
    np.testing.assert_allclose(values["loss"], sklearn.metrics.log_loss(Y, probabilities, labels=range(5)), rtol=1e-5)
    expected = sklearn.metrics.confusion_matrix(Y, prediction, labels=range(5))
    assert (expected != expected.T).any()
    np.testing.assert_array_equal(values["confusion"], expected)
    np.testing.assert_array_equal(rows["label"], Y)
    np.testing.assert_array_equal(rows["prediction"], prediction)
    np.testing.assert_allclose(rows["confidence"], probabilities.max(-1), rtol=1e-5)
    np.testing.assert_allclose(rows["loss"], -np.log(probabilities[np.arange(23), Y]), rtol=1e-4)


def test_predictions_need_no_labels():
    found = predict_classes()(linear, W, {}, {"image": X})
    np.testing.assert_array_equal(found["prediction"], (X @ W).argmax(-1))
    np.testing.assert_allclose(found["probabilities"].sum(-1), 1, rtol=1e-5)
    np.testing.assert_array_equal(found["confidence"], found["probabilities"].max(-1))


def test_a_label_out_of_range_is_in_no_cell_and_makes_the_loss_nan():
    labels, ones = np.array([-1, 5, 2]), np.ones(3)
    counts = confusion(labels, jnp.array([1, 1, 1]), num_classes=5, weights=ones)
    assert isinstance(counts, Confusion)
    assert counts.value().sum() == 1 and counts.value()[2, 1] == 1
    measured = measure_classification(num_classes=5)(linear, W, {}, {"image": X[:3], "label": labels})
    assert np.isnan(measured["loss"].value())


def test_another_number_of_classes_is_an_error():
    with pytest.raises(UserError, match="gives 5 classes, the measure expects 4"):
        measure_classification(num_classes=4)(linear, W, {}, padded(0))
    with pytest.raises(UserError, match="unknown batch field 'picture'"):
        measure_classification(num_classes=5, inputs="picture")(linear, W, {}, padded(0))
