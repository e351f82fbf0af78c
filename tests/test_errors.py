"""Numbers out of range are refused with the stated range."""

import numpy as np
import pytest

from research.augment.rand_augment import rand_augment
from research.errors import UserError, check_range
from research.objectives.alignment import alignment
from research.objectives.byol import byol
from research.objectives.elastic import elastic
from research.objectives.mix import cutmix, mixup
from research.objectives.moco import moco
from research.optim.ema import ema


@pytest.mark.parametrize("value, lowest, highest, fits", [
    (0, 0, 1, True), (1.0, 0, 1, True), (1.5, 0, 1, False), (-1e-9, 0, 1, False), (float("nan"), 0, 1, False),
    (7, 0, np.inf, True), (np.inf, 0, np.inf, False), (lambda step: 5, 0, 1, True),
])  # fmt: skip
def test_a_number_is_in_its_range(value, lowest, highest, fits):
    if fits:
        check_range("f", x=(value, lowest, highest))
    else:
        with pytest.raises(UserError, match=r"f\(x=.*\); expected"):
            check_range("f", x=(value, lowest, highest))


@pytest.mark.parametrize("make, message", [
    (lambda: ema(1.5), r"ema\(decay=1.5\); expected 0 to 1"),
    (lambda: alignment([1, 1], decay=-0.1), r"alignment\(decay=-0.1\); expected 0 to 1"),
    (lambda: alignment([1.0, -1.0]), r"alignment\(shares=\[1.0, -1.0\]\); expected a frequency"),
    (lambda: alignment([0.0, 0.0]), "expected a frequency"),
    (lambda: mixup(None, alpha=-1, num_classes=2), r"mixup\(alpha=-1\); expected a finite number of at least 0"),
    (lambda: cutmix(None, alpha=np.nan, num_classes=2), r"cutmix\(alpha=nan\); expected a finite number"),
    (lambda: elastic(None, {}, strength=-1), r"elastic\(strength=-1\); expected"),
    (lambda: elastic(None, {}, strength=1, decay=-2), r"elastic\(decay=-2\); expected"),
    (lambda: moco(None, view=None, width=2, momentum=1.1), r"moco\(momentum=1.1\); expected 0 to 1"),
    (lambda: byol(None, None, view=None, momentum=-1), r"byol\(momentum=-1\); expected 0 to 1"),
    (lambda: rand_augment(np.random.default_rng(0), np.zeros((4, 4, 3), np.uint8), layers=-1), r"layers=-1"),
])  # fmt: skip
def test_techniques_state_their_ranges(make, message, monkeypatch):
    # Without the check of annotations, as outside the tests.
    monkeypatch.setattr("jaxtyping.config.jaxtyping_disable", True)
    with pytest.raises(UserError, match=message):
        make()
