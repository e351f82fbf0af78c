import jax
import numpy as np
import pytest

from research.core import Ctx, NotAdditive
from research.errors import UserError
from research.objectives.triplets import triplets
from tests.truth import load

TRUTH = load("torch_losses")
X, Y = TRUTH["mined_hard_0"], TRUTH["mined_hard_1"]


def embed(params, stats, x, *, key=None, train=False):
    assert train
    return x @ params, {"seen": stats["seen"] + 1}


def run(batch, **options):
    loss = triplets(embed, margin=0.7, inputs="x", labels="y", **options)
    ctx = Ctx(batch, {"seen": np.int32(4)}, jax.random.key(0), np.int32(0))
    return jax.jit(lambda w: loss(w, ctx))(np.eye(3, dtype=np.float32))


def test_the_loss_is_that_of_the_library_without_padding():
    batch = {"x": np.concatenate([X, 0 * X[:3]]), "y": np.concatenate([Y, Y[:3]]), "mask": np.arange(13) < 10}
    value, out = run(batch, normalize=False)
    np.testing.assert_allclose(value, TRUTH["mined_hard_value"], rtol=1e-5)
    np.testing.assert_allclose(out.metrics["anchors"].value(), 0.9)  # one example is alone in its class
    assert isinstance(out.metrics["loss"], NotAdditive) and out.stats["seen"] == 5


def test_lengths_of_embeddings_do_not_count():
    values = [run({"x": x, "y": Y})[0] for x in (X, X * np.arange(1, 11)[:, None])]
    np.testing.assert_allclose(*values, rtol=1e-5)


def test_a_mining_that_does_not_exist_is_an_error_before_training():
    with pytest.raises(UserError, match="unknown mining 'semi-hard'"):
        triplets(embed, mining="semi-hard")
