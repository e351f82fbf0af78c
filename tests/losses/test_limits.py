"""Losses in the limits in which they equal another, at their edges, and with arguments out of range."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research import losses
from research.errors import UserError

RNG = np.random.default_rng(0)
X = (RNG.normal(size=(8, 5)) * 3).astype(np.float32)
Y = RNG.integers(5, size=8)
P = np.take_along_axis(np.exp(X) / np.exp(X).sum(-1, keepdims=True), Y[:, None], -1)[:, 0]
MASKS = RNG.integers(2, size=(2, 4, 4))
CERTAIN = np.where(np.arange(2) == RNG.integers(2, size=(2, 4, 4))[..., None], 200, 0).astype(np.float32)


@pytest.mark.parametrize(
    "loss",
    [
        losses.generalized(0),
        losses.generalized(1e-4),
        losses.symmetric(1, 0),
        losses.bootstrapped(1),
        losses.bootstrapped(1, hard=True),
        losses.forward_corrected(np.eye(5)),
        losses.combined(a=(0.25, losses.cross_entropy), b=(0.75, losses.focal(0))),
    ],
)
def test_without_its_parameter_a_loss_is_the_cross_entropy(loss):
    np.testing.assert_allclose(loss(X, Y), losses.cross_entropy(X, Y), rtol=2e-3)


def test_losses_for_wrong_labels_are_their_closed_forms():
    np.testing.assert_allclose(losses.generalized(1.0)(X, Y), 1 - P, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(losses.generalized(0.7)(X, Y), (1 - P**0.7) / 0.7, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(losses.symmetric(0.5, 2)(X, Y), -0.5 * np.log(P) + 8 * (1 - P), rtol=1e-5)
    np.testing.assert_allclose(
        losses.bootstrapped(0.8, hard=True)(X, Y),
        -0.8 * np.log(P) + 0.2 * losses.cross_entropy(X, X.argmax(-1)),
        rtol=1e-5,
    )
    soft = losses.bootstrapped(0.8)(X, Y) + 0.8 * np.log(P)
    np.testing.assert_allclose(soft, 0.2 * losses.entropy(X), rtol=1e-4, atol=1e-5)


def test_the_corrected_loss_is_least_for_the_true_probabilities():
    """Patrini's theorem: the minimum under noisy labels is that under clean ones."""
    transition = np.array([[0.7, 0.3, 0], [0.1, 0.8, 0.1], [0, 0, 1]], np.float32)
    true = np.array([0.2, 0.5, 0.3])
    observed = true @ transition

    def risk(logits, loss):
        return jnp.sum(observed * loss(jnp.tile(logits, (3, 1)), jnp.arange(3)))

    def slope(logits, loss):
        return jax.grad(lambda x: risk(x, loss))(jnp.asarray(np.log(logits), jnp.float32))

    np.testing.assert_allclose(slope(true, losses.forward_corrected(transition)), 0, atol=1e-6)
    assert abs(slope(true, losses.cross_entropy)).max() > 0.04


def test_regions_of_certain_predictions_have_the_iou_and_dice_of_their_sets():
    predicted = CERTAIN.argmax(-1)
    iou, dice = [], []
    for a, b in zip(predicted, MASKS, strict=True):
        both = [((a == c) & (b == c)).sum() for c in (0, 1)]
        sizes = [((a == c).sum(), (b == c).sum()) for c in (0, 1)]
        iou.append(np.mean([n / (p + t - n) for n, (p, t) in zip(both, sizes, strict=True)]))
        dice.append(np.mean([2 * n / (p + t) for n, (p, t) in zip(both, sizes, strict=True)]))
    np.testing.assert_allclose(losses.lovasz(CERTAIN, MASKS), 1 - np.array(iou), rtol=1e-5)
    np.testing.assert_allclose(losses.tversky(1, 1, smoothing=0)(CERTAIN, MASKS), 1 - np.array(iou), rtol=1e-5)
    np.testing.assert_allclose(losses.dice(smoothing=0)(CERTAIN, MASKS), 1 - np.array(dice), rtol=1e-5)


def test_a_pixel_out_of_range_makes_its_example_nan_and_no_other():
    labels = MASKS.copy()
    labels[1, 2, 2] = 255
    for loss in (losses.dice(), losses.lovasz):
        np.testing.assert_array_equal(np.isnan(loss(CERTAIN, labels)), [False, True])


