import jax
import numpy as np
import pytest

from research import losses
from research.errors import UserError
from research.metrics.hierarchy import severity

PARENTS = {"cat": "pet", "dog": "pet", "wolf": "wild", "pet": "animal", "wild": "animal"}
CLASSES = ("cat", "dog", "wolf")
TREE = losses.ancestors(PARENTS, CLASSES)
X = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32) * 2
Y = np.array([0, 1, 2, 0, 1, 2])


def test_without_alpha_it_is_the_cross_entropy_and_with_it_the_papers_sum():
    loss, plain = losses.hierarchical(TREE, alpha=0.0), losses.cross_entropy
    np.testing.assert_allclose(loss(X, Y), plain(X, Y), rtol=1e-5)
    slopes = [jax.grad(lambda x, f=f: f(x, Y).sum())(X) for f in (loss, plain)]
    np.testing.assert_allclose(*slopes, atol=1e-6)
    p = np.exp(X) / np.exp(X).sum(-1, keepdims=True)
    branch = np.stack([p[:, 0] + p[:, 1], p[:, 0] + p[:, 1], p[:, 2]], -1)[np.arange(6), Y]
    own = p[np.arange(6), Y]
    expected = -np.log(own / branch) - np.exp(-0.7) * np.log(branch)
    np.testing.assert_allclose(losses.hierarchical(TREE, alpha=0.7)(X, Y), expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(np.isnan(loss(X, Y + np.array([0, 0, 1, 0, 0, 0]))), Y * [0, 0, 1, 0, 0, 0] > 0)


def test_severity_is_the_height_of_the_common_ancestor():
    np.testing.assert_array_equal(severity(TREE, Y, np.array([0, 0, 1, 2, 1, 2])), [0, 1, 2, 2, 0, 0])


@pytest.mark.parametrize(
    ("parents", "message"),
    [
        ({**PARENTS, "animal": "cat"}, "form a cycle: cat -> pet -> animal"),
        ({"dog": "pet"}, "unknown class of the tree 'cat'"),
        ({**PARENTS, "wolf": "animal"}, "wolf -> animal does not fit cat -> pet -> animal"),
        ({**PARENTS, "wild": "plant"}, "the same length and root"),
    ],
)
def test_what_is_no_tree_is_an_error(parents, message):
    with pytest.raises(UserError, match=message):
        losses.ancestors(parents, CLASSES)


def test_a_tree_of_other_classes_is_an_error():
    with pytest.raises(UserError, match="a tree of 3 classes for logits of 2"):
        losses.hierarchical(TREE)(X[:, :2], Y)
    with pytest.raises(UserError, match="2 roots"):
        losses.hierarchical(TREE[:2])
