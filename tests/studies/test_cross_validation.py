import io
import shutil

import numpy as np
import pytest

from research.__main__ import main
from research.errors import UserError
from research.studies.cross_validation import cross_validate

FILE = '''"""A line through some points, fold by fold."""

import optax

from research.core import Eval
from research.data import batches
from research.data import folds as split, subset, eval_batches
from research.experiment import Experiment
from tests import toys


def experiment(*, fold: int = 0, folds: int = 2, steps: int = 8) -> Experiment:
    part = split(50, folds, seed=0)[fold]
    return toys.experiment(
        source=batches(subset(toys.DATA, part.train), 8),
        evals={"test": Eval(eval_batches(subset(toys.DATA, part.test), 16), toys.measure)},
        steps=steps, log_every=4, save_every=8,
    )
'''


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "points.py"
    path.write_text(FILE)
    return path


def test_every_fold_is_trained_and_mean_and_spread_are_told(file, tmp_path, capsys):
    stream = io.StringIO()
    found = cross_validate(file, runs=tmp_path / "runs", seed=2, report=False, stream=stream)
    values = [run.results["test"]["mse"] for run in found.runs]
    assert len(set(values)) == 2 == len(list((tmp_path / "runs").iterdir()))
    assert all(run.folder.name.endswith("-s2") for run in found.runs)
    mean, spread = found.mean["test"]["mse"], found.spread["test"]["mse"]
    assert mean == pytest.approx(np.mean(values)) and spread == pytest.approx(np.std(values) * 2**0.5)
    line = f"test/mse  {mean:.4f} ± {spread:.4f} ({min(values):.4f} to {max(values):.4f})"
    assert stream.getvalue().endswith(f"points, 2 folds: mean ± standard deviation (minimum to maximum)\n{line}\n")
    # A fold that is finished is not trained again; the one that is lost is.
    times = {run.folder: (run.folder / "timing.jsonl").stat().st_mtime_ns for run in found.runs}
    shutil.rmtree(found.runs[1].folder)
    assert main(["folds", str(file), "--runs", str(tmp_path / "runs"), "--seed", "2", "--no-report"]) == 0
    assert line in capsys.readouterr().out
    again = {folder: (folder / "timing.jsonl").stat().st_mtime_ns for folder in times}
    assert [again[folder] == times[folder] for folder in times] == [True, False]


def test_an_interrupted_fold_leaves_the_others_for_the_next_call(file, tmp_path, monkeypatch):
    from research.studies import cross_validation

    def train(file, *, fold, **given):
        assert given == {"steps": 4, "quiet": True, "stream": stream}
        return cross_validation.RunResult(tmp_path, "preempted" if fold == 1 else "finished", {"test": {"mse": 1.0}})

    monkeypatch.setattr(cross_validation, "train", train)
    stream = io.StringIO()
    found = cross_validate(file, steps=4, stream=stream)
    assert len(found.runs) == 2 and not found.mean and not found.spread
    heads = "fold 0, of 0 to 1\nfold 1, of 0 to 1\n"
    assert stream.getvalue() == heads + "1 of 2 folds finished; run the same command again to resume.\n"


def test_an_experiment_without_folds_and_a_single_folder_are_errors(file, tmp_path, capsys):
    with pytest.raises(UserError, match="fold was given"):
        cross_validate(file, fold=0)
    assert main(["folds", str(file), "--run-dir", str(tmp_path)]) == 2
    assert "run_dir was given" in capsys.readouterr().err
    file.write_text(FILE.replace("fold: int = 0, ", "").replace("[fold]", "[0]"))
    with pytest.raises(UserError, match="points has no knob 'fold'"):
        cross_validate(file)
