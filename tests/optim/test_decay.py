import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from research.errors import UserError
from research.model import from_nnx
from research.models.gpt import GPT
from research.optim.decay import decay_mask


def test_a_gpt_decays_its_kernels_and_what_else_is_named():
    model = from_nnx(lambda rngs: GPT(vocabulary=5, length=4, width=8, depth=1, heads=2, rngs=rngs))
    params, _ = jax.eval_shape(model.init, jax.random.key(0))
    mask = decay_mask()(params)
    block = mask["blocks"]["0"]
    assert block["attention"]["q"] == {"bias": False, "kernel": True}
    assert block["feed_forward_norm"] == {"bias": False, "scale": False} and mask["embed"] == {"embedding": False}
    assert decay_mask("kernel$|^embed/")(params)["embed"] == {"embedding": True}
    assert decay_mask("kernel$|^embed/")(params)["place"] == {"embedding": False}


def test_by_path_and_not_by_rank():
    params = {"stacked": {"bias": jnp.ones((3, 4)), "kernel": jnp.ones((3, 4, 4))}, "norm": {"scale": jnp.ones((3, 4))}}
    optimizer = optax.add_decayed_weights(0.5, decay_mask())
    updates, _ = optimizer.update(jax.tree.map(jnp.zeros_like, params), optimizer.init(params), params)
    assert (np.asarray(updates["stacked"]["kernel"]) == 0.5).all()
    assert not np.asarray(updates["stacked"]["bias"]).any() and not np.asarray(updates["norm"]["scale"]).any()


def test_a_pattern_that_matches_nothing_is_an_error():
    with pytest.raises(
        UserError, match="decay_mask: 'kernels' matches no parameter. Did you mean 'kernel'[?] Available: kernel"
    ):
        decay_mask("kernels")({"kernel": jnp.ones(2)})
