"""From a function in a file to a command: its arguments, its help, its errors, and that a file is executed once."""

import importlib
import inspect
import os
import re

import pytest

from research.__main__ import main
from research.cli import _command
from research.cli._command import parsed, verbs
from research.errors import UserError
from research.verbs import RUN_OPTIONS, train

WING = '''
"""Verbs of a wing that a test adds."""

from research.files import number

__all__ = ["number"]


def show_it(
    run: str, times: list[str] = (), *, scale: float = 1.0, kind: str | None = None, loud: bool = True,
    show_path: int = 0,
) -> int:
    """Show a run.

    run: a run folder
    scale (FACTOR): how much larger
    show_path: its initials are an abbreviation
    loud (--quiet): say less
    """
    print(run, times, scale, kind, loud)
    return 3


def wing_fly(run: str):
    """Fly with a run."""
    print("flies with", run)


def _hidden():
    """No verb."""
'''


@pytest.fixture
def wing(tmp_path, monkeypatch):
    """A file more in the folder of the verbs."""
    (tmp_path / "wing.py").write_text(WING)
    monkeypatch.setattr(_command, "FOLDER", tmp_path)
    monkeypatch.setattr("research.cli.__path__", [str(tmp_path)])


def test_a_file_more_is_a_verb_more(wing, capsys):
    assert list(verbs()) == ["number", "show-it", "wing fly"]
    assert main(["wing", "fly", "runs/a"]) == 0 and capsys.readouterr().out == "flies with runs/a\n"
    assert verbs()["show-it"].summary == "Show a run." and verbs()["number"].summary.startswith("Return `value`")
    assert main(["show-it", "runs/a", "x", "y", "--scale", "2", "--quiet"]) == 3
    assert capsys.readouterr().out == "runs/a ['x', 'y'] 2.0 None False\n"
    with pytest.raises(SystemExit):
        main(["show-it", "--help"])
    text = capsys.readouterr().out
    assert "Show a run." in text and "--scale FACTOR" in text and "how much larger (default 1.0)" in text
    assert "--quiet" in text and "--kind" not in text  # it has no line in the docstring


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["show-its"], "unknown verb 'show-its'. Did you mean 'show-it'?"),
        (["wing", "flie", "a"], "unknown verb 'wing flie'. Did you mean 'wing fly'?"),
        (["show-it", "a", "--scal", "2"], "unknown argument '--scal'. Did you mean '--scale'?"),
        (["show-it", "a", "--sp", "2"], "unknown argument '--sp'. Did you mean '--show-path'?"),
        (["show-it", "a", "--scale", "wide"], "scale must be float, not 'wide'"),
        (["show-it"], "RUN"),
        (["show-it", "--scal", "2"], "unknown argument '--scal'. Did you mean '--scale'?"),
        (["launch", "local"], "python -m launch --help"),
    ],
)
def test_mistakes_name_the_nearest(wing, capsys, arguments, words):
    assert main(arguments) == 2
    assert words in capsys.readouterr().err
    with pytest.raises(UserError):
        main([*arguments, "--debug"])


def test_the_options_of_train_are_those_of_its_signature(capsys):
    assert set(RUN_OPTIONS) == set(inspect.signature(train).parameters) - {"file", "knobs"}
    for verb in ("train", "folds"):
        with pytest.raises(SystemExit):
            main([verb, "--help"])
        text = capsys.readouterr().out
        for flag in ("--seed", "--runs", "--run-dir", "--again", "--from", "--strategy", "--watch", "--no-report",
                     "--profile", "--wandb", "--mlflow"):  # fmt: skip
            assert f" {flag}" in text, (verb, flag)
        assert "--listen" not in text and "--stream" not in text


def test_a_knob_may_not_have_the_name_of_an_option(tmp_path, capsys):
    (tmp_path / "bad.py").write_text("def experiment(*, runs: int = 1): ...\n")
    assert main(["train", str(tmp_path / "bad.py")]) == 2
    assert "rename the knob 'runs'" in capsys.readouterr().err
    with pytest.raises(UserError, match="rename the knob 'runs'"):
        train(tmp_path / "bad.py")


EXPERIMENT = """
from pathlib import Path
from tests.toys import experiment as toy

with open(Path(__file__).parent / "executed", "a") as file:
    file.write("once ")


def experiment(*, noise: float = 0.3):
    return toy(noise=noise)
"""


@pytest.mark.parametrize("verb", ["train", "plan", "doctor"])
def test_a_command_executes_the_experiment_file_once(tmp_path, verb, capsys):
    (tmp_path / "once.py").write_text(EXPERIMENT)
    more = {"train": ["--no-report", "--runs", str(tmp_path / "runs")], "plan": [],
            "doctor": ["--no-rate", "--folder", str(tmp_path / "doctor")]}[verb]  # fmt: skip
    assert main([verb, str(tmp_path / "once.py"), "--noise", "0.1", *more]) in (0, 1)
    shown = capsys.readouterr()
    assert (tmp_path / "executed").read_text() == "once ", shown
    if verb == "plan":
        assert re.search(r"^params/w +float32\[3\] ", shown.out, re.M)  # what a pattern matches


@pytest.mark.parametrize("verb", ["plan", "train"])
def test_an_option_with_a_value_may_stand_before_the_file(tmp_path, verb):
    (tmp_path / "mine.py").write_text("def experiment(*, shift: float = 0.0): ...\n")
    module = importlib.import_module(verbs()[verb].module)
    option = {"plan": "topology", "train": "seed"}[verb]
    words = [f"--{option}", "7", "--shift", "-1e-3", str(tmp_path / "mine.py")]
    (file,), options = parsed(getattr(module, verb), words, prog="x")
    assert (os.fspath(file), str(options[option]), options["shift"]) == (words[-1], "7", "-1e-3")


def test_a_misspelt_knob_names_the_command_that_lists_the_knobs(tmp_path, capsys):
    file = tmp_path / "few.py"
    file.write_text('"""Words.\n\nmore words\n"""\ndef experiment(*, width: int = 3): ...\n')
    assert main(["train", str(file), "--widt", "5"]) == 2
    assert f"See python -m research train {file} --help." in capsys.readouterr().err


def test_help_fills_the_width_of_the_terminal(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "50")
    with pytest.raises(SystemExit):
        main(["predict", "--help"])
    assert "\n\nIt runs the Python source that is stored in the\nrun folder.\n\n" in capsys.readouterr().out


def test_the_versions(capsys):
    assert main(["--version"]) == 0
    assert {"research", "jax", "python"} <= {line.split()[0] for line in capsys.readouterr().out.splitlines()}


def test_knobs_are_handed_on_as_texts(tmp_path):
    (tmp_path / "few.py").write_text("def experiment(*, width: int = 3, deep: bool = False): ...\n")
    (loaded,), given = parsed(train, [str(tmp_path / "few.py"), "--width", "5", "--deep", "--seed", "7"], prog="x")
    assert loaded.name == "few" and given["width"] == "5" and given["deep"] == "true" and given["seed"] == 7
