"""Distribution alignment: by hand, in its limits, and inside FixMatch."""

import jax
import numpy as np
import scipy.special

from research.core import Ctx, draw
from research.objectives.alignment import alignment
from research.objectives.fixmatch import fixmatch

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(6, 3)).astype(np.float32) * 2
P = np.exp(LOGITS) / np.exp(LOGITS).sum(-1, keepdims=True)
same = lambda key, batch: batch


def test_guesses_are_multiplied_by_what_classes_should_be_over_what_they_are():
    shares, seen = np.array([0.5, 0.3, 0.2]), np.array([0.7, 0.2, 0.1], np.float32)
    even = alignment([5, 3, 2], name="q")
    np.testing.assert_allclose(even.memory(None, None), shares, rtol=1e-6)
    guess = jax.jit(lambda average: even.use({"q": average}, LOGITS, weights=np.ones(6))[0])
    guesses = lambda average: np.asarray(guess(np.float32(average)))
    found = scipy.special.softmax(guesses(seen), -1)
    expected = P * shares / seen
    np.testing.assert_allclose(found, expected / expected.sum(-1, keepdims=True), rtol=1e-5)
    # At first nothing is known, and nothing changes.
    np.testing.assert_allclose(scipy.special.softmax(guesses(even.memory(None, None)), -1), P, rtol=1e-5)
    # A class that is never guessed keeps finite numbers.
    assert np.isfinite(guesses([1.0, 0.0, 0.0])).all()


def test_the_average_is_of_the_guesses_as_they_were_and_of_those_that_count():
    even = alignment([1, 1, 1], decay=0.9)
    weights = np.array([1, 1, 0, 0.5, 1, 0], np.float32)
    old = np.float32([0.2, 0.3, 0.5])
    after = jax.jit(lambda weights: even.use({"alignment": old}, LOGITS, weights=weights)[1]["alignment"])
    np.testing.assert_allclose(after(weights), 0.9 * old + 0.1 * (weights @ P) / weights.sum(), rtol=1e-5)
    np.testing.assert_array_equal(after(0 * weights), old)


def test_in_fixmatch_it_decides_by_the_aligned_guess_and_passes_no_gradient():
    model = lambda params, stats, x, **how: (x @ params["w"], {})
    batch = {
        "image": RNG.normal(size=(2, 3)).astype(np.float32), "label": np.array([0, 2]),
        "unlabelled": RNG.normal(size=(2, 4, 3)).astype(np.float32), "mask": np.array([1.0, 0.5], np.float32),
    }  # fmt: skip
    params, even = {"w": np.float32(RNG.normal(size=(3, 3)))}, alignment([1, 1, 1], name="q")
    seen = np.float32([0.8, 0.15, 0.05])
    ctx = Ctx(batch, {"q": seen}, draw(0, "test"), np.int32(0))
    how = dict(weak=same, strong=same, threshold=0.6)
    aligned = jax.value_and_grad(fixmatch(model, align=even, **how), has_aux=True)
    ((value, out), grads), (plain, _) = jax.device_get(
        jax.jit(lambda *given: (aligned(*given), fixmatch(model, **how)(*given)))(params, ctx)
    )
    guesses = np.asarray(batch["unlabelled"].reshape(8, 3) @ params["w"])
    p = np.exp(guesses) / np.exp(guesses).sum(-1, keepdims=True)
    q = p / np.asarray(seen)
    q /= q.sum(-1, keepdims=True)
    taken = (q.max(-1) >= 0.6).reshape(2, 4)
    term = (-np.log(p[np.arange(8), q.argmax(-1)])).reshape(2, 4) * taken
    weights = batch["mask"] / batch["mask"].sum()
    np.testing.assert_allclose(out.metrics["unlabelled"].value(), weights @ term.mean(1), rtol=1e-5)
    np.testing.assert_allclose(out.metrics["taken"].value(), weights @ taken.mean(1), rtol=1e-5)
    expected = 0.99 * seen + 0.01 * (np.repeat(weights / 4, 4) @ p)
    np.testing.assert_allclose(out.stats["q"], expected, rtol=1e-4)
    assert abs(value - plain) > 1e-3 and np.abs(grads["w"]).max() > 0
