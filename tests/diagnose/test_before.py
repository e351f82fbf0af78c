"""Checks before a run, on small experiments that are really stepped: broken ones are found, healthy ones left alone."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from research.core import Mean, Out, not_additive
from research.diagnose import before
from research.diagnose.case import make_case
from research.diagnose.finding import Finding
from research.diagnose.outcome import Passed, Skipped
from research.layers.batch_norm import BatchNorm
from tests import toys
from tests.diagnose.patients import Detached, patient, random_labels, through


@pytest.fixture(scope="module")
def healthy():
    return make_case(patient())


def test_a_fresh_classifier_is_expected_to_know_nothing(healthy):
    known = before.constant_baseline(healthy)
    assert known.constant == pytest.approx(np.log(10), rel=1e-6) and known.classes == 10
    outcome = before.first_loss(healthy)
    assert isinstance(outcome, Passed) and "log(10) = 2.303" in outcome.text


def test_a_healthy_experiment_passes_every_check(healthy):
    for check in (before.gradients, before.overfits, before.separate, before.estimate):
        assert isinstance(check(healthy), Passed), check(healthy)
    assert "reach all 4 arrays" in before.gradients(healthy).text
    assert "in evaluation and in training" in before.separate(healthy).text
    parameters = 64 * 32 + 32 + 32 * 10 + 10
    assert f"{parameters:,} parameters" in before.estimate(healthy).text


def test_loss_at_the_start_that_is_too_high_or_too_low():
    sure = before.first_loss(make_case(patient(prepare=lambda x: x.astype(jnp.float32) * 16)))
    assert sure.problem and sure.evidence["measured"] > 2 * sure.evidence["expected"] + 1
    assert "before it has learnt anything" in sure.text

    def give_away(train, test):
        for records in (train, test):
            records["image"] = records["image"].astype(np.float32)
            records["image"][:, 0, 0, 0] = records["label"]

    def reads(model):
        answer = lambda x: 20 * jax.nn.one_hot(x[:, 0, 0, 0].astype(jnp.int32), 10)
        return model._replace(apply=lambda p, s, x, key=None, train=False: (
            model.apply(p, s, x, key=key, train=train)[0] + answer(x), {}))  # fmt: skip

    knows = before.first_loss(make_case(patient(change=give_away, wrap=reads)))
    assert knows.problem and "cannot be that good" in knows.text


def test_a_bias_that_begins_at_the_common_answer_is_no_leak():
    def rare(train, test):
        for records in (train, test):
            records["label"] = (np.arange(len(records["label"])) % 40 == 0).astype(np.int32)

    prior = lambda model: model._replace(apply=lambda p, s, x, key=None, train=False: (
        0.1 * model.apply(p, s, x, key=key, train=train)[0].at[:, 0].add(80), {}))  # fmt: skip
    found = before.first_loss(make_case(patient(change=rare, wrap=prior)))
    assert isinstance(found, Passed) and "inputs of other examples" in found.text, found


def test_a_model_too_small_to_learn_by_heart_is_only_worth_a_look():
    class Biases(nnx.Module):
        def __init__(self, rngs):
            self.bias = nnx.Param(jnp.zeros(10))

        def __call__(self, x, *, train, rngs=None):
            return jnp.broadcast_to(self.bias[...], (len(x), 10))

    found = before.overfits(make_case(patient(network=Biases)))
    assert isinstance(found, Finding) and not found.problem and "too small" in found.text


def test_a_training_loss_that_is_a_sum_is_told():
    made = patient()

    def loss(params, ctx):
        value, out = made.loss(params, ctx)
        mean = out.metrics["loss"]
        metrics = {**out.metrics, "loss": Mean(mean.sum * 64, mean.weight)}
        return metrics["loss"].value(), out._replace(metrics=metrics)

    found = before.first_loss(make_case(dataclasses.replace(made, loss=loss)))
    assert isinstance(found, Finding) and found.problem and "training loss begins at" in found.text


def test_a_detached_layer_is_named():
    found = before.gradients(make_case(patient(network=Detached)))
    assert isinstance(found, Finding) and found.problem
    assert found.evidence["parameters"] == found.evidence["used"] == ["first/bias", "first/kernel"]


def test_what_is_held_on_purpose_or_starts_at_zero_is_no_finding():
    labels = lambda params: {name: "held" if name == "layers" else "free" for name in params}
    made = patient()
    loss = lambda params, ctx: made.loss({**params, "layers": jax.lax.stop_gradient(params["layers"])}, ctx)
    held = dataclasses.replace(
        made, loss=loss, optimizer=optax.partition({"free": optax.adam(1e-3), "held": optax.set_to_zero()}, labels)
    )
    outcome = before.gradients(make_case(held))
    assert isinstance(outcome, Passed) and "2 are frozen by the optimizer" in outcome.text

    def start(params, stats):  # behind a head of zeros, the first gradients are 0
        return {**params, "head": jax.tree.map(jnp.zeros_like, params["head"])}, stats

    assert isinstance(before.gradients(make_case(patient(init_from=start))), Passed)
    assert isinstance(before.first_loss(make_case(patient(init_from=start))), Skipped)


def test_a_layer_that_nothing_uses_is_worth_a_look():
    class Spare(Detached):
        def __call__(self, x, *, train, rngs=None):
            return self.head(x.reshape(len(x), -1)[:, :32])

    found = before.gradients(make_case(patient(network=Spare)))
    assert not found.problem and found.evidence["used"] == [] and "first/kernel" in found.text


def test_gradients_that_are_not_finite_or_not_there():
    # The square root of 0 is finite, its derivative is not.
    root = through(lambda outputs, train: outputs + jnp.sqrt(outputs * 0) if train else outputs)
    found = before.gradients(make_case(patient(wrap=root)))
    assert found.problem and "not finite" in found.text
    found = before.gradients(make_case(patient(wrap=through(lambda outputs, train: jax.lax.stop_gradient(outputs)))))
    assert found.problem and "No parameter gets any gradient" in found.text


def test_labels_that_do_not_belong_to_their_inputs_cannot_be_learnt_by_heart():
    case = make_case(random_labels(patient()))
    found = before.overfits(case, steps=60)
    assert isinstance(found, Finding) and found.problem and found.evidence["best"] > 0.3 * np.log(10)
    assert isinstance(before.overfits(case, seconds=0), Skipped)


def test_examples_that_see_each_other_in_evaluation():
    leaky = through(lambda outputs, train: outputs - outputs.mean(0))
    found = before.separate(make_case(patient(wrap=leaky)))
    assert isinstance(found, Finding) and found.problem and "axis 0" in found.remedies[0]


def test_examples_that_see_each_other_in_training():
    leaky = through(lambda outputs, train: outputs - outputs.mean(0) if train else outputs)
    found = before.separate(make_case(patient(wrap=leaky)))
    assert isinstance(found, Finding) and not found.problem and "In training" in found.text

    class Normed(nnx.Module):
        def __init__(self, rngs):
            self.norm, self.head = BatchNorm(64), nnx.Linear(64, 10, rngs=rngs)

        def __call__(self, x, *, train, rngs=None):
            return self.head(self.norm(x.reshape(len(x), -1), train=train))

    outcome = before.separate(make_case(patient(network=Normed)))
    assert isinstance(outcome, Passed) and "BatchNorm" in outcome.text
    made = patient()

    def contrast(params, ctx):
        value, out = made.loss(params, ctx)
        return value, Out(out.stats, {**out.metrics, "loss": not_additive(out.metrics["loss"])})

    outcome = before.separate(make_case(dataclasses.replace(made, loss=contrast)))
    assert isinstance(outcome, Passed) and "by design" in outcome.text


def test_memory_that_is_not_there(healthy, monkeypatch):
    monkeypatch.setattr(before, "memory_of", lambda device: 1000)
    found = before.estimate(healthy)
    assert found.problem and found.evidence["needed"] > 1000 == found.evidence["there"]


def test_an_experiment_that_is_no_classifier_is_asked_what_applies():
    case = make_case(toys.experiment())  # its measure needs no target that is named so
    known = before.constant_baseline(case)
    assert known.metric == "mse" and known.classes is None
    silent = make_case(toys.experiment(evals={}, best=None))
    for check in (before.first_loss, before.overfits, before.separate):
        assert isinstance(check(silent), Skipped) and "no evaluation" in check(silent).text
    assert isinstance(before.gradients(silent), Passed)
