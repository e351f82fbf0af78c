import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.core import Eval, Out, State, weighted_mean
from research.data import arrays, eval_batches
from research.data.sampling.poisson import poisson
from research.distributed.sharding import make_mesh
from research.errors import UserError
from research.evaluate import evaluator
from research.experiment import build
from research.fields import example_weights
from research.gradients.private import private
from research.loop import run
from research.optim.ema import ema
from research.privacy import accountant
from research.privacy.accountant import epsilon
from research.privacy.ledger import ledger
from research.runs.checkpoint import Checkpoints
from research.runs.record import Record
from tests import toys

PLAN = {"examples": 50, "batch_size": 8, "noise": 4.0, "delta": 1e-3}


def state_at(step):
    params = {"w": jnp.arange(3.0), "b": jnp.ones(())}
    stats = {"ema": jax.tree.map(jnp.zeros_like, params)}
    return State(jnp.uint32(0), jnp.uint32(0), jnp.int32(step), params, stats, {})


def apply(params, stats, x, *, train=False):
    assert set(stats) == {"ema"}, "the model sees its own stats alone"
    return x @ params["w"] + params["b"], {}


def evaluated(ev, step):
    return evaluator(ev, apply, mesh=make_mesh({"data": 1}, devices=jax.devices()[:1]))(state_at(step))


def test_spent_counts_the_step_that_was_taken():
    spending = ledger(**PLAN)
    assert spending.spent(0) == epsilon(steps=1, **PLAN) > 0
    assert spending.spent(jnp.int32(40)) == epsilon(steps=41, **PLAN) > spending.spent(39)


def test_an_evaluation_says_the_epsilon_of_its_weights_and_else_what_it_said():
    source = eval_batches(toys.DATA, 16)
    plain = Eval(source, toys.measure, finish=lambda results: {"rooted": results["mse"] ** 0.5, "seen": len(results)})
    for step in (0, 7):
        expected, found = evaluated(plain, step), evaluated(ledger(**PLAN).with_epsilon(plain), step)
        assert found.numbers == {**expected.numbers, "epsilon": epsilon(steps=step, **PLAN)}
        np.testing.assert_array_equal(found.rows["y"], expected.rows["y"])
    bare = evaluated(ledger(**PLAN).with_epsilon(Eval(source, toys.measure)), 3).numbers
    assert set(bare) == {"mse", "epsilon"} and bare["epsilon"] == epsilon(steps=3, **PLAN)


def test_it_keeps_the_view_of_the_evaluation():
    average = ema(0.9)
    ev = ledger(**PLAN).with_epsilon(Eval(eval_batches(toys.DATA, 50), toys.measure, view=average.view, every=5))
    found = evaluated(ev, 2)
    np.testing.assert_allclose(found.numbers["mse"], np.mean(toys.DATA.columns["y"] ** 2), rtol=1e-5)
    assert ev.every == 5


def test_steps_are_counted_over_any_number_of_batches(monkeypatch):
    spending = ledger(**PLAN)
    monkeypatch.setattr(accountant, "epsilon", lambda *, steps, **_: steps)
    found = evaluated(spending.with_epsilon(Eval(eval_batches(toys.DATA, 1), toys.measure)), 1_000_001)
    assert found.numbers["epsilon"] == 1_000_001


def test_mistakes_are_named():
    with pytest.raises(UserError, match="an expected batch of 51 of 50 examples"):
        ledger(**{**PLAN, "batch_size": 51})

    def measure(trained, batch):
        return {"epsilon": weighted_mean(batch["mask"], batch["mask"])}

    with pytest.raises(UserError, match="'epsilon' of its own"):
        evaluated(ledger(**PLAN).with_epsilon(Eval(eval_batches(arrays(x=np.zeros(3)), 3), measure)), 1)


def test_a_private_run_records_what_it_spends(tmp_path):
    def loss(params, ctx):
        y, stats = toys.model().apply(params, ctx.stats, ctx.batch["x"])
        mean = weighted_mean((y - ctx.batch["y"]) ** 2, example_weights(ctx.batch, len(y)))
        return mean.value(), Out(stats, {"loss": mean})

    spending = ledger(**PLAN)
    experiment = toys.experiment(
        loss=loss,
        grad_fn=private(loss, clip=1.0, noise=4.0, expected=8, microbatch=8),
        source=poisson(toys.DATA, expected=8, capacity=32),
        schedules={"epsilon": spending.spent},
        evals={"test": spending.with_epsilon(Eval(eval_batches(toys.DATA, 25), toys.measure, every=10))},
        steps=20,
    )
    built = build(experiment, seed=0, devices=jax.devices()[:1])
    with Record(tmp_path / "metrics.jsonl") as record, Checkpoints(tmp_path / "checkpoints", keep=1) as checkpoints:
        outcome = run(built, checkpoints=checkpoints, record=record, tell=lambda event: None)
    assert outcome.results["test"]["epsilon"] == epsilon(steps=20, **PLAN)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    for name in ("train/epsilon", "test/epsilon"):
        found = {line["step"]: line[name] for line in lines if name in line}
        assert len(found) == (7 if name == "train/epsilon" else 2)
        assert found == {step: epsilon(steps=step, **PLAN) for step in found}
