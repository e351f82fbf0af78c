import io
import json

import numpy as np
import pytest

from research.__main__ import main
from research.data.labels import choose
from research.errors import UserError
from research.studies.active_learning import active_learning
from research.system.archive import read_npz

pytestmark = pytest.mark.usefixtures("one_device")

SOURCE = """
import numpy as np, optax
from research.core import Eval
from research.data import arrays, batches, eval_batches, subset
from research.experiment import Experiment
from research.metrics.classification import measure_classification
from research.model import from_nnx
from research.models.mlp import MLP
from research.objectives.classify import classify


def experiment(*, labelled: tuple[int, ...] = (0, 1), name: str = "pool", steps: int = 10):
    x = np.random.default_rng(0).normal(size=(30, 2)).astype(np.float32)
    data = arrays(image=x, label=(x[:, 0] + x[:, 1] > 0).astype(np.int32))
    model = from_nnx(lambda rngs: MLP((2,), hidden=(), num_classes=2, rngs=rngs))
    measure = measure_classification(num_classes=2)
    return Experiment(
        init=model.init, apply=model.apply, loss=classify(model), optimizer=optax.sgd(0.5),
        steps=steps // 1, save_every=steps,
        source=batches(subset(data, labelled), 4), evals={name: Eval(eval_batches(data, 30), measure)},
    )
"""


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("active") / "points.py"
    path.write_text(SOURCE)
    return path


def loop(file, tmp_path, **options):
    stream = io.StringIO()
    options = {"first": 4, "add": 3, "rounds": 3, **options}
    return active_learning(file, runs=str(tmp_path), stream=stream, **options), stream.getvalue()


def probabilities(run):
    with open(run.folder / "evaluations" / "pool.npz", "rb") as archive:
        return read_npz(archive)["row/probabilities"]


def test_each_round_adds_the_records_with_the_smallest_margin_and_a_second_call_repeats_them(file, tmp_path):
    rounds, text = loop(file, tmp_path, score="margin")
    assert [len(r.labelled) for r in rounds] == [4, 7, 10] and "round 2: 10 labels" in text
    for before, after in zip(rounds, rounds[1:], strict=False):
        scores = choose.margin(probabilities(before.runs[0]))
        new = sorted(set(after.labelled) - set(before.labelled))
        free = np.setdiff1d(np.arange(30), before.labelled)
        assert len(new) == 3 and min(scores[new]) >= np.sort(scores[free])[-3]
    again, _ = loop(file, tmp_path, score="margin")
    assert [r.labelled for r in again] == [r.labelled for r in rounds]
    assert [r.runs[0].folder for r in again] == [r.runs[0].folder for r in rounds]
    random, _ = loop(file, tmp_path, score="random", add=12)
    assert len(set(random[2].labelled)) == 28  # no record is labelled twice
    assert random[0].labelled == rounds[0].labelled and random[1].labelled != rounds[1].labelled


def test_a_committee_is_asked_and_its_metrics_are_averaged(file, tmp_path):
    rounds, _ = loop(file, tmp_path, score="information", rounds=2, members=2)
    first = rounds[0]
    assert len({run.folder for run in first.runs}) == 2
    accuracy = [run.results["pool"]["accuracy"] for run in first.runs]
    assert first.results["pool"]["accuracy"] == pytest.approx(np.mean(accuracy))
    scores = choose.information(np.stack([probabilities(run) for run in first.runs]))
    new = sorted(set(rounds[1].labelled) - set(first.labelled))
    free = np.setdiff1d(np.arange(30), first.labelled)
    assert min(scores[new]) >= np.sort(scores[free])[-3] - 1e-9


def test_a_core_set_is_far_from_the_labelled_records(file, tmp_path):
    rounds, _ = loop(file, tmp_path, score="core_set", rounds=2)
    assert len(set(rounds[1].labelled)) == 7


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"score": "margins"}, "unknown score 'margins'.*margin"),
        ({"labelled": (1,)}, "labelled was given"),
        ({"run_dir": "here"}, "run_dir was given"),
        ({"score": "information", "members": 1}, "members=1, expected 2 or more"),
        ({"name": "train"}, "has no evaluation 'pool'"),
        ({"rounds": 20}, "need more than the 30 records of the pool"),
        ({"first": 0}, "first=0 and add=3"),
    ],
)
def test_what_cannot_be_a_loop_is_an_error(file, tmp_path, options, message):
    with pytest.raises(UserError, match=message):
        loop(file, tmp_path, **options)


def test_an_experiment_without_the_knob_is_an_error(tmp_path):
    (tmp_path / "plain.py").write_text(SOURCE.replace("labelled: tuple[int, ...] = (0, 1)", "other: int = 1"))
    with pytest.raises(UserError, match="has no knob 'labelled'"):
        loop(tmp_path / "plain.py", tmp_path)


def test_knobs_of_the_command_line_have_their_types(file, tmp_path, capsys):
    words = ["active", str(file), "--rounds", "1", "--first", "4", "--steps", "6", "--runs", str(tmp_path)]
    assert main(words) == 0
    assert "round 0: 4 labels" in capsys.readouterr().out
    (run,) = tmp_path.glob("*/status.json")
    assert json.loads(run.read_text())["step"] == 6 and not (run.parent / "report").exists()
