import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research import losses
from research.core import Ctx, NotAdditive, Trained
from research.errors import UserError
from research.metrics.survival import concordance, concordance_index, measure_survival
from research.objectives.survival import survival
from tests.truth import load

TRUTH = load("survival")
X, W, TIMES, EVENTS = (TRUTH[name] for name in ("features", "weights", "times", "events"))


def linear(params, stats, x, *, key=None, train=False):
    return (x @ params)[:, None], stats


@pytest.mark.parametrize("ties", ["breslow", "efron"])
def test_loss_and_gradient_are_those_of_cox_regression(ties):
    total = jax.jit(jax.value_and_grad(lambda w: losses.cox(X @ w, TIMES, EVENTS, ties=ties).sum()))
    value, gradient = total(W)
    np.testing.assert_allclose(value, TRUTH[f"{ties}_loss"], rtol=1e-5)
    np.testing.assert_allclose(gradient, TRUTH[f"{ties}_gradient"], rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(total(TRUTH[f"{ties}_fitted"].astype(np.float32))[1], 0, atol=1e-3)


def test_padding_is_not_at_risk_and_large_hazards_are_finite():
    padded = lambda a, fill: np.concatenate([a, np.full((5, *a.shape[1:]), fill, a.dtype)])
    batch = {
        "features": padded(X, 9),
        "time": padded(TIMES, 99),
        "event": padded(EVENTS, True),
        "mask": np.arange(45) < 40,
    }
    value, out = jax.jit(lambda w: survival(linear)(w, Ctx(batch, {"kept": 1}, jax.random.key(0), 0)))(W)
    np.testing.assert_allclose(value, TRUTH["efron_loss"] / EVENTS.sum(), rtol=1e-5)
    np.testing.assert_allclose(out.metrics["events"].value(), EVENTS.mean(), rtol=1e-6)
    assert isinstance(out.metrics["loss"], NotAdditive) and out.stats == {"kept": 1}
    shifted = losses.cox(jnp.asarray(X @ W) + 300, TIMES, EVENTS)
    np.testing.assert_allclose(shifted.sum(), TRUTH["efron_loss"], rtol=1e-4)
    assert (shifted[~EVENTS] == 0).all()


def test_concordance_is_that_of_scikit_survival():
    np.testing.assert_allclose(concordance_index(TRUTH["hazards"], TIMES, EVENTS), TRUTH["c_index"], rtol=1e-12)
    batch = {"features": X, "time": TIMES, "event": EVENTS}
    rows = measure_survival()(Trained(linear, W, {}), batch)["rows"].values
    np.testing.assert_allclose(concordance()({"rows": rows})["c_index"], concordance_index(X @ W, TIMES, EVENTS))
    assert np.isnan(concordance_index(TRUTH["hazards"], TIMES, 0 * EVENTS))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: losses.cox(X @ W, TIMES, EVENTS, ties="efrom"), "unknown ties 'efrom'.*efron"),
        (lambda: losses.cox(X @ W, TIMES[:, None], EVENTS), r"\[40, 1\].*expected \[batch\] each"),
        (lambda: concordance_index(np.array([np.nan]), np.ones(1), np.ones(1)), "finite log hazards"),
        (lambda: concordance()({"loss": 1}), "needs the rows of measure_survival"),
        (lambda: measure_survival()(Trained(lambda p, s, x, train: (x, {}), {}, {}), {"features": X, "time": TIMES,
                                    "event": EVENTS}), r"returns \[40, 3\]; expected log hazards \[40\]"),
    ],
)  # fmt: skip
def test_what_is_no_survival_is_an_error(make, message, monkeypatch):
    import jaxtyping

    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(UserError, match=message):
        make()
