"""Gradual unfreezing against the optimizer itself, started late and applied to each group alone."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from research.errors import UserError
from research.optim.unfreezing import unfreezing

PARAMS = {name: {"kernel": jnp.arange(4.0).reshape(2, 2) + i} for i, name in enumerate(("bottom", "middle", "head"))}
GROUPS = {"^head/": 0, "^middle/": 2, ".": 3}
STARTS = {"head": 0, "middle": 2, "bottom": 3}
GRADS = [jax.tree.map(lambda x, s=s: jnp.sin(x + s), PARAMS) for s in range(6)]


def states(optimizer, params, grads):
    """The updates and the state of the optimizer after each step."""
    state, found = optimizer.init(params), []
    update = jax.jit(optimizer.update)
    for g in grads:
        updates, state = update(g, state, params)
        params = optax.apply_updates(params, updates)
        found.append((updates, state))
    return found


def test_each_group_is_the_optimizer_from_its_step_on():
    base = optax.adamw(0.1, weight_decay=0.1)
    found = states(unfreezing(base, GROUPS), PARAMS, GRADS)
    for name, start in STARTS.items():
        alone = states(base, {name: PARAMS[name]}, [{name: g[name]} for g in GRADS[start:]])
        for step, (updates, _) in enumerate(found):
            late = alone[step - start][0][name]["kernel"] if step >= start else np.zeros((2, 2))
            np.testing.assert_array_equal(updates[name]["kernel"], late)


def test_moments_stay_at_their_start_until_then():
    found = states(unfreezing(optax.adam(0.1), GROUPS), PARAMS, GRADS)
    moments = [jax.tree.leaves(state.inner_states["3"].inner_state.inner_state) for _, state in found]
    assert len(moments[0]) == 3  # the count and two moments of the bottom alone
    for step, leaves in enumerate(moments):
        assert any(np.any(x != 0) for x in leaves) == (step >= 3)


def test_with_all_steps_0_it_is_the_optimizer():
    base = optax.sgd(0.1, momentum=0.9)
    for (found, _), (expected, _) in zip(
        states(unfreezing(base, {"^head/": 0, ".": 0}), PARAMS, GRADS), states(base, PARAMS, GRADS), strict=True
    ):
        jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_a_rate_outside_follows_the_run():
    rate = lambda step: 0.1 * (step + 1)
    optimizer = optax.chain(
        unfreezing(optax.scale_by_adam(), {"^head/": 0, ".": 2}), optax.scale_by_learning_rate(rate)
    )
    first = states(optimizer, PARAMS, GRADS[:3])[2][0]["bottom"]["kernel"]
    np.testing.assert_allclose(first, -0.3 * np.sign(GRADS[2]["bottom"]["kernel"]), rtol=1e-4)  # Adam's first step


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ({"^head/": -1, ".": 0}, "'.head/' begins at step -1; expected at least 0"),
        ({"haed/kernel": 0, ".": 1}, "unfreezing: 'haed/kernel' matches no parameter. Did you mean 'head/kernel'"),
        ({".": 0, "^head/": 1}, "every parameter that '.head/' matches belongs to an earlier pattern"),
        ({"^head/": 0}, "no pattern matches bottom/kernel, middle/kernel; add"),
    ],
)
def test_errors(groups, message):
    with pytest.raises(UserError, match=message):
        unfreezing(optax.sgd(0.1), groups).init(PARAMS)
