import math

import numpy as np
import pytest

from research.errors import UserError
from research.optim.schedules import step_decay, warmup_cosine, warmup_linear


def test_warmup_cosine_by_hand():
    value = warmup_cosine(2.0, steps=110, warmup=10, end=0.5)
    assert [float(value(step)) for step in (0, 5, 10, 60, 110, 200)] == pytest.approx([0, 1, 2, 1.25, 0.5, 0.5])
    assert float(value(35)) == pytest.approx(0.5 + 1.5 * (1 + math.cos(math.pi / 4)) / 2)
    plain = warmup_cosine(2.0, steps=100)
    assert [float(plain(step)) for step in (0, 50, 100)] == pytest.approx([2, 1, 0], abs=1e-6)


def test_warmup_linear_by_hand():
    value = warmup_linear(2.0, steps=110, warmup=10, end=0.5)
    assert [float(value(step)) for step in (0, 5, 10, 60, 110, 200)] == pytest.approx([0, 1, 2, 1.25, 0.5, 0.5])
    plain = warmup_linear(2.0, steps=100)
    assert [float(plain(step)) for step in (0, 25, 100)] == pytest.approx([2, 1.5, 0])


def test_a_warm_up_as_long_as_the_run_is_an_error():
    with pytest.raises(UserError, match="a warm-up of 10 steps in a run of 10"):
        warmup_cosine(1.0, steps=10, warmup=10)
    with pytest.raises(UserError, match="a warm-up of 10 steps in a run of 10"):
        warmup_linear(1.0, steps=10, warmup=10)


def test_step_decay_falls_at_the_steps():
    value = step_decay(0.1, at=(32_000, 48_000))
    assert [float(value(s)) for s in (0, 31_999, 32_000, 47_999, 48_000, 64_000)] == pytest.approx(
        [0.1, 0.1, 0.01, 0.01, 0.001, 0.001]
    )


def test_a_learning_rate_of_0_is_a_schedule():
    for warmup in (0, 3):
        schedule = warmup_cosine(0.0, steps=10, warmup=warmup)
        np.testing.assert_array_equal([float(schedule(step)) for step in (0, 1, 5, 10, 12)], 0)
    with pytest.raises(UserError, match="a warm-up of -1 steps in a run of 10"):
        warmup_cosine(0.1, steps=10, warmup=-1)
