import itertools

import jax
import numpy as np
import pytest
from scipy.special import log_softmax, softmax

from research.layers.crf import Chain, chain_loss, viterbi

CLASSES = 3
SEGMENTS = np.array([[1, 1, 1, 1, 1], [1, 2, 2, 2, 0], [1, 1, 2, 0, 0], [0, 0, 0, 0, 0]])


def scores(seed=0):
    rng = np.random.default_rng(seed)
    shapes = ((*SEGMENTS.shape, CLASSES), (CLASSES, CLASSES), (CLASSES,), (CLASSES,))
    return Chain(*(2 * rng.normal(size=shape).astype(np.float32) for shape in shapes))


@jax.jit
def loss(chain, tags):
    return chain_loss(chain, tags, segments=SEGMENTS)


def score(chain, unary, tags):
    """The score of the tags of one sentence, by the definition."""
    inner = sum(float(chain.pairwise[a, b]) for a, b in itertools.pairwise(tags))
    ends = float(chain.start[tags[0]] + chain.end[tags[-1]])
    return ends + inner + sum(float(unary[t, tag]) for t, tag in enumerate(tags))


def sentences():
    for row, segments in enumerate(SEGMENTS):
        for number in sorted(set(segments[segments > 0].tolist())):
            yield row, np.flatnonzero(segments == number)


def test_the_loss_is_that_of_all_paths():
    chain, tags = scores(), np.random.default_rng(9).integers(0, CLASSES, SEGMENTS.shape)
    expected = np.zeros(len(SEGMENTS))
    for row, places in sentences():
        unary = chain.unary[row, places]
        paths = [score(chain, unary, p) for p in itertools.product(range(CLASSES), repeat=len(places))]
        expected[row] += np.logaddexp.reduce(paths) - score(chain, unary, tags[row, places])
    found = loss(chain, np.where(SEGMENTS > 0, tags, -1))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_viterbi_finds_the_best_of_all_paths():
    best_tags = jax.jit(lambda chain: viterbi(chain, segments=SEGMENTS))
    for seed in range(3):
        chain = scores(seed)
        found = np.asarray(best_tags(chain))
        for row, places in sentences():
            paths = itertools.product(range(CLASSES), repeat=len(places))
            best = max(paths, key=lambda path: score(chain, chain.unary[row, places], path))
            assert found[row, places].tolist() == list(best)
    assert (found[1, 4] == found[1, 3]) and (found[3] == found[3, 0]).all()


def test_without_transitions_it_is_the_cross_entropy_and_the_gradient_is_finite():
    chain, tags = scores()._replace(**{name: np.zeros(s, np.float32) for name, s in (
        ("pairwise", (CLASSES, CLASSES)), ("start", CLASSES), ("end", CLASSES))}), SEGMENTS % CLASSES  # fmt: skip
    found, grads = jax.jit(jax.value_and_grad(lambda c: loss(c, tags).sum()))(chain)
    nats = -np.take_along_axis(log_softmax(chain.unary, -1), tags[..., None], -1)[..., 0]
    assert float(found) == pytest.approx(nats[SEGMENTS > 0].sum(), rel=1e-5)
    # The gradient of -log p is the expected minus the observed number of each feature.
    expected = (softmax(chain.unary, -1) - np.eye(CLASSES)[tags]) * (SEGMENTS > 0)[..., None]
    np.testing.assert_allclose(grads.unary, expected, atol=1e-6)
    assert all(np.isfinite(x).all() for x in grads)
