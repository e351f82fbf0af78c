import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research import losses
from research.core import Ctx, draw
from research.errors import UserError
from research.objectives.classify import classify
from research.objectives.mix import cutmix, mix_examples, mixup, previous_example

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, size=(8, 6, 5, 3), dtype=np.uint8)
LABELS = np.arange(8) % 3
W = RNG.normal(size=(90, 3)).astype(np.float32) / 300
BATCH = {"image": IMAGES, "label": LABELS, "id": np.arange(8)}
MIXES = [mixup, cutmix]


def linear(params, stats, x, *, key=None, train=False):
    return x.reshape(len(x), -1).astype(jnp.float32) @ params, {"seen": stats["seen"] + train}


@functools.cache
def seen(mix, **arguments):
    """What the loss inside sees: a compiled function of a key."""

    def spy(params, ctx):
        return 0.0, ctx

    return jax.jit(lambda key, batch: mix(spy, num_classes=3, **arguments)(W, context(batch, key))[1].batch)


def context(batch, key=None):
    return Ctx(batch, {"seen": jnp.int32(4)}, jax.random.key(0) if key is None else key, jnp.int32(0))


def test_mixup_mixes_images_and_labels_alike():
    look, shares = seen(mixup, alpha=0.2), []
    for seed in range(30):
        found = jax.device_get(look(jax.random.key(seed), BATCH))
        share = found["label"][1, 1]  # example 1 has label 1, and is mixed with example 0 of label 0
        expected = share * np.eye(3)[LABELS] + (1 - share) * np.eye(3)[np.roll(LABELS, 1)]
        np.testing.assert_allclose(found["label"], expected, atol=1e-6)
        expected = share * IMAGES.astype(np.float32) + (1 - share) * np.roll(IMAGES, 1, 0).astype(np.float32)
        np.testing.assert_allclose(found["image"], expected, atol=1e-3)
        shares.append(share)
    np.testing.assert_array_equal(found["id"], BATCH["id"])
    assert min(shares) >= 0.5 and max(shares) > 0.99 and np.std(shares) > 0.05


def test_cutmix_fills_a_box_and_counts_its_pixels():
    look, shares, corners = seen(cutmix, alpha=1.0), [], []
    images = IMAGES[:, :5]
    for seed in range(40):
        found = look(jax.random.key(seed), {**BATCH, "image": images})
        assert found["image"].dtype == np.uint8
        other = (np.asarray(found["image"]) != images).any((0, 3))
        np.testing.assert_array_equal(found["image"], np.where(other[..., None], np.roll(images, 1, 0), images))
        rows, columns = np.flatnonzero(other.any(1)), np.flatnonzero(other.any(0))
        if len(rows):
            assert other[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()
            corners.append((rows[0], columns[0]))
        share = 1 - other.mean()
        expected = share * np.eye(3)[LABELS] + (1 - share) * np.eye(3)[np.roll(LABELS, 1)]
        np.testing.assert_allclose(found["label"], expected, atol=1e-6)
        shares.append(share)
    assert min(shares) < 0.4 and max(shares) > 0.9 and len(set(corners)) > 8
    assert any(row < column for row, column in corners) and any(row > column for row, column in corners)


def test_the_box_of_cutmix_has_the_area_that_was_drawn():
    # Beta(1e6, 1e6) is 1/2, so uncut the sides are floor(sqrt(1/2) 6) = 4 and floor(sqrt(1/2) 5) = 3.
    look, sides = seen(cutmix, alpha=1e6), []
    for seed in range(20):
        other = (np.asarray(look(jax.random.key(seed), BATCH)["image"]) != IMAGES).any((0, 3))
        sides.append((other.any(1).sum(), other.any(0).sum()))
    assert tuple(np.max(sides, 0)) == (4, 3) and tuple(np.min(sides, 0)) != (4, 3)


def test_the_loss_of_a_mixed_label_is_the_mixed_loss():
    # Zhang et al. 2018: cross-entropy is linear in the label, so both ways of writing mixup are one.
    @jax.jit
    def both(key):
        share = jax.random.beta(draw(key, "mix", "share"), 1.0, 1.0)
        share = jnp.maximum(share, 1 - share)
        x = share * IMAGES.astype(np.float32) + (1 - share) * np.roll(IMAGES, 1, 0).astype(np.float32)
        logits = linear(W, {"seen": 0}, x)[0]
        apart = [losses.cross_entropy(logits, y).mean() for y in (LABELS, np.roll(LABELS, 1))]
        return mixup(classify(linear), alpha=1.0, num_classes=3)(W, context(BATCH, key)), apart, share

    (value, out), apart, share = jax.device_get(both(jax.random.key(0)))
    np.testing.assert_allclose(value, share * apart[0] + (1 - share) * apart[1], rtol=1e-5)
    assert value == out.metrics["loss"].value() and out.stats == {"seen": 5} and 0.5 < share < 0.99


@pytest.mark.parametrize("mix", MIXES)
def test_without_mixing_it_is_the_loss(mix):
    """Not compiled: the gradients agree to less than a rounding of their size."""
    noisy = lambda params, stats, x, key=None, train=False: (linear(params, stats, x)[0] + jax.random.normal(key), {})
    plain = jax.value_and_grad(classify(noisy), has_aux=True)(W, context(BATCH))
    found = jax.value_and_grad(mix(classify(noisy), alpha=0.0, num_classes=3), has_aux=True)(W, context(BATCH))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), plain, found)


