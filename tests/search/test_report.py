"""What a sweep came to, for a study whose answer is known."""

import io
import re

import numpy as np
import optuna
import pytest

from research.search import sweep
from research.search.report import _ends as ends
from research.search.report import importance, lines, parallel, report, trials_of
from research.search.space import suggest
from research.search.study import settle
from tests.search.fake import FILE


@pytest.fixture(scope="module")
def known(tmp_path_factory):
    """40 trials of 4 x + y with x and y uniform: of the variance 16/17 is due to x. One stopped, failed, going on."""
    folder = tmp_path_factory.mktemp("sweeps") / "sweep"
    knobs = {"x": "0:1", "rate": "1e-4:1:log", "n": "1:9", "kind": "good,bad"}
    sweep(FILE, search="random", workers=0, folder=folder, stream=io.StringIO(), **knobs)
    made, study = settle(folder)
    study.sampler = optuna.samplers.RandomSampler(seed=0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.fsync", lambda number: None)
        for number in range(43):
            trial = study.ask()
            values = suggest(trial, made.space)
            trial.set_user_attr("work", {"evaluated": [5], "seconds": 1.0, "steps": 10 + number})
            share = (np.log10(values["rate"]) + 4) / 4
            value = 4 * values["x"] + share
            if number == 40:
                trial.report(value, 1)
                study.tell(trial, state=optuna.trial.TrialState.PRUNED)
            elif number == 41:
                trial.set_user_attr("error", "RuntimeError: <b>out of memory</b>")
                study.tell(trial, state=optuna.trial.TrialState.FAIL)
            elif number < 40:
                study.tell(trial, 1e9 if number == 17 else value)
    return made, study


def test_the_table_is_in_order(known):
    found = trials_of(*known)
    assert [t.state for t in found] == ["finished"] * 40 + ["pruned", "failed", "running"]
    values = [t.value for t in found[:40]]
    assert values == sorted(values) and found[39].number == 17 and found[0].steps == 10 + found[0].number
    assert found[-1].value is None and found[40].value > 0 and found[0].folder.name == f"{found[0].number:04d}"
    upside = trials_of(known[0]._replace(mode="max"), known[1])
    assert [t.value for t in upside[:40]] == values[::-1]
    text = lines(*known, most=3)
    assert text.split("\n")[0].split() == ["trial", "valid/cost", "x", "rate", "n", "kind", "steps"]
    assert text.split("\n")[1].split()[0] == str(found[0].number) and "... and 40 more" in text


def test_importance_is_the_share_of_the_variance(tmp_path):
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    draw = lambda t: (t.suggest_float("x", 0, 1), t.suggest_float("y", 0, 1), t.suggest_int("n", 1, 9))
    study.optimize(lambda t: np.dot(draw(t), (4, 1, 0)), 60)
    shares = importance(study)
    assert list(shares)[0] == "x" and shares["x"] == pytest.approx(16 / 17, abs=0.05)
    assert shares["y"] == pytest.approx(1 / 17, abs=0.05) and shares["n"] < 0.03
    assert sum(shares.values()) == pytest.approx(1)
    assert importance(study) == shares  # the forest is seeded
    constant = optuna.create_study()
    constant.optimize(lambda t: 0 * t.suggest_float("x", 0, 1), 5)
    assert importance(constant) == {}
    short = optuna.create_study()
    short.optimize(lambda t: t.suggest_float("x", 0, 1), 3)
    assert importance(short) == {}


def test_the_picture_has_an_axis_for_each_knob_and_a_line_for_each_trial(known, tmp_path):
    made, study = known
    found = trials_of(made, study)
    svg = parallel(made, found, path=tmp_path / "p.svg")
    words = re.findall(r"<text[^>]*>([^<]*)</text>", svg)
    for label in ("x", "rate", "n", "kind", "valid/cost", "good", "bad", "1", "0.01"):
        assert label in words, label
    assert "parallel coordinates of 41 trials" in svg
    lines = [line for line in re.findall(r"<path [^>]*>", (tmp_path / "p.svg").read_text()) if line.count("L") == 4]
    assert len(lines) == 41 and len({re.search('stroke="(#.{6})"', line)[1] for line in lines}) > 20
    assert parallel(made, found, path=None) == svg  # the same trials, the same bytes
    titles = re.findall(r"<title>trial (\d+): valid/cost ", svg)
    assert sorted(map(int, titles)) == [t.number for t in sorted(found, key=lambda t: t.number) if t.value is not None]
    assert parallel(made, [], path=tmp_path / "none.svg") == "" and not (tmp_path / "none.svg").exists()


def test_the_ends_of_the_metrics_axis_are_not_those_of_a_diverged_trial(known):
    svg = parallel(known[0], trials_of(*known))
    words = re.findall(r"<text[^>]*>([^<]*)</text>", svg)
    assert not any("e+0" in word for word in words)
    assert ends([1.0, 2.0, 3.0, 1e9], "min") == (1.0, 7.0) and ends([-1e9, 1.0, 2.0, 3.0], "max") == (-3.0, 3.0)
    assert ends([1.0, 2.0, 3.0], "min") == ends([1.0, 2.0, 3.0], "max") == (1.0, 3.0) and ends([2.0], "max") == (
        2.0,
        2.0,
    )


def test_the_page_is_whole_and_fetches_nothing(known):
    made, study = known
    page = report(made, study).read_text()
    assert "40 finished, 1 pruned, 1 failed, 1 running" in page and "importance" in page.lower()
    assert "&lt;b&gt;out of memory" in page and "<b>out of memory" not in page
    best = trials_of(made, study)[0]
    assert f"by trial {best.number}" in page and f"--x={best.knobs['x']}" in page and "python -m research train" in page
    assert not re.search(r'(?:src|href)="https?:', page) and "default-src 'none'" in page
    assert (made.folder / "parallel.svg").stat().st_size > 10_000
    rows = re.findall(r"<tr>", page)
    assert len(rows) >= 43
