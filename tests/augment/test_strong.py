"""Strong augmentation against scipy and numpy."""

import jax
import numpy as np
import pytest
from scipy import ndimage

from research.augment.strong import affine, colour, cutout, resample, strong

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, size=(40, 7, 6, 2), dtype=np.uint8)
KEY = jax.random.key(0)


def test_resampling_is_scipys():
    images = IMAGES[:8].astype(np.float32)
    matrices = (np.eye(2) + 0.4 * RNG.normal(size=(8, 2, 2))).astype(np.float32)
    shifts = RNG.normal(size=(8, 2)).astype(np.float32)
    found = np.asarray(jax.jit(lambda *given: resample(*given, fill=7))(images, matrices, shifts))
    middle = np.array([3.0, 2.5])
    for image, matrix, shift, one in zip(images, matrices, shifts, found, strict=True):
        for c in range(2):
            offset = middle + shift - matrix @ middle
            expected = ndimage.affine_transform(image[..., c], matrix, offset, order=1, mode="constant", cval=7)
            # scipy cuts off sharply half-way to the border; ours fades. Compare what comes from inside.
            rows, columns = np.indices(expected.shape)
            at = np.einsum("ij,jhw->ihw", matrix, np.stack([rows, columns])) + offset[:, None, None]
            inside = (at[0] >= 0) & (at[0] <= 6) & (at[1] >= 0) & (at[1] <= 5)
            assert inside.any()
            np.testing.assert_allclose(one[..., c][inside], expected[inside], atol=0.05)
            outside = (at[0] <= -1) | (at[0] >= 7) | (at[1] <= -1) | (at[1] >= 6)
            np.testing.assert_allclose(one[..., c][outside], 7, atol=1e-4)


def test_affine_without_strength_is_nothing_and_each_strength_does_its_own():
    np.testing.assert_array_equal(jax.jit(affine)(KEY, IMAGES), IMAGES)
    blob = np.zeros((400, 15, 15, 1), np.float32)
    blob[:, 4, 7] = 100  # three rows above the middle
    rows, columns = np.meshgrid(np.arange(15.0) - 7, np.arange(15.0) - 7, indexing="ij")

    def centre(**strength):
        moved = np.asarray(jax.jit(lambda key: affine(key, blob, **strength))(KEY))[..., 0]
        total = moved.sum((1, 2))
        return np.stack([(moved * rows).sum((1, 2)) / total, (moved * columns).sum((1, 2)) / total])

    down, right = centre(degrees=30)
    turned = np.rad2deg(np.arctan2(right, -down))
    assert 27 < turned.max() < 31 and -31 < turned.min() < -27 and abs(turned.mean()) < 3
    assert 14 < np.abs(turned).mean() < 16  # uniform
    down, right = centre(shift=0.1)  # of 15 pixels
    for off in (down + 3, right):
        assert 1.3 < off.max() < 1.55 and -1.55 < off.min() < -1.3
    assert abs(np.corrcoef(down, right)[0, 1]) < 0.2
    nearer = -centre(zoom=0.5)[0] / 3  # an enlarged blob is farther from the middle
    assert 1.4 < nearer.max() < 1.55 and 0.65 < nearer.min() < 0.72
    down, right = centre(shear=0.5)
    np.testing.assert_allclose(down, -3, atol=0.1)  # rows move along columns, or columns, which are in the middle
    assert 1.4 < right.max() < 1.55 and 150 < (np.abs(right) < 0.01).sum() < 250


def test_colour_keeps_the_mean_under_contrast_and_moves_it_under_brightness():
    images = (100 + IMAGES % 50).astype(np.float32)
    found = np.asarray(colour(KEY, images, contrast=0.5))
    mean = images.mean((1, 2, 3), keepdims=True)
    np.testing.assert_allclose(found.mean((1, 2, 3)), mean[:, 0, 0, 0], rtol=1e-4)
    factors = ((found - mean) * (images - mean)).sum((1, 2, 3)) / ((images - mean) ** 2).sum((1, 2, 3))
    assert 0.5 <= factors.min() < 0.65 and 1.35 < factors.max() <= 1.5
    moved = np.asarray(colour(KEY, images, brightness=0.2)) - images
    np.testing.assert_allclose(moved, np.broadcast_to(moved[:, :1, :1, :1], moved.shape), atol=1e-3)
    assert -51 <= moved.min() < -40 and 40 < moved.max() <= 51
    clipped = np.asarray(colour(KEY, IMAGES, brightness=0.9, contrast=0.5))
    assert clipped.dtype == np.uint8 and (clipped == 255).any() and (clipped == 0).any()
    exact = colour(KEY, IMAGES.astype(np.float32), brightness=0.9, contrast=0.5)
    np.testing.assert_array_equal(clipped, np.round(exact))


def test_cutout_sets_one_square_that_may_reach_over_the_border():
    images = np.full((300, 7, 6, 1), 9, np.uint8)
    found = np.asarray(jax.jit(lambda key: cutout(key, images, size=4, fill=1))(KEY))[..., 0]
    sizes, corners = set(), set()
    for image in found:
        rows, columns = np.nonzero(image == 1)
        block = image[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        assert (block == 1).all() and (image == 9).sum() + block.size == 42
        sizes.add(block.shape)
        corners.add((rows.min(), columns.min(), block.shape))
    assert sizes == {(h, w) for h in (2, 3, 4) for w in (2, 3, 4)} and len(corners) == 42


@pytest.mark.parametrize("images", [IMAGES, IMAGES.astype(np.float32)], ids=["u8", "f32"])
def test_strong_changes_images_anew_for_each_key_and_without_strength_only_flips(images):
    augment = jax.jit(lambda key: strong(hole=3)(key, {"image": images, "label": np.arange(40)}))
    first, second = (jax.device_get(augment(jax.random.key(seed))) for seed in (0, 1))
    assert first["image"].dtype == images.dtype and first["image"].shape == images.shape
    assert (first["label"] == np.arange(40)).all()
    for other in (images, second["image"]):
        assert (first["image"] != other).any((1, 2, 3)).all()
    none = dict(degrees=0, shear=0, zoom=0, shift=0, brightness=0, contrast=0, hole=0)
    plain = np.asarray(jax.jit(strong(**none))(KEY, {"image": images})["image"])
    # To rounding: how XLA fuses the arithmetic depends on the frames that called it, which the checks add to.
    kept, flipped = (np.isclose(plain, x, rtol=0, atol=1e-4).all((1, 2, 3)) for x in (images, images[:, :, ::-1]))
    assert (kept ^ flipped).all() and 8 <= kept.sum() <= 32
