"""Knobs: what a typed signature gives a command line, and how it answers mistakes."""

import json
from pathlib import Path
from typing import Literal

import hypothesis
import pytest
from hypothesis import strategies as st

from research import duration
from research.errors import UserError
from research.runs.experiment_file import load
from research.runs.folder import find_run
from research.runs.knobs import Parser, add_arguments, as_option, knobs_of, plain, resolve


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


def every_kind(
    *,
    choice: Literal["a", "b,c", 3] = "a",
    rate: float = 1.0,
    count: int = 1,
    flag: bool = True,
    text: str = "",
    path: Path = Path("."),
    length: duration.Duration = duration.steps(1),
    width: int | None = None,
    words: tuple[str, ...] = (),
    widths: tuple[int, ...] = (),
    rates: tuple[float, ...] | None = (),
    paths: tuple[Path, ...] = (),
    choices: tuple[Literal["x", "y"], ...] = (),
):
    """Every kind of knob."""


UNITS = ["steps", "epochs", "examples", "percent"]
PATHS = st.text(min_size=1).map(Path)
FLOATS = st.floats(allow_nan=False)


# The first texts take seconds, because Hypothesis then builds its table of characters.
@hypothesis.settings(deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
@hypothesis.given(
    st.fixed_dictionaries(
        {},
        optional={
            "choice": st.sampled_from(["a", "b,c", 3]), "rate": FLOATS, "count": st.integers(), "flag": st.booleans(),
            "text": st.text(), "path": PATHS, "width": st.none() | st.integers(),
            "length": st.builds(duration.Duration, st.floats(1e-9, 1e18), st.sampled_from(UNITS)),
            "words": st.lists(st.text()).map(tuple), "widths": st.lists(st.integers()).map(tuple),
            "rates": st.none() | st.lists(FLOATS).map(tuple), "paths": st.lists(PATHS).map(tuple),
            "choices": st.lists(st.sampled_from(["x", "y"])).map(tuple),
        },
    )
)  # fmt: skip
def test_knobs_return_from_a_run_folder_and_from_a_command_line_as_they_were(given):
    knobs = knobs_of(every_kind)
    values = resolve(knobs, given)
    assert {name: values[name] for name in given} == given
    stored = json.loads(json.dumps(plain(values), allow_nan=False))
    again = resolve(knobs, stored)
    assert again == values and list(map(type, again.values())) == list(map(type, values.values()))
    parser = Parser(prog="prog")
    add_arguments(parser, knobs)
    options = [f"--{name}={as_option(value)}" for name, value in stored.items()]
    assert resolve(knobs, vars(parser.parse_args(options))) == values


def test_durations_that_differ_are_told_apart():
    texts = {str(duration.steps(n)) for n in (1234567, 1234568, 1e15, 1e15 + 1)}
    assert texts == {"1234567 steps", "1234568 steps", "1000000000000000 steps", "1000000000000001 steps"}
    assert duration.parse(str(duration.epochs(1 / 3))) == duration.epochs(1 / 3)
    assert str(duration.percent(10)) == "10%" and str(duration.epochs(2.5)) == "2.5 epochs"


def test_a_value_that_no_run_folder_can_hold_is_refused():
    with pytest.raises(UserError, match="knob 'x' is {}, of type dict; expected str, int"):
        plain({"x": {}})


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


def test_an_experiment_file_is_no_run(tmp_path):
    for name in ("mine.py", "README.md"):
        (tmp_path / name).write_text("")
    with pytest.raises(
        UserError, match="mine.py is not a run folder. Give the folder of a run; `python -m research tra"
    ):
        find_run(tmp_path / "mine.py")
    with pytest.raises(UserError, match="expected an experiment such as"):
        load(tmp_path / "README.md")


def test_help_shows_every_knob_with_its_default_and_its_line(capsys):
    parser = Parser(prog="prog")
    add_arguments(parser, knobs_of(experiment))
    with pytest.raises(SystemExit):
        parser.parse_args(["--help"])
    shown = capsys.readouterr().out
    assert "--learning-rate FLOAT" in shown
    assert "5 % of it is left at the end (default 0.001)" in " ".join(shown.split())
    assert "mlp|cnn" in shown and "8,8" in shown  # as they are typed


def test_functions_that_cannot_be_knobs_are_refused():
    def positional(width: int = 1): ...

    def untyped(*, width=1): ...

    def required(*, width: int): ...

    for function in (positional, untyped):
        with pytest.raises(UserError, match="'width' of .* must be keyword-only and have a type"):
            knobs_of(function)
    with pytest.raises(UserError, match="no default; set --width"):
        resolve(knobs_of(required), {})
