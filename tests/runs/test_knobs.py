"""Knobs: what a typed signature gives a command line, and how it answers mistakes."""

from pathlib import Path
from typing import Literal

import pytest

from research import duration
from research.errors import UserError
from research.runs.knobs import Parser, add_arguments, knobs_of, resolve


def experiment(
    *,
    network: Literal["mlp", "cnn"] = "mlp",
    learning_rate: float = 1e-3,
    steps: int = 10,
    widths: tuple[int, ...] = (8, 8),
    augment: bool = True,
    length: duration.Duration = duration.epochs(2),
    folder: Path | None = None,
):
    """An experiment.

    learning_rate: the peak; 5 % of it is left at the end
    """


def parsed(*arguments):
    parser, knobs = Parser(prog="prog"), knobs_of(experiment)
    add_arguments(parser, knobs)
    return resolve(knobs, vars(parser.parse_args(list(arguments))))


def test_defaults_and_every_kind_of_value():
    assert parsed() == {
        "network": "mlp", "learning_rate": 1e-3, "steps": 10, "widths": (8, 8), "augment": True,
        "length": duration.epochs(2), "folder": None,
    }  # fmt: skip
    given = parsed("--network=cnn", "--learning_rate", "1", "--steps", "1e3", "--widths=(4,5,)", "--no-augment",
                   "--length", "10%", "--folder=a_b")  # fmt: skip
    assert given == {
        "network": "cnn", "learning_rate": 1.0, "steps": 1000, "widths": (4, 5), "augment": False,
        "length": duration.percent(10), "folder": Path("a_b"),
    }  # fmt: skip
    assert isinstance(given["learning_rate"], float) and isinstance(given["steps"], int)
    assert parsed("--augment")["augment"] is True and parsed("--augment=false", "--folder=none")["augment"] is False
    assert parsed("--learning-rate=-2.5")["learning_rate"] == -2.5
    assert parsed("--learning-rate", "-1e-3")["learning_rate"] == -1e-3 and parsed("--widths", "-1,2")["widths"] == (
        -1,
        2,
    )


def test_a_notebooks_values_are_held_to_the_same_types():
    knobs = knobs_of(experiment)
    assert resolve(knobs, {"learning_rate": 1, "widths": [3], "length": "3epochs"})["length"] == duration.epochs(3)
    for wrong in ({"steps": 1.5}, {"steps": True}, {"augment": 1}, {"network": 3}):
        with pytest.raises(UserError):
            resolve(knobs, wrong)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--learning-rat", "1"], "Did you mean '--learning-rate'"),
        (["--network", "cn"], "Did you mean 'cnn'"),
        (["--steps", "1.5"], "steps must be int, not '1.5'"),
        (["--augment=perhaps"], "true or false"),
        (["--length", "3 epoc"], "Did you mean 'epochs'"),
        (["--steps"], "expected one argument"),
    ],
)
def test_mistakes_name_what_was_expected(arguments, message):
    with pytest.raises(UserError, match=message):
        parsed(*arguments)
    with pytest.raises(UserError, match="Did you mean 'learning_rate'"):
        resolve(knobs_of(experiment), {"learning_rte": 1})


def test_help_shows_every_knob_with_its_default_and_its_line(capsys):
    parser = Parser(prog="prog")
    add_arguments(parser, knobs_of(experiment))
    with pytest.raises(SystemExit):
        parser.parse_args(["--help"])
    shown = capsys.readouterr().out
    assert "--learning-rate FLOAT" in shown
    assert "5 % of it is left at the end (default 0.001)" in " ".join(shown.split())
    assert "MLP|CNN" in shown and "(8, 8)" in shown


def test_functions_that_cannot_be_knobs_are_refused():
    def positional(width: int = 1): ...

    def untyped(*, width=1): ...

    def required(*, width: int): ...

    for function in (positional, untyped):
        with pytest.raises(UserError, match="'width' of .* must be keyword-only and have a type"):
            knobs_of(function)
    with pytest.raises(UserError, match="no default; set --width"):
        resolve(knobs_of(required), {})
