import numpy as np
import pytest
from PIL import Image

from research.augment.host import center_crop, flip, inception_crop
from research.augment.rand_augment import OPERATIONS, rand_augment
from research.errors import UserError

# A picture whose pixels say where they come from: red is the column, green the row.
Y, X = np.mgrid[:80, :120]
WHERE = np.stack([2 * X, 3 * Y, np.full_like(X, 7)], -1).astype(np.uint8)
NOISE = np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)


def box(cropped):
    """The part of WHERE that a crop shows, (left, right, top, bottom), from its outermost pixels."""
    columns, rows = cropped[..., 0].mean(0) / 2, cropped[..., 1].mean(1) / 3
    edge = lambda v: (v[0] - (v[1] - v[0]) / 2, v[-1] + (v[-1] - v[-2]) / 2)
    return (*edge(columns), *edge(rows))


def test_inception_crops_have_the_area_and_ratio_that_were_asked_for():
    shares, ratios, places = [], [], []
    for seed in range(300):
        out = inception_crop(np.random.default_rng(seed), WHERE, size=20, area=(0.3, 0.5), ratio=(0.75, 1.5))
        assert out.shape == (20, 20, 3) and out.dtype == np.uint8
        left, right, top, bottom = box(out)
        shares.append((right - left) * (bottom - top) / (80 * 120))
        ratios.append((right - left) / (bottom - top))
        places.append(((left + right) / 2, (top + bottom) / 2))
    assert 0.24 < min(shares) < 0.33 and 0.47 < max(shares) < 0.56
    assert 0.68 < min(ratios) < 0.8 and 1.35 < max(ratios) < 1.6
    assert abs(np.mean(shares) - 0.4) < 0.02
    np.testing.assert_allclose(np.mean(places, 0), (60, 40), atol=4)  # all over the image, not in a corner


def test_the_same_generator_gives_the_same_crop_and_another_another():
    one, same, other = (inception_crop(np.random.default_rng(s), NOISE, size=8) for s in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()


def test_where_no_crop_fits_the_middle_is_taken():
    thin = np.zeros((1, 100, 3), np.uint8)
    thin[0, 49:51] = 200
    out = inception_crop(np.random.default_rng(0), thin, size=4, area=(1, 1))
    assert out.shape == (4, 4, 3) and (out == 200).all()


@pytest.mark.parametrize("shape", [(80, 120), (120, 80), (30, 30), (33, 100)])
def test_the_center_crop_resizes_the_shorter_side_first(shape):
    image = np.asarray(Image.fromarray(NOISE).resize(shape[::-1]))
    out = center_crop(image, size=28, resize=32)
    scale = 32 / min(shape)
    resized = np.asarray(
        Image.fromarray(image).resize((round(shape[1] * scale), round(shape[0] * scale)), Image.Resampling.BILINEAR)
    )
    top, left = (resized.shape[0] - 28) // 2, (resized.shape[1] - 28) // 2
    np.testing.assert_array_equal(out, resized[top : top + 28, left : left + 28])


def test_flip_mirrors_half_of_the_time():
    mirrored = [(flip(np.random.default_rng(s), WHERE) == WHERE[:, ::-1]).all() for s in range(60)]
    assert 17 <= sum(mirrored) <= 43


def test_rand_augment_uses_its_generator_and_every_operation():
    image = NOISE.copy()
    outs = [rand_augment(np.random.default_rng(seed), image, layers=2, magnitude=3) for seed in range(40)]
    np.testing.assert_array_equal(image, NOISE)
    assert {out.shape for out in outs} == {NOISE.shape} and {out.dtype for out in outs} == {np.dtype(np.uint8)}
    np.testing.assert_array_equal(outs[3], rand_augment(np.random.default_rng(3), NOISE, layers=2, magnitude=3))
    assert len({out.tobytes() for out in outs}) > 30
    np.testing.assert_array_equal(rand_augment(np.random.default_rng(0), NOISE, layers=0), NOISE)


def test_every_operation_does_what_its_name_says_at_magnitude_ten():
    class Up:  # a generator whose signs are all positive and whose places are the middle
        random = staticmethod(lambda: 0.0)
        integers = staticmethod(lambda n: n // 2)

    results = [np.asarray(f(Image.fromarray(NOISE), 1.0, Up)) for f in OPERATIONS]
    (autocontrast, equalize, invert, rotate, posterize, solarize, color, contrast, brightness, sharpness,
     shear_x, shear_y, translate_x, translate_y, cutout, solarize_add) = results  # fmt: skip
    np.testing.assert_array_equal(invert, 255 - NOISE)
    np.testing.assert_array_equal(posterize, NOISE // 16 * 16)
    np.testing.assert_array_equal(solarize, NOISE)
    np.testing.assert_array_equal(solarize_add, np.where(NOISE < 128, np.minimum(NOISE + 110.0, 255), NOISE))
    np.testing.assert_allclose(brightness, np.minimum(NOISE * 1.9, 255), atol=1)
    np.testing.assert_array_equal(translate_x, np.full_like(NOISE, 128))  # 100 pixels, of 90
    np.testing.assert_array_equal(shear_x[0], NOISE[0])
    assert (shear_x[40, -1] == 128).all() and (shear_x[40, 0] == NOISE[40, 12]).all()  # 0.3 x 40.5, to the left
    assert (shear_y[-1, 40] == 128).all() and (shear_y[0, 40] == NOISE[12, 40]).all()
    np.testing.assert_array_equal(cutout[:70, 5:85], np.full((60, 80, 3), 128))
    np.testing.assert_array_equal(cutout[:, :5], NOISE[:, :5])
    assert (rotate[0, 0] == 128).all() and (rotate[30, 45] == NOISE[30, 45]).all()
    for changed in (color, contrast, sharpness, equalize):
        assert changed.std() > 0 and (changed != NOISE).mean() > 0.5
    narrow = Image.fromarray(NOISE // 4 + 64)
    assert (
        np.asarray(OPERATIONS[0](narrow, 1.0, Up)).min() == 0
        and np.asarray(OPERATIONS[0](narrow, 1.0, Up)).max() == 255
    )
    assert (autocontrast == NOISE).mean() > 0.9 and (translate_y == 128).all()


@pytest.mark.parametrize("operation", OPERATIONS)
def test_operations_of_the_largest_magnitudes_are_images(operation):
    for level in (0, 2.5, 3, 10):
        found = operation(Image.fromarray(NOISE), level, np.random.default_rng(0))
        assert np.asarray(found).shape == NOISE.shape


def test_posterize_keeps_at_most_all_bits():
    posterize = OPERATIONS[4]
    picture = Image.fromarray(NOISE)
    np.testing.assert_array_equal(posterize(picture, 3.0, None), NOISE)
    np.testing.assert_array_equal(posterize(picture, 0.5, None), NOISE & 0b11000000)
    with pytest.raises(UserError, match="magnitude=-1"):
        rand_augment(np.random.default_rng(0), NOISE, magnitude=-1)
