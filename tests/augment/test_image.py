import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.augment.image import crop, crop_and_flip, flip, normalize
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
    with pytest.raises(UserError, match="mode 'wrap'"):
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
