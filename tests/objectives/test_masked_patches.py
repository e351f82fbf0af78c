import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.core import Ctx, Trained, check_additive, gradient
from research.errors import UserError
from research.models.vit import patches
from research.objectives.masked_patches import masked_patches, measure_masked_patches, normalized, random_split

RNG = np.random.default_rng(0)
X = RNG.integers(0, 255, size=(6, 8, 8, 2)).astype(np.uint8)  # 16 patches of 2 x 2 pixels and two channels
PARAMS = {"encoder": np.float32(0.1), "decoder": RNG.normal(size=(16, 8)).astype(np.float32)}


def encode(params, stats, images, kept, *, key=None, train=False):
    return params * jnp.take_along_axis(patches(images, 2).astype(jnp.float32), kept[..., None], 1), {"encoded": 1}


def decode(params, stats, tokens, kept, *, key=None, train=False):
    """The same for every image, plus a number from the visible patches."""
    return params + tokens.mean((1, 2))[:, None, None], {"decoded": 1}


def ctx(batch, key=0):
    return Ctx(batch, {"encoded": 0, "decoded": 0}, jax.random.key(key), np.int32(0))


LOSS = masked_patches(encode, decode, patch=2)
RUN = jax.jit(LOSS)


@jax.jit
def caught(ctx):
    """The numbers of the visible patches and the model's answer, with the loss and its Out."""
    found = []

    def catching(params, stats, tokens, kept, *, key=None, train=False):
        answer = decode(params, stats, tokens, kept)
        found.append((kept, answer[0]))
        return answer

    value, out = masked_patches(encode, catching, patch=2)(PARAMS, ctx)
    return *found[0], value, out


def test_the_loss_is_on_the_hidden_patches_normalised_one_by_one():
    kept, answer, value, out = jax.device_get(caught(ctx({"image": X})))
    assert kept.shape == (6, 4)
    errors = []
    for image, seen, guess in zip(X, kept, answer, strict=True):
        for number in sorted(set(range(16)) - set(seen.tolist())):
            y, x = 2 * (number // 4), 2 * (number % 4)
            pixels = image[y : y + 2, x : x + 2].astype(np.float64).ravel()
            errors.append(np.mean((guess[number] - (pixels - pixels.mean()) / pixels.std()) ** 2))
    assert len(errors) == 72
    np.testing.assert_allclose(value, np.mean(errors), rtol=1e-4)
    assert out.metrics["loss"].weight == 6 and out.stats == {"encoded": 1, "decoded": 1}
    check_additive(out.metrics, by="accumulate")


def test_padding_counts_in_nothing():
    images = X.astype(np.float32)
    mask = np.array([1, 0, 1, 1, 0, 1])
    values = []
    for padding in (7, np.nan):
        given = np.where(mask[:, None, None, None], images, padding).astype(np.float32)
        value, out = RUN(PARAMS, ctx({"image": given, "mask": mask}))
        values.append(value)
    assert out.metrics["loss"].weight == 4 and np.isfinite(values[0])
    np.testing.assert_allclose(*values)
    assert value != RUN(PARAMS, ctx({"image": images, "mask": np.ones(6, int)}))[0]


def test_only_hidden_patches_teach_the_decoder():
    batch = {"image": X[:1]}
    kept, *_ = jax.device_get(caught(ctx(batch)))
    grads, _ = jax.jit(gradient(LOSS))(PARAMS, ctx(batch))
    taught = np.asarray(grads["decoder"]).any(-1)
    np.testing.assert_array_equal(np.flatnonzero(~taught), kept[0])
    assert grads["encoder"] != 0


def test_every_choice_of_patches_is_alike_and_new_for_every_image_and_key():
    drawn = jax.jit(lambda key: random_split(key, 4000, count=9, ratio=2 / 3))
    split, other = (jax.device_get(drawn(jax.random.key(key))) for key in (0, 1))
    assert split.kept.shape == (4000, 3) and split.hidden.shape == (4000, 6)
    both = np.sort(np.concatenate([split.kept, split.hidden], -1), -1)
    np.testing.assert_array_equal(both, np.tile(np.arange(9), (4000, 1)))
    assert (np.diff(split.kept) > 0).all() and (np.diff(split.hidden) > 0).all()
    share = np.bincount(split.kept.ravel(), minlength=9) / 4000
    np.testing.assert_allclose(share, 1 / 3, atol=0.03)
    together = np.mean((split.kept == 0).any(-1) & (split.kept == 1).any(-1))
    np.testing.assert_allclose(together, 3 / 9 * 2 / 8, atol=0.02)
    assert (other.kept != split.kept).any()


def test_the_loss_hides_others_at_each_key_and_augments_first():
    one, other = (np.asarray(caught(ctx({"image": X}, key))[0]) for key in (0, 1))
    assert (one != other).any()
    keys = []

    def negative(key, batch):
        keys.append(key)
        return {**batch, "image": 255 - batch["image"]}

    value, _ = jax.jit(masked_patches(encode, decode, patch=2, augment=negative))(PARAMS, ctx({"image": X}))
    expected, _ = RUN(PARAMS, ctx({"image": 255 - X}))
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    assert len(keys) == 1


def test_an_evaluation_hides_the_same_patches_every_time():
    caught_kept = []

    def catching(params, stats, tokens, kept, *, key=None, train=True):
        assert not train
        caught_kept.append(kept)
        return decode(params, stats, tokens, kept)

    batch = {"image": X, "mask": np.array([1, 1, 1, 0, 1, 1])}
    measure = measure_masked_patches(encode, catching, patch=2, ratio=0.5)
    measured = jax.jit(lambda batch: (measure(Trained(encode, PARAMS, {}), batch)["loss"], caught_kept.pop()))
    mean, kept = measured(batch)
    assert mean.weight == 5
    answer, wanted = jax.jit(
        lambda kept: (
            decode(PARAMS["decoder"], {}, encode(PARAMS["encoder"], {}, X, kept)[0], kept)[0],
            normalized(patches(X, 2)),
        )
    )(kept)
    hidden = np.stack([sorted(set(range(16)) - set(row)) for row in np.asarray(kept).tolist()])
    errors = np.take_along_axis(np.square(np.asarray(answer - wanted)).mean(-1), hidden, 1).mean(1)
    np.testing.assert_allclose(mean.value(), errors[batch["mask"] > 0].mean(), rtol=1e-4)
    assert kept.shape == (6, 8) and len({tuple(row) for row in np.asarray(kept).tolist()}) == 6


def test_normalised_patches():
    pixels = RNG.normal(size=(3, 12)).astype(np.float32) * 40 + 100
    found, even = jax.jit(lambda x: (normalized(x), normalized(jnp.full((1, 4), 200, jnp.uint8))))(pixels)
    np.testing.assert_allclose(found, (pixels - pixels.mean(-1, keepdims=True)) / pixels.std(-1, keepdims=True), 1e-4)
    np.testing.assert_array_equal(even, np.zeros((1, 4)))


def test_what_does_not_fit_is_an_error():
    with pytest.raises(UserError, match="patches of 3 pixels do not tile"):
        masked_patches(encode, decode, patch=3)(PARAMS, ctx({"image": X}))
    for ratio in (0.01, 0.99):
        with pytest.raises(UserError, match="expected 1 to 15"):
            masked_patches(encode, decode, patch=2, ratio=ratio)(PARAMS, ctx({"image": X}))
    with pytest.raises(UserError, match="unknown batch field 'image'"):
        masked_patches(encode, decode, patch=2)(PARAMS, ctx({"picture": X}))
