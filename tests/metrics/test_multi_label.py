import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sklearn.metrics

from research.core import Ctx, Trained, merge
from research.errors import UserError
from research.metrics.multi_label import label_ranking, measure_multi_label, predict_labels
from research.objectives.multi_label import multi_label

RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 6)).astype(np.float32)
LOGITS = RNG.normal(size=(6, 5)).astype(np.float32)
Y = (X @ LOGITS + RNG.normal(size=(40, 5)) > 0.7).astype(np.int32)
Y[:, 4] = 0  # a label that nobody has
TRAINED = Trained(lambda params, stats, x, train=False: (x @ params, {}), LOGITS, {})
PREDICTED = (X @ LOGITS > 0).astype(int)
measure = jax.jit(measure_multi_label())


def test_metrics_over_ragged_batches_are_those_of_scikit_learn():
    parts = [{"features": X[:25], "labels": Y[:25]}]
    padded = lambda a, fill: np.concatenate([a[25:], np.full((10, *a.shape[1:]), fill, a.dtype)])
    parts.append({"features": padded(X, 9.0), "labels": padded(Y, 1), "mask": np.arange(25) < 15})
    first, second = (measure(TRAINED, part) for part in parts)
    rows = [m.pop("rows") for m in (first, second)]
    metrics = {name: merge(first[name], second[name]).value() for name in first}
    theirs = {
        "subset_accuracy": sklearn.metrics.accuracy_score(Y, PREDICTED),
        "hamming": sklearn.metrics.hamming_loss(Y, PREDICTED),
        "f1_micro": sklearn.metrics.f1_score(Y, PREDICTED, average="micro"),
        "f1_macro": sklearn.metrics.f1_score(Y, PREDICTED, average="macro", zero_division=0),
        "loss": np.mean(
            [sklearn.metrics.log_loss(Y[:, c], 1 / (1 + np.exp(-(X @ LOGITS)[:, c])), labels=[0, 1]) for c in range(5)]
        ),
    }
    assert metrics.keys() == theirs.keys()
    for name, value in theirs.items():
        np.testing.assert_allclose(metrics[name], value, rtol=1e-5, err_msg=name)
    kept = {name: np.concatenate([r.values[name][r.mask > 0] for r in rows]) for name in rows[0].values}
    ranked = label_ranking()({"rows": kept})
    for kind in ("micro", "macro"):
        with warnings.catch_warnings(action="ignore", category=UserWarning):  # of the label that nobody has
            expected = sklearn.metrics.average_precision_score(Y, X @ LOGITS, average=kind)
        np.testing.assert_allclose(ranked[f"average_precision_{kind}"], expected, rtol=1e-6)
    areas = [sklearn.metrics.roc_auc_score(Y[:, c], (X @ LOGITS)[:, c]) for c in range(4)]
    np.testing.assert_allclose(ranked["auc_labels"], [*areas, np.nan], rtol=1e-6)
    np.testing.assert_allclose(ranked["auc_macro"], np.mean(areas), rtol=1e-6)


def test_thresholds_per_label_and_predictions():
    thresholds = (0.2, 0.5, 0.5, 0.9, 0.99)
    predictions = predict_labels(threshold=thresholds)(TRAINED, {"features": X})
    np.testing.assert_array_equal(predictions["prediction"], predictions["probabilities"] > np.array(thresholds))
    hamming = measure_multi_label(threshold=thresholds)(TRAINED, {"features": X, "labels": Y})["hamming"].value()
    np.testing.assert_allclose(hamming, (predictions["prediction"] != Y).mean(), rtol=1e-6)


def test_a_logit_that_is_nan_makes_the_metrics_nan():
    broken = Trained(TRAINED.apply, jnp.asarray(LOGITS).at[0, 1].set(jnp.nan), {})
    metrics = measure(broken, {"features": X, "labels": Y})
    assert all(np.isnan(metrics[name].value()) for name in metrics if name != "rows")
    with pytest.raises(UserError, match="finite logits"):
        label_ranking()({"rows": metrics["rows"].values})


def test_the_objective_is_logistic_regression_for_each_label():
    loss = multi_label(lambda params, stats, x, key=None, train=False: (x @ params, {}))
    batch = {"features": X, "labels": Y, "mask": (np.arange(40) < 30).astype(np.float32)}
    run = jax.jit(jax.value_and_grad(lambda w: loss(w, Ctx(batch, {}, jax.random.key(0), 0)), has_aux=True))
    (value, out), gradient = run(LOGITS)
    p = 1 / (1 + np.exp(-X[:30].astype(np.float64) @ LOGITS))
    np.testing.assert_allclose(gradient, X[:30].T @ (p - Y[:30]) / 150, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(
        out.metrics["hamming"].value(), sklearn.metrics.hamming_loss(Y[:30], PREDICTED[:30]), rtol=1e-6
    )
    assert value == out.metrics["loss"].value()


@pytest.mark.parametrize("threshold", [0.0, 1.0, (0.5, 2.0), float("nan")])
def test_a_threshold_is_a_probability(threshold):
    with pytest.raises(UserError, match="expected a probability between 0 and 1"):
        measure_multi_label(threshold=threshold)


def test_rows_without_logits_are_refused():
    with pytest.raises(UserError, match="needs the rows of measure_multi_label"):
        label_ranking()({"accuracy": 1.0})
