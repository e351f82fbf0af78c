import jax.numpy as jnp
import numpy as np
import pytest

from research.decoding.rules import applied, min_p, repetition, started, temperature, top_k, top_p, updated
from research.errors import UserError
from tests.truth import load

TRUTH = load("transformers_logits")
RULES = {
    "temperature": temperature(0.7), "top_k": top_k(3), "top_p_0.3": top_p(0.3), "top_p_0.9": top_p(0.9),
    "min_p": min_p(0.1), "repetition": repetition(1.7),
}  # fmt: skip


@pytest.mark.parametrize("name", RULES)
def test_a_rule_equals_the_processor_of_transformers(name):
    rules, tokens, scores = (RULES[name],), TRUTH["tokens"], jnp.asarray(TRUTH["scores"])
    # The last token of each row comes later, and the prompts are padded.
    prompts = np.pad(tokens[:, :4], ((0, 0), (0, 2)))
    memory = started(rules, prompts, lengths=np.full(4, 4), vocabulary=12, room=5)
    memory = updated(rules, memory, tokens[:, 4])
    np.testing.assert_allclose(applied(rules, memory, scores), TRUTH[name], rtol=1e-6)


def test_rules_apply_in_order():
    logits = jnp.log(jnp.array([[0.5, 0.3, 0.2]]))
    both = lambda *rules: np.asarray(applied(rules, ((), ()), logits))
    assert np.isinf(both(top_p(0.6), temperature(0.01))).tolist() == [[False, False, True]]
    assert np.isinf(both(temperature(0.01), top_p(0.6))).tolist() == [[False, True, True]]


@pytest.mark.parametrize(
    ("make", "value"),
    [(temperature, 0), (top_k, 0), (top_p, 0), (top_p, 1.1), (min_p, -1), (repetition, 0), (temperature, float("nan"))],
)
def test_values_out_of_range_are_errors(make, value):
    with pytest.raises(UserError, match="expected"):
        make(value)
