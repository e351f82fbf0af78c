"""Techniques: what an experiment takes over from them, and what it says where one is wrong, missing or listed twice."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from research.core import Eval, Model, Out, gradient, live, weighted_mean
from research.data import eval_batches, generated
from research.errors import UserError
from research.experiment import build, wire
from research.gradients.compressed import top_k
from research.gradients.delayed import delayed
from research.objectives.byol import byol
from research.objectives.classify import classify
from research.objectives.elastic import elastic
from research.objectives.moco import moco
from research.optim.ema import ema
from research.optim.observe import reduce_on_plateau
from research.optim.target import target
from research.technique import Technique, memories
from tests import toys

ONE = jax.devices()[:1]
LOSS = toys.loss_of(toys.model().apply)
CLASSIFIER = Model(
    lambda key: ({"w": jax.random.normal(key, (3, 3))}, {}),
    lambda params, stats, x, key=None, train=False: (x @ params["w"], {}),
)


def refused(message, **changes):
    with pytest.raises(UserError, match=message):
        build(toys.experiment(**changes), devices=ONE)


def contrast():
    return moco(CLASSIFIER, view=lambda key, batch: batch, width=3, size=16, inputs="x")


def embedding(**changes):
    """The toy with a model of three outputs."""
    return {"init": CLASSIFIER.init, "apply": CLASSIFIER.apply, "evals": {}, **changes}


def lagging(params, ctx):
    """The distance to the outputs of a target network."""
    y, stats = toys.model().apply(params, ctx.stats, ctx.batch["x"])
    goal, _ = toys.model().apply(ctx.stats["target"], ctx.stats, ctx.batch["x"])
    mean = weighted_mean((y - goal - ctx.batch["y"]) ** 2, jnp.ones(len(y)))
    return mean.value(), Out(stats, {"loss": mean})


@pytest.mark.parametrize(
    ("techniques", "held"),
    [(("ema",), "'ema'"), ((ema(0.9), ema), "<function ema"), ((ema(0.9), None), "None"), (ema(0.9), "'ema'")],
)
def test_a_value_that_is_no_technique_is_refused(techniques, held):
    refused(rf"techniques=\(\.\.\.\) contains {held}.*expected a Technique", techniques=techniques)


def test_two_techniques_of_one_name_are_refused():
    refused("2 techniques are named 'ema'.*different name=", techniques=(ema(0.9), ema(0.99)))
    refused("2 techniques are named 'same'", techniques=(ema(0.9, name="same"), target(every=2, name="same")))
    build(toys.experiment(techniques=(ema(0.9), ema(0.99, name="slow"))), devices=ONE)


def test_an_entry_that_the_model_keeps_already_is_refused():
    init = lambda key: (toys.model().init(key)[0], {"ema": jnp.zeros(2)})
    refused("technique and the model both use the stats entry 'ema'", techniques=(ema(0.9),), init=init)
    built = build(toys.experiment(techniques=(ema(0.9, name="mean"),), init=init), devices=ONE)
    assert set(built.abstract.stats) == {"ema", "mean"}


def test_two_techniques_that_bring_the_same_hook_are_refused_unless_the_experiment_gives_it():
    methods = (contrast(), byol(CLASSIFIER, CLASSIFIER, view=lambda key, batch: batch, inputs="x"))
    refused(r"'moco' and 'byol' each provide a loss.*Experiment\(loss=", loss=None, techniques=methods)
    late, few = delayed(gradient(LOSS), steps=2), top_k(gradient(LOSS), fraction=0.5)
    refused(r"'delayed' and 'unsent' each provide a grad_fn.*Experiment\(grad_fn=", techniques=(late, few))
    both = top_k(late.grad_fn, fraction=0.5)
    build(toys.experiment(techniques=(late, both), grad_fn=both.grad_fn), devices=ONE)


def test_an_experiment_without_a_loss_is_refused():
    refused(r"no loss; set Experiment\(loss=\.\.\.\), or add a technique that provides one", loss=None)
    refused("no loss", loss=None, techniques=(ema(0.9),))
    assert build(toys.experiment(**embedding(loss=None), techniques=(contrast(),)), devices=ONE).wired.loss


def test_a_learning_rate_is_given_once():
    schedules = {"learning_rate": lambda step: 0.1}
    refused(r"given twice: as learning_rate= and in schedules=", learning_rate=0.1, optimizer=optax.adam,
            schedules=schedules)  # fmt: skip
    refused("optimizer= must be a function of the learning rate.*; it is GradientTransformation",
            learning_rate=0.1, optimizer=optax.adam(0.1), schedules={})  # fmt: skip


@pytest.mark.parametrize(
    "changes",
    [
        {"optimizer": None},
        {"optimizer": optax.adam},
        {"optimizer": lambda rate: rate, "learning_rate": 0.1, "schedules": {}},
    ],
)
def test_what_is_no_optimizer_is_refused(changes):
    refused("optimizer= is .*expected an optax transformation, or set learning_rate=", **changes)


def test_the_learning_rate_reaches_the_optimizer_and_the_record():
    momentum = lambda step: 0.3
    for rate in (optax.linear_schedule(1.0, 0.0, 10), 0.25):
        wired = wire(toys.experiment(learning_rate=rate, optimizer=optax.sgd, schedules={"momentum": momentum}))
        expected = [rate(step) for step in range(4)] if callable(rate) else [rate] * 4
        assert list(wired.schedules) == ["learning_rate", "momentum"] and wired.schedules["momentum"] is momentum
        np.testing.assert_allclose([wired.schedules["learning_rate"](step) for step in range(4)], expected)
        params, found = {"w": jnp.ones(())}, []
        opt = wired.optimizer.init(params)
        for _ in range(4):
            updates, opt = wired.optimizer.update(params, opt, params)
            found.append(-float(updates["w"]))
        np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_the_hooks_of_techniques_are_in_place_in_the_order_of_the_list():
    average, plateau = ema(0.9), reduce_on_plateau("valid/mse")
    double = Technique("double", optimizer=lambda optimizer: optax.chain(optimizer, optax.scale(2.0)))
    clipped = Technique("clipped", optimizer=lambda optimizer: optax.chain(optimizer, optax.clip(0.5)))
    for first, last, expected in ((double, clipped, -0.5), (clipped, double, -1.0)):
        wired = wire(toys.experiment(optimizer=optax.sgd(1.0), techniques=(first, average, plateau, last)))
        assert wired.after == (average.after,) and wired.observe == (plateau.observe,) and wired.grad_fn is None
        params = {"w": jnp.ones(())}
        updates, _ = wired.optimizer.update(params, wired.optimizer.init(params), params)
        assert updates["w"] == expected


def test_a_loss_or_an_estimator_of_the_experiment_goes_before_that_of_a_technique():
    late, plain = delayed(gradient(LOSS), steps=2), gradient(LOSS)
    assert wire(toys.experiment(techniques=(late,))).grad_fn is late.grad_fn
    assert wire(toys.experiment(techniques=(late,), grad_fn=plain)).grad_fn is plain
    method = contrast()
    assert wire(toys.experiment(loss=None, techniques=(method,))).loss is method.loss
    assert wire(toys.experiment(loss=LOSS, techniques=(method,))).loss is LOSS


def test_memories_draw_random_numbers_of_their_own():
    noise = [Technique(name, memory=lambda key, params: jax.random.normal(key, (8,))) for name in "ab"]
    bare = Technique("bare", after=lambda state, params: {})
    stats = memories((noise[0], bare, noise[1]), {"model": 1}, seed=3, params={})
    assert list(stats) == ["model", "a", "b"] and not np.any(stats["a"] == stats["b"])
    again = memories((noise[0], noise[1], bare), {}, seed=3, params={})
    np.testing.assert_array_equal(again["b"], stats["b"])


def test_a_view_of_weights_that_nothing_keeps_names_the_evaluation_and_the_entry():
    average = ema(0.9, name="mean")
    evals = {name: Eval(eval_batches(toys.DATA, 16), toys.measure, view=view)
             for name, view in (("live", live), ("smooth", average.view))}  # fmt: skip
    refused(r"view of the evaluation 'smooth' needs the stats entry 'mean'; entries: none.*techniques=", evals=evals)
    refused("evaluation 'smooth' needs .*'mean'; entries: ema", evals=evals, techniques=(ema(0.9),))
    build(toys.experiment(evals=evals, techniques=(average,)), devices=ONE)


def test_a_memory_that_nothing_reads_is_refused():
    method, loss = contrast(), classify(CLASSIFIER, inputs="x")
    message = "nothing reads the stats entry of the technique 'moco'.*loss="
    refused(message, **embedding(loss=loss), techniques=(method,))
    build(toys.experiment(**embedding(loss=None), techniques=(method,)), devices=ONE)
    late = delayed(gradient(LOSS), steps=2)
    for wrapped in ({}, {"on_nonfinite": "skip"}, {"stride": 2}):  # a loop over steps hides nothing
        refused("nothing reads .* 'delayed'.*grad_fn=", techniques=(late,), grad_fn=gradient(LOSS), **wrapped)
    # An `after` that reads its own entry wires no loss.
    held = elastic(LOSS, {2: lambda params, stats: params}, strength=1.0)
    refused("nothing reads .* 'elastic'.*loss=", techniques=(held,), loss=LOSS)
    refused("nothing reads .* 'elastic'", techniques=(held, top_k(gradient(LOSS), fraction=0.5)), loss=None)
    build(toys.experiment(techniques=(held,), loss=None), devices=ONE)
    # What only a view reads is read.
    begun = Technique(
        "begun", memory=lambda key, params: params, view=lambda state: (state.stats["begun"], state.stats)
    )
    build(toys.experiment(techniques=(begun,)), devices=ONE)
    # What an observer remembers is read by the host.
    told = Technique("told", memory=lambda key, params: jnp.int32(0), observe=lambda state, results: state)
    build(toys.experiment(techniques=(told,)), devices=ONE)


def test_a_view_that_computes_on_the_host_is_left_alone():
    view = lambda state: (jax.tree.map(np.asarray, state.params), state.stats)
    build(toys.experiment(evals={"valid": Eval(eval_batches(toys.DATA, 16), toys.measure, view=view)}), devices=ONE)


def test_an_evaluation_source_says_its_size():
    evals = {"valid": Eval(lambda step: None, toys.measure)}
    refused(r"evaluation 'valid' is .*lacks size, examples, data, __len__\..*eval_batches\(data, size\)", evals=evals)


@pytest.mark.parametrize("rate", ["0.1", True, [0.1]])
def test_a_learning_rate_is_a_number_or_a_schedule(rate):
    refused("learning_rate= is .*; expected a number or a schedule", learning_rate=rate, optimizer=optax.adam,
            schedules={})  # fmt: skip
    refused("optimizer= must be a function .*; it is NoneType", learning_rate=0.1, optimizer=None, schedules={})
    refused("techniques= is None; expected a tuple", techniques=None)


def test_a_technique_that_is_not_listed_is_named_by_its_entry():
    late = delayed(gradient(LOSS), steps=2)
    refused(r"unknown stats entry 'delayed'.*Add the technique to .*techniques=", grad_fn=late.grad_fn)
    build(toys.experiment(techniques=(late,)), devices=ONE)
    refused(r"it reads 'target', which is neither a batch field nor a stats entry \(none\).*add .*techniques=",
            loss=lagging)  # fmt: skip
    refused(r"it reads 'target'.*a stats entry \(targets\)\. Did you mean 'targets'\?", loss=lagging,
            techniques=(target(every=2, name="targets"),))  # fmt: skip
    build(toys.experiment(loss=lagging, techniques=(target(every=2),)), devices=ONE)


class Sizeless:
    examples = data = None

    def __call__(self, seed):
        return lambda step, rows=slice(None): toys.DATA.take_columns(np.arange(8))


@pytest.mark.parametrize(
    ("source", "missing"),
    [(Sizeless(), "size"), (lambda seed: lambda step: toys.DATA.take_columns(np.arange(8)), "size, examples, data")],
)
def test_a_source_says_its_size(source, missing):
    refused(rf"source=\) is .*, which lacks {missing}\..*generated\(make, size\)", source=source)
    built = build(toys.experiment(source=generated(source, 8)), devices=ONE)
    np.testing.assert_array_equal(built.source(0)(3, rows=slice(2, 5))["x"], toys.DATA.columns["x"][2:5])