def test_binary_losses_at_their_edges():
    x = jnp.asarray([200.0, -200.0, np.inf, -np.inf, 0.0])
    np.testing.assert_array_equal(losses.binary_cross_entropy(x[:4], jnp.array([1.0, 0, 1, 0])), 0)
    np.testing.assert_array_equal(losses.binary_cross_entropy(x, jnp.array([2, -1, np.nan, 3, -0.1])), np.nan)
    np.testing.assert_array_equal(losses.hinge(x[:2], jnp.array([0.5, 2])), np.nan)
    np.testing.assert_allclose(losses.binary_focal(0.0)(X, 0 * X + 0.3), losses.binary_cross_entropy(X, 0 * X + 0.3))
    np.testing.assert_array_equal(losses.multiclass_hinge(X, Y + 5), np.nan)


def test_pairs_and_triplets_of_equal_embeddings_have_finite_gradients():
    same = jnp.ones((4, 3))
    slopes = jax.grad(lambda x: losses.triplet(1.0)(x, x + 0, x + 1).sum())(same)
    assert np.isfinite(slopes).all()
    anchors = losses.mined_triplet(same, jnp.array([0, 0, 1, 1]), margin=0.5)
    np.testing.assert_allclose(anchors.loss, 0.5)
    pairs = losses.contrastive(2.0)(
        jnp.zeros((3, 2)), jnp.array([[0.6, 0.8], [0.6, 0.8], [3, 4]]), jnp.array([True, False, False])
    )
    np.testing.assert_allclose(pairs, [0.5, 0.5, 0], atol=1e-6)


@pytest.mark.parametrize("mining", ["hard", "semi_hard", "all"])
def test_padding_is_in_no_triplet(mining):
    x, labels = RNG.normal(size=(6, 3)).astype(np.float32), np.array([0, 0, 1, 1, 2, 2])
    weights = np.array([1, 1, 1, 1, 0, 0.0])
    padded = losses.mined_triplet(x, labels, margin=1.0, mining=mining, weights=weights)
    alone = losses.mined_triplet(x[:4], labels[:4], margin=1.0, mining=mining)
    np.testing.assert_allclose(padded.loss, [*alone.loss, 0, 0], rtol=1e-6)
    np.testing.assert_array_equal(padded.weights, [*alone.weights, 0, 0])
    assert not losses.mined_triplet(x, np.arange(6), mining=mining).weights.any()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: losses.generalized(1.2), r"generalized\(q=1.2\); expected 0 to 1"),
        (lambda: losses.symmetric(-1), r"alpha=-1\); expected a finite number of at least 0"),
        (lambda: losses.symmetric(log_zero=0.0), "expected a negative number"),
        (lambda: losses.bootstrapped(2), r"beta=2\); expected 0 to 1"),
        (lambda: losses.forward_corrected(np.ones((2, 3))), r"\[2, 3\]; expected \[classes, classes\]"),
        (lambda: losses.forward_corrected(np.full((2, 2), 0.6)), "row 0 of the transition matrix is"),
        (lambda: losses.forward_corrected(np.eye(3))(X, Y), "of 3 classes for logits of 5"),
        (lambda: losses.binary_focal(1.0, alpha=2.0), r"alpha=2.0\); expected 0 to 1"),
        (lambda: losses.smooth_l1(0.0), "or absolute_error for the limit 0"),
        (lambda: losses.quantile(1.0), "between 0 and 1"),
        (lambda: losses.tweedie(2.5), r"power=2.5\); expected 1 to 2"),
        (lambda: losses.dice(smoothing=-1.0), r"smoothing=-1.0\); expected"),
        (lambda: losses.tversky(-1.0, 1.0), r"alpha=-1.0\)"),
        (lambda: losses.mined_triplet(X, Y, mining="hardest"), "'hardest'.*hard"),
        (lambda: losses.info_nce(X, X, temperature=0.0), "a number above 0"),
        (lambda: losses.binary_cross_entropy(X, Y[:, None]), r"\[8, 1\] must have the shape of the logits, \[8, 5\]"),
        (lambda: losses.multiclass_hinge(X[:, :1], Y * 0), "have one class"),
        (lambda: losses.class_balanced(np.array([3, 0])), "class 1 has 0 examples"),
        (lambda: losses.combined(), "has no terms"),
        (lambda: losses.combined(a=losses.cross_entropy), r"expected \(weight, loss\)"),
        (lambda: losses.combined(a=(1.0, lambda x, y: x.sum()))(X, Y), r"'a' has the shape \[\]"),
        (lambda: losses.ctc(jnp.zeros((1, 4, 3)), jnp.ones((1, 2), int), logit_lengths=jnp.array([4]),
                            label_lengths=jnp.array([2]), blank=3), "blank=3 in a vocabulary of 3"),
    ],
)  # fmt: skip
def test_arguments_out_of_range_are_named(make, message, monkeypatch):
    import jaxtyping

    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as outside the tests
    with pytest.raises(UserError, match=message):
        make()
