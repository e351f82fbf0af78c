"""Trackers: one interface, and extras that say which one is missing."""

import importlib.util

import pytest

from research import events
from research.errors import UserError
from research.evaluate import to_results
from research.tracking import trackers


def test_every_number_reaches_a_tracker_under_its_name():
    found, closed = {}, []
    tell = trackers.scalar_writer(lambda step, numbers: found.update({(k, step): v for k, v in numbers.items()}),
                                  lambda: closed.append(True))  # fmt: skip
    tell(events.Interval(10, {"loss": 0.5}, {"steps_per_second": 3.0}))
    tell(events.Evaluated(10, "valid", to_results({"accuracy": 0.9, "text": "words", "matrix": [[1, 2]]})))
    tell(events.Saved(10))
    assert found == {("train/loss", 10): 0.5, ("timing/steps_per_second", 10): 3.0, ("valid/accuracy", 10): 0.9}
    assert not closed
    tell(events.Ended(10, "finished", {}))
    assert closed


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_a_missing_extra_is_named(name, tmp_path):
    if importlib.util.find_spec(name):
        pytest.skip(f"{name} is installed here")
    with pytest.raises(UserError, match=rf"research\[{name}\]"):
        getattr(trackers, name)("project")(tmp_path, {"knobs": {}})
