import jax
import numpy as np
import pytest
from scipy.special import expit

from research import losses
from research.errors import UserError

MARGINS = np.array([-30.0, -2.0, 0.0, 0.5, 40.0], np.float32)


def test_dpo_is_equation_7_and_its_mean_over_noisy_preferences():
    for beta, e in ((0.1, 0.0), (0.5, 0.2)):
        expected = -(1 - e) * np.log(expit(beta * MARGINS)) - e * np.log(expit(-beta * MARGINS))
        np.testing.assert_allclose(losses.dpo(beta, smoothing=e)(MARGINS), expected, rtol=1e-5)
    slope = jax.grad(lambda h: losses.dpo(0.5)(h))(0.0)
    np.testing.assert_allclose(slope, -0.25)


@pytest.mark.parametrize(("make", "best"), [(losses.dpo(0.5, smoothing=0.2), np.log(4) / 0.5), (losses.ipo(0.5), 1.0)])
def test_the_minimum_is_where_the_papers_put_it(make, best):
    """Of dpo, at the log-odds of the preference over beta; of ipo, at 1 / (2 beta)."""
    np.testing.assert_allclose(jax.grad(make)(np.float32(best)), 0, atol=1e-6)
    assert jax.grad(make)(np.float32(best + 1)) > 0 > jax.grad(make)(np.float32(best - 1))


def test_options_out_of_range_are_errors():
    for make in (losses.dpo, losses.ipo):
        with pytest.raises(UserError, match=r"\(beta=0\); expected a finite number above 0"):
            make(0)
    with pytest.raises(UserError, match="smoothing=0.7"):
        losses.dpo(smoothing=0.7)
