"""Tests of a difference: against scipy and textbooks, and how often they cry wolf."""

import math

import numpy as np
import pytest
from scipy import stats

from research.errors import UserError
from research.metrics.difference import holm, mcnemar, over_seeds, paired_bootstrap, welch


def hits(both=0, base=0, new=0, neither=0):
    """Base and new hits with so many examples that both, one, or neither has right."""
    return np.repeat([1, 1, 0, 0], [both, base, new, neither]), np.repeat([1, 0, 1, 0], [both, base, new, neither])


@pytest.mark.parametrize(("lost", "gained"), [(0, 1), (5, 0), (2, 9), (3, 12), (12, 3), (40, 41)])
def test_mcnemar_is_the_binomial_test_of_the_discordant_pairs(lost, gained):
    found = mcnemar(*hits(100, lost, gained, 20))
    assert found.p == pytest.approx(stats.binomtest(gained, lost + gained).pvalue)
    assert found.value == pytest.approx((gained - lost) / (120 + lost + gained))
    assert (found.p < 0.05) <= (not found.low <= 0 <= found.high)  # what is shown is never 0
    assert found.p < 0.05 or found.low <= 0 <= found.high


def test_mcnemar_of_a_textbook():
    # Agresti 2002, table 10.1, approval of 1600: 794, 150, 86, 570; the difference is -0.04, 95 % -0.06 to -0.02.
    found = mcnemar(*hits(794, 150, 86, 570))
    assert found.value == -0.04 and found.p == pytest.approx(3.7e-5, rel=0.05)
    assert (found.low, found.high) == pytest.approx((-0.0587, -0.0213), abs=1e-3)


def test_networks_that_never_disagree_do_not_differ():
    found = mcnemar(*hits(90, 0, 0, 10))
    assert (found.value, found.p) == (0, 1) and -0.04 < found.low < 0 < found.high < 0.04


def test_mcnemar_cries_wolf_in_a_twentieth_at_most_also_at_a_margin():
    rng, alarms, covered, total = np.random.default_rng(0), 0, 0, 250
    for _ in range(total):
        u = rng.random(300)
        base, new = u >= 0.04, (u < 0.02) | (u >= 0.06)  # 4 % gained 2 %, lost 4 %: truly -0.02 + 0.02
        found = mcnemar(base, new, confidence=0.9)
        truth = 0.02 - 0.02
        alarms += found.high < truth
        covered += found.low <= truth <= found.high
    assert alarms / total <= 0.05 and covered / total >= 0.9


def test_the_paired_bootstrap_agrees_with_the_t_test_where_that_is_right():
    rng = np.random.default_rng(1)
    base = rng.normal(size=400)
    new = base + rng.normal(0.1, 1, size=400)
    found, exact = paired_bootstrap(base, new), stats.ttest_rel(new, base)
    wanted = exact.confidence_interval()
    assert found.value == pytest.approx((new - base).mean())
    assert found.p == pytest.approx(exact.pvalue, rel=0.2)
    assert (found.low, found.high) == pytest.approx((wanted.low, wanted.high), abs=0.01)
    assert paired_bootstrap(base, new) == found and paired_bootstrap(base, new, seed=1).p != found.p
    turned = paired_bootstrap(new, base)
    assert (turned.low, turned.high) == pytest.approx((-found.high, -found.low))


def test_the_paired_bootstrap_follows_a_skewed_loss():
    rng, outside = np.random.default_rng(2), []
    for _ in range(80):
        found = paired_bootstrap(np.ones(40), rng.exponential(size=40))
        outside.append((found.low > 0) - (found.high < 0))
    assert np.mean(np.abs(outside)) < 0.1  # by a twentieth of them; a test that knows no skew is out more often


def test_scores_that_are_the_same_and_scores_that_all_shift():
    same = np.linspace(0, 1, 9)
    assert paired_bootstrap(same, same).p == 1 and paired_bootstrap(same, same).value == 0
    # Without spread, the chance that all signs agree.
    assert paired_bootstrap(same, same + 1).p == 2.0 ** (1 - len(same))
    few = paired_bootstrap([0.5, 0.25], [0.75, 0.5])
    assert few.p == 0.5 and few.low == -np.inf and few.high == np.inf


def test_unpaired_is_welch_and_for_hits_agresti_caffo():
    rng = np.random.default_rng(3)
    base, new = rng.normal(size=30), rng.normal(0.5, 2, size=50)
    exact = stats.ttest_ind(new, base, equal_var=False)
    wanted, found = exact.confidence_interval(), welch(base, new)
    assert (found.p, found.low, found.high) == pytest.approx((exact.pvalue, wanted.low, wanted.high))
    base, new = np.ones(100), np.repeat([1, 0], [95, 5])
    found = welch(base, new)
    assert found.value == pytest.approx(-0.05) and found.p > 0.05  # Fisher's exact test: 0.059
    a, b = 101 / 102, 96 / 102
    half = 1.96 * math.sqrt(a * (1 - a) / 102 + b * (1 - b) / 102)
    assert found.low == pytest.approx(b - a - half, abs=1e-3)


def test_over_seeds_is_welch_or_student_with_a_single_seed():
    base, new = [0.97, 0.96, 0.975], [0.93, 0.94, 0.90, 0.95]
    exact = stats.ttest_ind(new, base, equal_var=False)
    found = over_seeds(base, new)
    assert found.p == pytest.approx(exact.pvalue) and found.low == pytest.approx(exact.confidence_interval().low)
    alone = over_seeds(base, [0.9])
    student = stats.ttest_ind_from_stats(0.9, 0, 1, np.mean(base), np.std(base, ddof=1), 3)
    assert alone.p == pytest.approx(student.pvalue)
    assert over_seeds([0.9], base).value == pytest.approx(-alone.value)
    assert over_seeds([500, 500], [500, 500]).p == 1 and over_seeds([500] * 5, [9] * 5).p == 2 / 252
    tied = over_seeds([350 / 360] * 2, [351 / 360])  # one example more, of two seeds and one
    assert tied.p == 2 / 3 and tied.low == -np.inf and tied.value > 0
    with pytest.raises(UserError, match="one seed on each side"):
        over_seeds([0.9], [0.8])


def test_over_seeds_cries_wolf_in_a_twentieth():
    values = np.random.default_rng(4).normal(size=(500, 6))
    alarms = np.mean([over_seeds(row[:3], row[3:]).p < 0.05 for row in values])
    assert 0.02 < alarms <= 0.07


def test_holm_corrects_as_in_the_paper_and_leaves_out_what_was_not_tested():
    found = holm([0.01, 0.04, math.nan, 0.03, 0.005])
    np.testing.assert_allclose(found, [0.03, 0.06, np.nan, 0.06, 0.02])
    assert holm([0.5, 0.9]).tolist() == [1, 1] and holm([]).size == 0


def test_holm_keeps_the_chance_of_any_false_alarm():
    ps = np.random.default_rng(5).random((2000, 8))
    alarms = np.mean([(holm(row) < 0.05).any() for row in ps])
    assert 0.035 < alarms < 0.065


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: mcnemar([1, 0], [1]), "2 and 1 examples do not pair"),
        (lambda: mcnemar([], []), "expected at least 1"),
        (lambda: paired_bootstrap([1.0], [2.0]), "expected at least 2"),
        (lambda: paired_bootstrap([1.0, np.nan], [2.0, 1.0]), "with 1 not finite"),
        (lambda: welch([1.0], [2.0, 3.0]), "expected at least 2"),
    ],
)
def test_what_cannot_be_tested_is_refused(call, match):
    with pytest.raises(UserError, match=match):
        call()
