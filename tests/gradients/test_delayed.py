import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import optax
import pytest

from research.core import Mean, Out, State, gradient, train_step
from research.errors import UserError
from research.gradients.delayed import delayed


def squares(params, ctx):
    """(a w - b)^2 for the batch's numbers, in closed form below."""
    residual = ctx.batch["a"] * params["w"] - ctx.batch["b"]
    mean = Mean(jnp.sum(residual**2), jnp.float32(len(residual)))
    return mean.value(), Out({"count": ctx.stats["count"] + 1}, {"loss": mean})


@pytest.mark.parametrize("k", [1, 3])
def test_it_is_the_recursion_with_the_gradient_of_k_steps_ago(k):
    rng = np.random.default_rng(0)
    batches = rng.normal(size=(9, 2, 5)).astype(np.float32)
    late, optimizer = delayed(gradient(squares), steps=k, name="late"), optax.sgd(0.1)
    params = {"w": jnp.float32(2)}
    stats = {"count": jnp.int32(0), "late": late.memory(jax.random.key(0), params)}
    state = State(jnp.uint32(0), jnp.uint32(0), jnp.int32(0), params, stats, optimizer.init(params))
    assert stats["late"]["w"].shape == (k,)
    step, w, grads = jax.jit(train_step(late.grad_fn, optimizer)), 2.0, [0.0] * k
    for a, b in batches:
        grads.append(np.mean(2 * a * (a * w - b)))
        state, metrics = step(state, {"a": a, "b": b})
        assert np.isclose(metrics["loss"].value(), np.mean((a * w - b) ** 2), rtol=1e-4)  # of the present
        w -= 0.1 * grads[-1 - k]
        assert np.isclose(state.params["w"], w, rtol=1e-4)
    assert int(state.stats["count"]) == 9 and not np.isclose(w, 2)


def test_no_delay_is_the_gradient_itself_and_mistakes_are_errors(monkeypatch):
    grad_fn = gradient(squares)
    none = delayed(grad_fn, steps=0)
    assert none.grad_fn is grad_fn and none.memory is None
    # Without the check of annotations, as outside the tests.
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    for steps in (-1, 0.5):
        with pytest.raises(UserError, match="integer of at least 0"):
            delayed(grad_fn, steps=steps)
    state = State(jnp.uint32(0), jnp.uint32(0), jnp.int32(0), {"w": jnp.float32(1)}, {"count": jnp.int32(0)}, ())
    with pytest.raises(UserError, match="unknown stats entry 'delayed'.*Add the technique to .*techniques="):
        train_step(delayed(grad_fn, steps=1).grad_fn, optax.sgd(0.1))(state, {"a": np.ones(2), "b": np.ones(2)})
