import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import optax
import pytest

from research import losses
from research.core import Ctx, draw
from research.errors import UserError
from research.objectives.classify import classify

RNG = np.random.default_rng(0)
X = RNG.normal(size=(6, 4)).astype(np.float32)
Y = RNG.integers(3, size=6)
W = RNG.normal(size=(4, 3)).astype(np.float32)


def linear(params, stats, x, *, key=None, train=False):
    return x @ params, {"seen": stats["seen"] + train}


PLAIN = classify(linear)


def run(loss, batch, key=0):
    return jax.jit(loss)(W, Ctx(batch, {"seen": np.int32(4)}, jax.random.key(key), np.int32(0)))


def test_loss_accuracy_and_stats():
    with jax.disable_jit():  # compiled, the two are rounded apart
        value, out = run(PLAIN, {"image": X, "label": Y})
    expected = optax.softmax_cross_entropy_with_integer_labels(X @ W, Y).mean()
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    assert value == out.metrics["loss"].value()
    assert out.metrics["accuracy"].value() == np.mean(np.argmax(X @ W, -1) == Y)
    assert out.metrics["accuracy"].weight == 6 and out.stats == {"seen": 5}


def test_padding_counts_in_nothing():
    batch = {"image": X, "label": Y, "mask": np.array([1, 1, 1, 1, 0, 0])}
    poisoned = {**batch, "image": np.where(batch["mask"][:, None], X, np.nan)}
    expected, _ = run(PLAIN, {"image": X[:4], "label": Y[:4]})
    for found, out in (run(PLAIN, batch), run(PLAIN, poisoned)):
        np.testing.assert_allclose(found, expected, rtol=1e-6)
        assert out.metrics["accuracy"].weight == 4


def test_smoothing_other_fields_and_probabilities():
    soft = 0.9 * np.eye(3, dtype=np.float32)[Y] + np.float32(0.1 / 3)
    smoothed, _ = run(classify(linear, smoothing=0.1, inputs="x", labels="y"), {"x": X, "y": Y})
    given, out = run(PLAIN, {"image": X, "label": soft})
    np.testing.assert_allclose(smoothed, given, rtol=1e-6)
    assert out.metrics["accuracy"].value() == np.mean(np.argmax(X @ W, -1) == Y)


def test_another_loss_per_example_and_class_weights():
    batch = {"image": X, "label": Y, "mask": np.array([1, 1, 1, 1, 1, 0])}
    weights = np.float32([0.2, 1.5, 3.0])
    log_p = np.asarray(jax.nn.log_softmax(X @ W))[np.arange(6), Y]
    value, out = run(classify(linear, class_weights=weights), batch)
    of_class = (weights[Y] * batch["mask"]).astype(np.float32)
    np.testing.assert_allclose(value, -(of_class * log_p).sum() / of_class.sum(), rtol=1e-6)
    assert out.metrics["accuracy"].weight == 5
    soft = {**batch, "label": np.eye(3, dtype=np.float32)[Y]}
    np.testing.assert_allclose(run(classify(linear, class_weights=tuple(weights.tolist())), soft)[0], value, rtol=1e-6)
    value, _ = run(classify(linear, per_example=losses.focal(2)), batch)
    np.testing.assert_allclose(value, (-((1 - np.exp(log_p)) ** 2) * log_p)[:5].mean(), rtol=1e-6)
    plain, _ = run(classify(linear), batch)
    np.testing.assert_allclose(run(classify(linear, per_example=losses.focal(0)), batch)[0], plain, rtol=1e-6)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (dict(class_weights=(1.0, 2.0)), r"class_weights \[2\] for logits of 3 classes"),
        (dict(per_example=lambda logits, labels: logits.mean()), r"shape \[6\]; it returned \[\]"),
        (dict(per_example=losses.focal(1), smoothing=0.1), "smoothing=0.1 belongs to the cross-entropy"),
    ],
)
def test_what_does_not_fit_is_an_error(options, words):
    with pytest.raises(UserError, match=words):
        run(classify(linear, **options), {"image": X, "label": Y})


def test_a_negative_gamma_is_an_error():
    with pytest.raises(UserError, match="gamma is -1"):
        losses.focal(-1)


def test_augmentation_and_model_get_keys_of_their_own_that_change_with_the_step():
    def noting(params, ctx):
        keys = []

        def augment(key, batch):
            keys.append(jax.random.key_data(key))
            return {**batch, "image": -batch["image"]}

        def watching(params, stats, x, *, key=None, train=False):
            keys.append(jax.random.key_data(key))
            assert train
            return linear(params, stats, x)

        value, _ = classify(watching, augment=augment)(params, ctx)
        return value, jnp.stack(keys)

    (value, keys), (_, others) = (run(noting, {"image": X, "label": Y}, key=key) for key in (0, 1))
    np.testing.assert_allclose(value, run(PLAIN, {"image": -X, "label": Y})[0], rtol=1e-6)
    assert len(np.unique(np.concatenate([keys, others]), axis=0)) == 4
    np.testing.assert_array_equal(keys[0], jax.random.key_data(draw(jax.random.key(0), "augment")))


def test_a_missing_field_or_labels_that_do_not_fit_are_errors_while_tracing(monkeypatch):
    # Without the check of annotations, as outside the tests.
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    loss = jax.jit(lambda batch: run(classify(linear), batch)[0])
    with pytest.raises(UserError, match="unknown batch field 'label'. Did you mean 'labels'"):
        loss({"image": X, "labels": Y})
    with pytest.raises(UserError, match="labels are int.* must have shape"):
        loss({"image": X, "label": Y[:, None]})
