import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.augment.view import jitter, random_view, resized_crop, two_views
from research.errors import UserError

RNG = np.random.default_rng(0)
X = RNG.integers(0, 255, size=(64, 12, 10, 2)).astype(np.uint8)
crop = jax.jit(resized_crop, static_argnames=("area", "ratio"))


def test_a_crop_of_the_whole_is_the_image():
    found = crop(jax.random.key(0), X, area=(1, 1), ratio=(1, 1))
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, X, atol=1e-3)


def test_a_crop_is_what_jax_image_makes_of_the_same_part():
    """The part is read off two images of which every pixel holds its own coordinates."""
    y, x = np.mgrid[:12, :10].astype(np.float32)
    where = np.broadcast_to(np.stack([y, x], -1), (16, 12, 10, 2))
    key = jax.random.key(3)
    found, crops = (np.asarray(crop(key, images, area=(0.3, 0.3))) for images in (where, X[:16]))
    parts = set()
    sizes = np.array([12, 10])
    resized = jax.jit(
        lambda image, scale, shift: jax.image.scale_and_translate(
            image, (12, 10, 2), (0, 1), scale, shift, "linear", antialias=False
        )
    )
    for number in range(16):
        # In the middle, away from the clipped ends, coordinates advance evenly.
        axes = found[number, :, 0, 0], found[number, 0, :, 1]
        steps = np.array([axis[len(axis) // 2] - axis[len(axis) // 2 - 1] for axis in axes])
        middle = np.array([axis[len(axis) // 2] for axis in axes])
        starts = middle + 0.5 - (sizes // 2 + 0.5) * steps
        np.testing.assert_allclose(np.prod(steps), 0.3, rtol=1e-3)
        assert 3 / 4 - 1e-3 <= steps[1] / steps[0] <= 4 / 3 + 1e-3
        assert (starts > -1e-3).all() and (starts + steps * sizes < sizes + 1e-3).all()
        parts.add(tuple(np.round(starts, 2)))
        scale = (1 / steps).astype(np.float32)
        expected = resized(X[number].astype(np.float32), scale, (-starts * scale).astype(np.float32))
        np.testing.assert_allclose(crops[number], expected, atol=0.05)
    assert len(parts) == 16


def test_shares_of_the_area_are_uniform_and_cut_where_they_leave_the_image():
    y, x = np.mgrid[:20, :20].astype(np.float32)
    where = np.broadcast_to(np.stack([y, x], -1), (2000, 20, 20, 2))
    found = np.asarray(crop(jax.random.key(0), where, area=(0.2, 0.7)))
    share = (found[:, 11, 0, 0] - found[:, 10, 0, 0]) * (found[:, 0, 11, 1] - found[:, 0, 10, 1])
    np.testing.assert_allclose(np.quantile(share, [0.02, 0.5, 0.98]), [0.21, 0.45, 0.69], atol=0.02)
    whole = np.asarray(crop(jax.random.key(0), where, area=(1, 1)))
    steps = np.stack([whole[:, 11, 0, 0] - whole[:, 10, 0, 0], whole[:, 0, 11, 1] - whole[:, 0, 10, 1]])
    np.testing.assert_allclose(steps.max(0), 1, rtol=1e-3)


def test_brightness_then_contrast():
    images = X.astype(np.float32)
    np.testing.assert_allclose(jitter(jax.random.key(0), X, brightness=0, contrast=0), images, rtol=1e-5, atol=1e-3)
    bright = np.asarray(jitter(jax.random.key(0), X, brightness=0.4, contrast=0))
    factor = bright.mean((1, 2, 3)) / images.mean((1, 2, 3))
    np.testing.assert_allclose(bright, images * factor[:, None, None, None], rtol=1e-3, atol=1e-2)
    assert 0.6 <= factor.min() < 0.65 and 1.35 < factor.max() <= 1.4
    sharp = np.asarray(jitter(jax.random.key(0), X, brightness=0, contrast=0.4))
    mean = images.mean((1, 2, 3), keepdims=True)
    np.testing.assert_allclose(sharp.mean((1, 2, 3), keepdims=True), mean, rtol=1e-4)
    ratio = sharp.std((1, 2, 3)) / images.std((1, 2, 3))
    np.testing.assert_allclose(sharp - mean, (images - mean) * ratio[:, None, None, None], rtol=1e-3, atol=1e-2)
    assert 0.6 <= ratio.min() < 0.65 and 1.35 < ratio.max() <= 1.4
    # One number does not tell the other.
    assert abs(np.corrcoef(factor, ratio)[0, 1]) < 0.4


def test_two_views_differ_change_with_the_key_and_flip_half_of_the_images():
    batch = {"image": X, "label": np.arange(64)}
    both = jax.jit(lambda key: two_views(key, batch, view=random_view()))
    seen = [np.asarray(view) for key in (0, 1) for view in both(jax.random.key(key))]
    assert all((a != b).any((1, 2, 3)).all() for i, a in enumerate(seen) for b in seen[:i])
    plain = random_view(area=(1, 1), ratio=(1, 1), brightness=0, contrast=0)
    made = jax.device_get(jax.jit(plain)(jax.random.key(0), batch))
    flipped = [np.allclose(a, b[:, ::-1], atol=0.1) for a, b in zip(made["image"], X, strict=True)]
    kept = [np.allclose(a, b, atol=0.1) for a, b in zip(made["image"], X, strict=True)]
    assert 20 < sum(flipped) < 44 and all(a != b for a, b in zip(flipped, kept, strict=True))
    np.testing.assert_array_equal(made["label"], batch["label"])
    with pytest.raises(UserError, match="unknown batch field 'picture'"):
        random_view(inputs="picture")(jax.random.key(0), batch)
