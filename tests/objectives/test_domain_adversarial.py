"""Domain-adversarial training against the two players' own gradients, written without a reversal layer."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.core import Ctx, draw
from research.errors import UserError
from research.losses import cross_entropy
from research.objectives.classify import classify
from research.objectives.domain_adversarial import adversary_strength, domain_adversarial
from tests.objectives.test_mmd import BATCH, PARAMS, classifier, encoder, run, whole_model

W = {**PARAMS, "discriminator": np.random.default_rng(3).normal(size=(5, 2)).astype(np.float32)}


def judge(params, stats, x, *, key=None, train=False):
    return x @ params, {}


def adversarial(**arguments):
    return domain_adversarial(encoder, classifier, discriminator=judge, **arguments)


def task(params):
    return run(classify(whole_model), params=params)[0]


def domains(params):
    """Mean over rows of the domain loss: half of the source's, half of the mean of its target examples'."""
    source = encoder(params["encoder"], {}, BATCH["image"])[0] @ params["discriminator"]
    target = encoder(params["encoder"], {}, BATCH["unlabelled"].reshape(12, 4))[0] @ params["discriminator"]
    zeros, ones = jnp.zeros(6, int), jnp.ones(12, int)
    return (cross_entropy(source, zeros).mean() + cross_entropy(target, ones).mean()) / 2


@functools.cache
def players():
    """(value, gradient) of the task and of the domains."""
    return jax.jit(lambda p: (jax.value_and_grad(task)(p), jax.value_and_grad(domains)(p)))(W)


@functools.partial(jax.jit, static_argnames="strength")
def ascended(strength, step=0):
    """((value, out), gradient) of the loss."""
    return jax.value_and_grad(lambda p: run(adversarial(strength=strength), params=p, step=step), has_aux=True)(W)


def test_each_player_follows_its_own_gradient():
    (value, out), found = ascended(0.3)
    (task_value, of_task), (domain_value, of_domain) = players()
    np.testing.assert_allclose(value, task_value + domain_value, rtol=1e-5)
    np.testing.assert_allclose(out.metrics["domain_loss"].value(), domain_value, rtol=1e-5)
    assert out.metrics["loss"].weight == 6 and out.stats == {"seen": 5}
    expected = {
        "encoder": of_task["encoder"] - 0.3 * of_domain["encoder"],
        "classifier": of_task["classifier"],
        "discriminator": of_domain["discriminator"],
    }
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), found, expected)


def test_without_strength_encoder_and_classifier_train_as_on_the_source_alone():
    found, plain = ascended(0.0)[1], players()[0][1]
    for name in ("encoder", "classifier"):
        np.testing.assert_allclose(found[name], plain[name], rtol=1e-4, atol=1e-6)
    assert np.abs(found["discriminator"]).max() > 1e-3


def test_the_strength_follows_its_schedule():
    schedule = adversary_strength(100, peak=0.5)
    steps = np.array([0, 25, 50, 100])
    np.testing.assert_allclose(schedule(steps), 0.5 * (2 / (1 + np.exp(-10 * steps / 100)) - 1), rtol=1e-5, atol=1e-7)
    for step in (0, 50):
        at_step = ascended(float(schedule(step)))[1]["encoder"]
        np.testing.assert_allclose(ascended(schedule, step)[1]["encoder"], at_step, rtol=1e-5)


def test_padding_counts_in_nothing_and_the_domain_accuracy_is_a_share():
    mask = np.array([1, 1, 1, 1, 0, 0])
    loss = adversarial(strength=0.3)
    found, out = run(loss, {**BATCH, "mask": mask}, W)
    expected, fewer = run(loss, {name: x[:4] for name, x in BATCH.items()}, W)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    logits = np.tanh(BATCH["image"][:4] @ W["encoder"]) @ W["discriminator"]
    others = np.tanh(BATCH["unlabelled"][:4].reshape(8, 4) @ W["encoder"]) @ W["discriminator"]
    share = (np.mean(np.argmax(logits, -1) == 0) + np.mean(np.argmax(others, -1) == 1)) / 2
    for metrics in (out.metrics, fewer.metrics):
        np.testing.assert_allclose(metrics["domain_accuracy"].value(), share, rtol=1e-6)


def test_every_model_gets_a_key_of_its_own_that_changes_with_the_step():
    @jax.jit
    def drawn(key):
        keys = []

        def noting(apply):
            def noted(*args, key=None, train=False):
                keys.append(jax.random.key_data(key))
                return apply(*args, train=train)

            return noted

        loss = domain_adversarial(noting(encoder), noting(classifier), discriminator=noting(judge), strength=1.0)
        loss(W, Ctx(BATCH, {"seen": jnp.int32(0)}, key, jnp.int32(0)))
        return jnp.stack(keys)

    assert len(np.unique(np.concatenate([drawn(draw(seed)) for seed in (0, 1)]), axis=0)) == 6


def test_a_wrong_batch_is_an_error():
    with pytest.raises(UserError, match="unlabelled"):
        run(adversarial(strength=1.0), {**BATCH, "unlabelled": BATCH["image"]}, W)
