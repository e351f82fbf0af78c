import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.augment.image import crop, crop_and_flip, flip, mixup, normalize
from research.core import draw
from research.errors import UserError

IMAGES = np.random.default_rng(0).integers(0, 256, size=(64, 6, 5, 3), dtype=np.uint8)


def test_flip_mirrors_about_half_of_the_examples():
    flipped = np.asarray(jax.jit(flip)(jax.random.key(0), IMAGES))
    mirrored = (flipped == IMAGES[:, :, ::-1]).all((1, 2, 3))
    kept = (flipped == IMAGES).all((1, 2, 3))
    assert (mirrored ^ kept).all() and 18 <= mirrored.sum() <= 46  # 3.5 standard deviations
    assert (np.asarray(flip(jax.random.key(1), IMAGES)) != flipped).any()


@pytest.mark.parametrize(("mode", "fill"), [("constant", 0), ("constant", (9, 250, 3)), ("reflect", 0)])
def test_crop_cuts_every_example_out_of_its_padded_image(mode, fill):
    cropped = np.asarray(jax.jit(lambda k, x: crop(k, x, padding=2, mode=mode, fill=fill))(jax.random.key(0), IMAGES))
    assert cropped.dtype == np.uint8 and cropped.shape == IMAGES.shape
    corners = set()
    for image, found in zip(IMAGES, cropped, strict=True):
        if mode == "reflect":
            padded = np.pad(image, ((2, 2), (2, 2), (0, 0)), mode="reflect")
        else:
            padded = np.broadcast_to(np.asarray(fill, np.uint8), (10, 9, 3)).copy()
            padded[2:8, 2:7] = image
        at = [(y, x) for y in range(5) for x in range(5) if (padded[y : y + 6, x : x + 5] == found).all()]
        assert len(at) == 1
        corners.add(at[0])
    assert len(corners) >= 18  # of 25 corners, 64 draws leave about two out
    assert {y for y, _ in corners} == {x for _, x in corners} == set(range(5))


def test_crop_knows_two_ways_to_pad():
    with pytest.raises(UserError, match="not by 'wrap'"):
        crop(jax.random.key(0), IMAGES, padding=1, mode="wrap")


def test_normalize():
    mean, std = np.array([0.1, 0.5, 0.9]), np.array([0.2, 0.3, 0.4])
    expected = (IMAGES / 255 - mean) / std
    np.testing.assert_allclose(normalize(IMAGES, mean=mean, std=std), expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(normalize(IMAGES.astype(np.float32), mean=mean, std=std), expected, rtol=1e-5, atol=1e-6)
    assert normalize(IMAGES, mean=0.5, std=0.5, dtype=jnp.bfloat16).dtype == jnp.bfloat16


def test_crop_and_flip_leaves_the_other_fields_and_uses_two_keys():
    batch = {"picture": IMAGES, "label": np.arange(64)}
    found = crop_and_flip(padding=1, inputs="picture", mode="reflect")(jax.random.key(0), batch)
    assert found["label"] is batch["label"] and set(found) == set(batch)
    cropped = crop(draw(jax.random.key(0), "crop"), IMAGES, padding=1, mode="reflect")
    np.testing.assert_array_equal(found["picture"], flip(draw(jax.random.key(0), "flip"), cropped))


def test_mixup_mixes_images_and_labels_alike():
    labels = np.arange(64) % 7
    augment = jax.jit(mixup(alpha=0.2, num_classes=7))
    shares = []
    for seed in range(30):
        found = augment(jax.random.key(seed), {"image": IMAGES, "label": labels})
        other = np.eye(7)[np.roll(labels, 1)]
        share = float(found["label"][1, 1])  # example 1 has label 1, and is mixed with example 0 of label 0
        np.testing.assert_allclose(found["label"], share * np.eye(7)[labels] + (1 - share) * other, atol=1e-6)
        mixed = share * IMAGES.astype(np.float32) + (1 - share) * np.roll(IMAGES, 1, 0).astype(np.float32)
        np.testing.assert_allclose(found["image"], mixed, atol=1e-3)
        shares.append(share)
    assert min(shares) >= 0.5 and max(shares) > 0.99 and np.std(shares) > 0.05


def test_mixup_does_not_hide_a_label_out_of_range():
    found = mixup(alpha=0.2, num_classes=3)(jax.random.key(0), {"image": IMAGES[:3], "label": np.array([0, 3, -1])})
    np.testing.assert_array_equal(np.isnan(found["label"]).any(-1), [True, True, True])
    found = mixup(alpha=0.2, num_classes=3)(jax.random.key(0), {"image": IMAGES[:3], "label": np.array([0, 3, 1])})
    np.testing.assert_array_equal(np.isnan(found["label"]).any(-1), [False, True, True])
