"""Preferences against the formula in numpy, in the limit of equal models, and at the optimum that is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import expit, log_softmax

from research import losses
from research.core import Ctx
from research.data.text.dialogue import preference_rows
from research.errors import UserError
from research.objectives.preference import preference

RNG = np.random.default_rng(0)
POLICY, REFERENCE = RNG.normal(size=(2, 6, 6)).astype(np.float32)
TOKENS = np.array([[[1, 2, 3, 4, 0], [1, 2, 5, 0, 0]], [[4, 3, 2, 1, 5], [4, 3, 1, 0, 0]]])
RESPONSE = np.array([[[0, 0, 1, 1, 0], [0, 0, 1, 0, 0]], [[0, 0, 0, 1, 1], [0, 0, 1, 0, 0]]])
SEGMENTS = (TOKENS > 0).astype(np.int32)
BATCH = {
    "tokens": TOKENS,
    "response": RESPONSE,
    "segments": SEGMENTS,
    "positions": np.zeros_like(TOKENS) + np.arange(5),
}
# (token before, token) of each response, by hand.
PAIRS = [[[(2, 3), (3, 4)], [(2, 5)]], [[(2, 1), (1, 5)], [(3, 1)]]]


def bigram(params, stats, tokens, segments, positions, *, key=None, train=False):
    return jnp.asarray(params)[tokens], {"seen": stats["seen"] + 1} if train else {}


def view(state):
    return state.stats["reference"], {}


def run(params, batch=BATCH, reference=REFERENCE, **options):
    ctx = Ctx(batch, {"seen": 0, "reference": reference}, jax.random.key(0), jnp.int32(0))
    loss = preference(bigram, bigram, view=view, **options)
    (value, out), grads = jax.jit(jax.value_and_grad(loss, has_aux=True))(params, ctx)
    return value, out, grads


def log_prob(table, pairs):
    return sum(log_softmax(table.astype(np.float64), -1)[pair] for pair in pairs)


def test_it_is_the_formula_of_dpo():
    value, out, _ = run(POLICY, per_pair=losses.dpo(0.5))
    chosen, rejected = ([log_prob(POLICY, pair[i]) for pair in PAIRS] for i in (0, 1))
    margins = np.array([
        log_prob(POLICY, w) - log_prob(REFERENCE, w) - log_prob(POLICY, r) + log_prob(REFERENCE, r) for w, r in PAIRS
    ])  # fmt: skip
    np.testing.assert_allclose(value, -np.log(expit(0.5 * margins)).mean(), rtol=1e-5)
    expected = {"margin": margins.mean(), "accuracy": (margins > 0).mean(), "chosen": np.mean(chosen)}
    for name, number in {**expected, "rejected": np.mean(rejected), "loss": value}.items():
        np.testing.assert_allclose(out.metrics[name].value(), number, rtol=1e-5)
    assert out.stats == {"seen": 1}
    masked, out, _ = run(POLICY, {**BATCH, "mask": np.array([0, 1])}, per_pair=losses.dpo(0.5))
    np.testing.assert_allclose(masked, -np.log(expit(0.5 * margins[1])), rtol=1e-5)
    assert out.metrics["loss"].weight == 1


def test_equal_models_have_no_margin_and_the_gradient_raises_the_chosen():
    """At the start, the gradient is -beta / 2 times that of log p(chosen) - log p(rejected) (equation 8)."""
    value, out, grads = run(REFERENCE)
    np.testing.assert_allclose(value, np.log(2), rtol=1e-6)
    assert out.metrics["accuracy"].value() == 0.5

    def difference(table):
        logs = jax.nn.log_softmax(table)
        return sum(sum(logs[p] for p in w) - sum(logs[p] for p in r) for w, r in PAIRS) / len(PAIRS)

    np.testing.assert_allclose(grads, -0.1 / 2 * jax.grad(difference)(REFERENCE), rtol=1e-4, atol=1e-7)


def test_the_optimum_is_the_tilted_reference():
    """Section 4: if preferences follow Bradley & Terry with a reward r, reference * exp(r / beta) is stationary."""
    beta, reward = 0.5, RNG.normal(size=6)
    best = (REFERENCE + reward / beta).astype(np.float32)
    # Every ordered pair of one-token responses to the prompt 1, repeated as often as the preference has it.
    grads = 0
    for a in range(1, 6):
        for b in range(1, 6):
            tokens = np.array([[[1, a], [1, b]]])
            batch = {"tokens": tokens, "response": np.array([[[0, 1], [0, 1]]]), "segments": np.ones_like(tokens),
                     "positions": np.zeros_like(tokens)}  # fmt: skip
            grads = grads + expit(reward[a] - reward[b]) * run(best, batch, per_pair=losses.dpo(beta))[2]
    np.testing.assert_allclose(grads, 0, atol=1e-5)


def test_rows_of_preferences_train():
    prompts = [[{"role": "user", "content": "ab"}], [{"role": "user", "content": "c"}]]
    rows = preference_rows(prompts, ["x", "yy"], ["z", "w"], length=40, encode=lambda text: [ord(c) for c in text])
    table = RNG.normal(size=(128, 128)).astype(np.float32)
    _, out, _ = run(table, rows.columns, reference=table)
    assert out.metrics["loss"].weight == 2
    logs = log_softmax(table.astype(np.float64), -1)
    expected = [sum(logs[ord(a), ord(b)] for a, b in zip(f" {t}", f"{t}\n", strict=True)) for t in ("x", "yy")]
    np.testing.assert_allclose(out.metrics["chosen"].value(), np.mean(expected), rtol=1e-5)


def test_a_batch_without_pairs_is_an_error():
    with pytest.raises(UserError, match=r"'tokens' has the shape \[2, 5\]; expected \[batch, 2, time\]"):
        run(POLICY, {name: x[:, 0] for name, x in BATCH.items()})
    with pytest.raises(UserError, match="response"):
        run(POLICY, {name: x for name, x in BATCH.items() if name != "response"})