def test_padding_is_no_neighbour():
    mask = np.array([0, 1, 1, 0, 0, 1, 1, 0])
    rows, few = np.arange(8), np.arange(3)
    given = (rows, mask), (rows, None), (few, np.array([0, 1, 0])), (few, np.zeros(3))
    real, every, single, none = jax.device_get(
        jax.jit(lambda given: [previous_example(*each) for each in given])(given)
    )
    np.testing.assert_array_equal(real[mask > 0], [6, 1, 2, 5])
    np.testing.assert_array_equal(every, [7, 0, 1, 2, 3, 4, 5, 6])
    assert single[1] == 1 and none.shape == (3,)
    # The loss of a padded batch is that of its real examples alone.
    real = np.flatnonzero(mask)
    poisoned = {**BATCH, "image": np.where(mask[:, None, None, None], IMAGES, np.nan), "mask": mask}
    alone = {name: value[real] for name, value in BATCH.items()}
    loss = mix_examples(classify(linear), lambda key, x, other: (0.7 * x + 0.3 * other, 0.7), num_classes=3)
    found, expected = jax.jit(lambda batches: [loss(W, context(batch))[0] for batch in batches])((poisoned, alone))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_labels_that_are_probabilities_and_other_fields():
    soft = RNG.dirichlet(np.ones(3), size=8).astype(np.float32)
    half = lambda key, x, other: (x, 0.5)
    once = lambda loss: mix_examples(loss, half, num_classes=3, inputs="x", labels="y")
    spy = lambda params, ctx: (0.0, ctx.batch["y"])
    found, again = jax.jit(
        lambda: [loss(W, context({"x": IMAGES, "y": soft}))[1] for loss in (once(spy), once(once(spy)))]
    )()
    np.testing.assert_allclose(found, (soft + np.roll(soft, 1, 0)) / 2, atol=1e-6)
    # Two mixes in a row: the second sees the labels of the first.
    np.testing.assert_allclose(again, (soft + 2 * np.roll(soft, 1, 0) + np.roll(soft, 2, 0)) / 4, atol=1e-6)


def test_a_label_out_of_range_is_not_hidden():
    look = seen(mixup, alpha=0.2)
    for wrong in (3, -1):  # is its example's label, and the next one's neighbour
        labels = np.where(np.arange(8) == 1, wrong, LABELS)
        found = np.asarray(look(jax.random.key(0), {**BATCH, "label": labels})["label"])
        np.testing.assert_array_equal(np.flatnonzero(np.isnan(found).any(-1)), [1, 2])


@pytest.mark.parametrize("mix", MIXES)
def test_mistakes_are_errors(mix):
    loss = mix(classify(linear), alpha=1.0, num_classes=3)
    with pytest.raises(UserError, match="needs at least two examples"):
        loss(W, context({"image": IMAGES[:1], "label": LABELS[:1]}))
    with pytest.raises(UserError, match="unknown batch field 'label'. Did you mean 'labels'"):
        loss(W, context({"image": IMAGES, "labels": LABELS}))
    if mix is cutmix:
        with pytest.raises(UserError, match=r"cutmix needs images .* 'image' is \[8, 90\]"):
            loss(W, context({"image": IMAGES.reshape(8, -1), "label": LABELS}))
