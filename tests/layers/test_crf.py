import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.layers.crf import Chain, chain_loss, viterbi

CLASSES = 3
SEGMENTS = np.array([[1, 1, 1, 1, 1], [1, 2, 2, 2, 0], [1, 1, 2, 0, 0], [0, 0, 0, 0, 0]])


def scores(seed=0):
    keys = jax.random.split(jax.random.key(seed), 4)
    shapes = ((*SEGMENTS.shape, CLASSES), (CLASSES, CLASSES), (CLASSES,), (CLASSES,))
    return Chain(*(2 * jax.random.normal(key, shape) for key, shape in zip(keys, shapes, strict=True)))


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
    chain, tags = scores(), np.asarray(jax.random.randint(jax.random.key(9), SEGMENTS.shape, 0, CLASSES))
    expected = np.zeros(len(SEGMENTS))
    for row, places in sentences():
        unary = chain.unary[row, places]
        paths = [score(chain, unary, p) for p in itertools.product(range(CLASSES), repeat=len(places))]
        expected[row] += np.logaddexp.reduce(paths) - score(chain, unary, tags[row, places])
    found = chain_loss(chain, np.where(SEGMENTS > 0, tags, -1), segments=SEGMENTS)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_viterbi_finds_the_best_of_all_paths():
    for seed in range(3):
        chain = scores(seed)
        found = np.asarray(viterbi(chain, segments=SEGMENTS))
        for row, places in sentences():
            paths = itertools.product(range(CLASSES), repeat=len(places))
            best = max(paths, key=lambda path: score(chain, chain.unary[row, places], path))
            assert found[row, places].tolist() == list(best)
    assert (found[1, 4] == found[1, 3]) and (found[3] == found[3, 0]).all()


def test_without_transitions_it_is_the_cross_entropy_and_the_gradient_is_finite():
    chain, tags = scores()._replace(**{name: jnp.zeros(s) for name, s in (
        ("pairwise", (CLASSES, CLASSES)), ("start", CLASSES), ("end", CLASSES))}), SEGMENTS % CLASSES  # fmt: skip
    found, grads = jax.value_and_grad(lambda c: chain_loss(c, tags, segments=SEGMENTS).sum())(chain)
    nats = -np.take_along_axis(np.asarray(jax.nn.log_softmax(chain.unary)), tags[..., None], -1)[..., 0]
    assert float(found) == pytest.approx(nats[SEGMENTS > 0].sum(), rel=1e-5)
    # The gradient of -log p is the expected minus the observed number of each feature.
    expected = np.asarray(jax.nn.softmax(chain.unary) - jax.nn.one_hot(tags, CLASSES)) * (SEGMENTS > 0)[..., None]
    np.testing.assert_allclose(grads.unary, expected, atol=1e-6)
    assert all(np.isfinite(x).all() for x in grads)
