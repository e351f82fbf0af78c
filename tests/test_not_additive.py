import jax
import jax.numpy as jnp
import pytest

from research.core import Mean, NotAdditive, check_additive, merge, not_additive
from research.errors import UserError


def test_the_mark_survives_what_happens_to_metrics():
    state = not_additive(Mean(jnp.float32(6), jnp.float32(4)))
    assert state.value() == 1.5
    for found in (merge(state, state), jax.jit(lambda x: x)(state), jax.vmap(lambda _: state)(jnp.zeros(2))):
        assert isinstance(found, NotAdditive)
    assert isinstance(
        jax.grad(lambda x: (x, {"loss": state._replace(sum=x)}), has_aux=True)(1.0)[1]["loss"], NotAdditive
    )


def test_what_splits_a_batch_refuses_it():
    check_additive({"loss": Mean(1.0, 1.0)}, by="accumulate")
    with pytest.raises(UserError, match="accumulate splits the batch"):
        check_additive({"loss": not_additive(Mean(1.0, 1.0))}, by="accumulate")
