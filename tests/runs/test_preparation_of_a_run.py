"""A run folder alone predicts from raw rows: with the preparation that it was trained with, and without the data."""

import json
import subprocess
import sys

import numpy as np
import pytest

from research.__main__ import main
from research.data import table
from research.errors import UserError
from research.runs.opened import open_run
from research.verbs import evaluate, predict

EXPERIMENT = '''"""Income from a table with missing values, a text and a date."""

import jax.numpy as jnp
import optax

from research.core import Eval
from research.data import batches, eval_batches, fit, stratified, subset, table
from research.data.clean import missing, outliers
from research.data.features import dates, encode, scale
from research.duration import epochs
from research.experiment import Experiment
from research.metrics.classification import measure_classification, predict_classes
from research.model import Model
from research.objectives.classify import classify


def experiment(*, people: str, passes: int = 20):
    data = table(people, target="income")
    train, test = (subset(data, rows) for rows in stratified(data.column("income"), (150, 50), seed=0))
    prepare = fit(
        train, missing.median(flag=True), missing.most_frequent(), outliers.winsorise(), dates.cyclic(),
        scale.standard(), encode.one_hot(),
    )
    width = len(prepare.names)
    model = Model(
        lambda key: ({"w": jnp.zeros((width, 2)), "b": jnp.zeros(2)}, {}),
        lambda params, stats, x, key=None, train=False: (x @ params["w"] + params["b"], {}),
    )
    return Experiment(
        init=model.init, apply=model.apply, loss=classify(model, inputs="features"), optimizer=optax.adam(0.05),
        source=batches(prepare(train, training=True), 48), steps=epochs(passes),
        evals={"test": Eval(eval_batches(prepare(test), 48), measure_classification(num_classes=2, inputs="features"))},
        predict=predict_classes(inputs="features"), preparation=prepare,
    )
'''
ROWS = "id;age;city;since;income\n" + "".join(
    f"r{i};{'' if i % 7 == 0 else 20 + i % 40};{['Rome', 'Oslo', ''][i % 3]};{1 + i % 28:02d}.{1 + i % 12:02d}.2020;"
    f"{'high' if i % 40 > 15 else 'low'}\n"
    for i in range(200)
)
NEW = "id;since;age;city\nnew;03.02.2021;55;\nother;30.11.2019;;Paris\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run, and predictions of new raw rows while the data are there; then they are deleted."""
    folder = tmp_path_factory.mktemp("table")
    (folder / "people.csv").write_text(ROWS)
    (folder / "new.csv").write_text(NEW)
    (folder / "income.py").write_text(EXPERIMENT)
    run = folder / "run"
    arguments = ["--people", str(folder / "people.csv"), "--run-dir", str(run), "--no-report"]
    assert main(["train", str(folder / "income.py"), *arguments]) == 0
    with pytest.warns(UserWarning, match=r"'city' has 'Paris' \(row 1\); expected one of Oslo, Rome: accepted"):
        predict(run, str(folder / "new.csv"), out=folder / "before.jsonl")
    assert evaluate(run)["test"]["accuracy"] > 0.8
    (folder / "people.csv").unlink()
    return folder


def rows(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_new_process_predicts_without_the_data(folder):
    moved = folder / "elsewhere"
    (folder / "run").rename(moved)
    try:
        command = [sys.executable, "-m", "research", "predict", str(moved), str(folder / "new.csv")]
        done = subprocess.run([*command, "--out", str(folder / "after.jsonl")], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    finally:
        moved.rename(folder / "run")
    assert "The data of the run are not here and not compared: " in done.stdout and "people.csv" in done.stdout
    assert "'city' has 'Paris' (row 1)" in done.stderr
    before, after = rows(folder / "before.jsonl"), rows(folder / "after.jsonl")
    assert before == after and [row["id"] for row in after] == ["new", "other"] and after[0]["class"] in ("high", "low")


def test_the_numbers_are_those_of_the_training_rows(folder):
    opened = open_run(folder / "run")
    prepare = opened.experiment.preparation
    with pytest.warns(UserWarning, match=r"'since' has '03.02.2021'.*expected 2020-01-01 to 2020-12-28: accepted"):
        features = prepare.read(folder / "new.csv").columns["features"]
    found = dict(zip(prepare.names, features[1], strict=True))
    assert found["age missing"] == 1 and found["city=Oslo"] == found["city=Rome"] == 0
    logits = opened.trained(features)
    predicted = [row["prediction"] for row in rows(folder / "before.jsonl")]
    assert np.argmax(logits, 1).tolist() == predicted


def test_what_needs_the_data_is_refused(folder):
    for make in (lambda: evaluate(folder / "run"), lambda: predict(folder / "run", "test")):
        with pytest.raises(UserError, match="data of the run are not here: .*people.csv.*research predict .* FILE"):
            make()
    assert np.isnan(open_run(folder / "run").experiment.evals["test"].source(0)["features"]).all()


def test_rows_that_do_not_fit_are_refused(folder):
    (folder / "bad.csv").write_text(NEW.replace("55", "old"))
    with pytest.raises(UserError, match=r"column 'age' has 'old' \(row 0\); expected an integer: refused"):
        predict(folder / "run", str(folder / "bad.csv"))
    (folder / "bad.csv").write_text(NEW.replace("age", "years"))
    with pytest.raises(UserError, match=r"the column 'age' \(integer\) is missing"):
        predict(folder / "run", str(folder / "bad.csv"))
    assert table(folder / "new.csv").schema["since"].form == "%d.%m.%Y"
