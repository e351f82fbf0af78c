"""Early stopping and plateaus: the rules by hand and by optax, and runs that resume exactly."""

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import optax
import pytest

from research.core import State, Stop
from research.errors import UserError
from research.experiment import build, wire
from research.optim.observe import early_stop, reduce_on_plateau
from tests import toys
from tests.test_loop import ONE, after, go, text

VALUES = [3.0, 2.5, 2.6, 2.5, 2.4999, 2.0, 2.1, 2.2, np.nan, 2.3, 1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6]


def scales(plateau, values):
    optimizer = plateau.optimizer(optax.sgd(0.5))
    update = jax.jit(optimizer.update)
    opt = optimizer.init({"w": jnp.ones(2)})
    state, found = State(None, None, None, None, {}, opt), []
    for value in values:
        state = plateau.observe(state, {"valid/loss": value, "valid/other": 0.0})
        updates, _ = update({"w": np.ones(2, np.float32)}, state.opt)
        found.append(float(np.asarray(updates["w"])[0]) / -0.5)
    return found


SETTINGS = (
    {"patience": 3, "cooldown": 2},
    {"patience": 2, "min_scale": 0.4},
    {"patience": 2, "rtol": 0.1, "atol": 0.2},
)


@pytest.mark.parametrize("settings", SETTINGS)
def test_the_rule_is_that_of_optax(settings):
    values = [value for value in VALUES if np.isfinite(value)]
    theirs = optax.contrib.reduce_on_plateau(factor=0.5, **settings)
    update = jax.jit(theirs.update)
    state, expected = theirs.init({"w": jnp.ones(2)}), []
    for value in values:
        _, state = update({"w": np.ones(2, np.float32)}, state, value=value)
        expected.append(float(state.scale))
    found = scales(reduce_on_plateau("valid/loss", factor=0.5, **settings), values)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert len(set(found)) > 1


def test_the_highest_value_may_be_the_best():
    down = scales(reduce_on_plateau("valid/loss", factor=0.5, patience=2), [3, 2, 2, 2.1, 1, 1, 1])
    up = scales(reduce_on_plateau("valid/loss", factor=0.5, patience=2, mode="max"), [-3, -2, -2, -2.1, -1, -1, -1])
    assert down == up == [1, 1, 1, 0.5, 0.5, 0.5, 0.25]
    # A value that is worse by less than the margin is no improvement, whatever its sign.
    assert scales(reduce_on_plateau("valid/loss", patience=1, mode="max", rtol=0.1), [-1.0, -1.05])[-1] < 1


def test_what_is_not_a_number_is_no_improvement():
    assert scales(reduce_on_plateau("valid/loss", factor=0.5, patience=1), [np.nan, 1.0, np.nan]) == [0.5, 0.5, 0.25]


def stops(watch, values):
    """The number of the evaluation that ends the run, and the state there."""
    stats = {watch.name: jax.tree.map(jnp.asarray, watch.memory(None, None))}
    state = State(None, None, None, None, stats, None)
    for number, value in enumerate(values):
        state = watch.observe(state, {"valid/loss": value})
        if isinstance(state, Stop):
            return number, state
    return None, state


def test_early_stopping_counts_evaluations_since_the_best():
    assert stops(early_stop("valid/loss", patience=3), VALUES)[0] == 8
    assert stops(early_stop("valid/loss", patience=4), VALUES)[0] == 9
    number, (state, reason) = stops(early_stop("valid/loss", patience=6), VALUES)
    assert number == 16 and "did not improve on 1 for 6 evaluations" in reason
    assert float(state.stats["early_stop"]["best"]) == 1.0
    assert stops(early_stop("valid/loss", patience=2, min_delta=0.6), VALUES)[0] == 2
    assert stops(early_stop("valid/loss", patience=3, mode="max"), VALUES)[0] == 3
    assert stops(early_stop("valid/loss", patience=7), VALUES)[0] is None


def test_another_evaluation_is_left_alone_and_a_wrong_name_is_not(monkeypatch):
    for watch in (early_stop("valid/loss", patience=1), reduce_on_plateau("valid/loss", patience=1)):
        state = State(None, None, None, None, {}, None)
        assert watch.observe(state, {"test/loss": 1.0}) is state
        with pytest.raises(UserError, match="Did you mean 'valid/lost'"):
            watch.observe(state, {"valid/lost": 1.0, "test/loss": 1.0})
    with pytest.raises(UserError, match="unknown metric"):
        early_stop("loss", patience=1).observe(state, {"valid/loss": 1.0})
    # An experiment that lists a plateau cannot leave its scale out of the optimizer.
    plateau = reduce_on_plateau("valid/loss", factor=0.5, patience=1)
    wired = wire(toys.experiment(optimizer=optax.sgd(1.0), techniques=(plateau,)))
    begun = State(*[None] * 5, wired.optimizer.init({}))
    lowered = plateau.observe(begun, {"valid/loss": np.nan})
    assert [float(x.opt[1].scale) for x in (begun, lowered)] == [1.0, 0.5] and wired.observe == (plateau.observe,)
    # Without the check of annotations, as outside the tests.
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    for wrong in ({"mode": "lowest"}, {"patience": 0}):
        with pytest.raises(UserError):
            early_stop("valid/loss", **{"patience": 1, **wrong})
    with pytest.raises(UserError, match="between 0 and 1"):
        reduce_on_plateau("valid/loss", factor=1.5)


def watched():
    """The toy with both observers, impatient enough that each acts."""
    stop = early_stop("valid/mse", patience=2, min_delta=100)
    plateau = reduce_on_plateau("valid/mse", factor=0.5, patience=1, rtol=0.9)
    return {"optimizer": optax.adam(0.05), "techniques": (plateau, stop)}


def test_a_run_that_is_interrupted_ends_bitwise_as_an_unbroken_one(tmp_path):
    built = build(toys.experiment(**watched()), seed=3, devices=ONE)
    whole = go(tmp_path / "whole", built)
    assert whole.status == "finished" and whole.step < 40
    scale = float(whole.state.opt[1].scale)
    assert scale < 1
    for calls in (15, 12):
        assert go(tmp_path / "pieces", built, interrupted=after(calls)).status == "preempted"
    again = go(tmp_path / "pieces", **watched())
    jax.tree.map(np.testing.assert_array_equal, again.state, whole.state)
    assert text(tmp_path / "pieces") == text(tmp_path / "whole")


def test_observers_that_never_act_leave_training_as_it_is(tmp_path):
    stop, plateau = early_stop("valid/mse", patience=99), reduce_on_plateau("valid/mse", patience=99)
    changes = {"optimizer": optax.adam(0.05), "techniques": (stop, plateau)}
    found, plain = go(tmp_path / "a", **changes), go(tmp_path / "b", optimizer=optax.adam(0.05))
    # Two programs, which the compiler may round differently.
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), found.state.params, plain.state.params)
    assert found.step == 40
