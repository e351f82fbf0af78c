"""The advice for loaded weights and few examples."""

import pytest

from research.data import arrays, batches, generated
from research.diagnose.case import make_case
from research.diagnose.finding import Finding
from research.diagnose.outcome import Passed, Skipped
from research.diagnose.transfer import last_layers
from research.wrappers.frozen import frozen
from tests.diagnose.patients import patient, records


def few(number):
    return batches(arrays(**{name: column[:number] for name, column in records(0).items()}), 32)


LOADED = lambda params, stats: (params, stats)


def test_few_examples_for_all_layers_are_worth_a_look():
    found = last_layers(make_case(patient(init_from=LOADED, source=few(300))))
    assert isinstance(found, Finding) and not found.problem
    assert "300 training examples train 2,410 of 2,410 parameters" in found.text
    assert "tune the last layers only: frozen" in found.remedies[0] and "the last of head, layers" in found.remedies[0]


def many():
    return batches(arrays(**{name: [column[0]] * 1000 for name, column in records(0).items()}), 32)


def endless():
    batch = {name: column[:32] for name, column in records(0).items()}
    return generated(lambda seed: lambda step: batch, 32)


def headed(model):
    return frozen(model, "^layers")


@pytest.mark.parametrize(
    ("changes", "outcome", "text"),
    [
        ({"source": few(300)}, Skipped, "the weights are not loaded"),
        ({"init_from": LOADED, "source": few(300), "wrap": headed}, Passed, "train 330 of 2,410 parameters"),
        ({"init_from": LOADED, "source": many()}, Passed, "1,000 training examples train"),
        ({"init_from": LOADED, "source": endless()}, Skipped, "the number of training examples is unknown"),
    ],
)
def test_other_experiments_are_left_alone(changes, outcome, text):
    found = last_layers(make_case(patient(**changes)))
    assert isinstance(found, outcome) and text in found.text
