"""What a person does with an experiment: train, resume, evaluate, predict, go on, and every mistake on the way."""

import dataclasses
import io
import json
import os
import shutil
import subprocess
import sys
import types
from pathlib import Path

import jax
import numpy as np
import pytest

from research import verbs
from research.__main__ import main
from research.errors import UserError
from research.experiment import build
from research.runs import checkpoint
from research.runs.opened import open_run
from research.runs.pretrained import pretrained, read_arrays
from tests.tracking.test_trackers import tensorboard_events

FILE = str(Path(__file__).parent.parent / "experiments" / "digits.py")
TINY = {"network": "mlp", "epochs": 4, "batch_size": 200, "report": False}  # 20 steps, and no report
pytestmark = pytest.mark.usefixtures("one_device")
FLAGS = ["--network", "mlp", "--epochs", "4", "--batch-size", "200"]


def train(tmp_path, **options):
    stream = io.StringIO()
    trained = verbs.train(FILE, runs=tmp_path, stream=stream, **{**TINY, **options})
    return trained, stream.getvalue()


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return train(tmp_path_factory.mktemp("runs"), report=True)


def copied(run, runs):
    """The run again, below another folder of runs, as if it had not finished."""
    again = run._replace(folder=shutil.copytree(run.folder, runs / run.folder.name))
    (again.folder / "status.json").unlink()
    return again


def test_a_run_leaves_a_whole_record(finished):
    run, output = finished
    about = json.loads((run.folder / "run.json").read_text())
    assert run.status == "finished" and run.folder.name.startswith("digits-") and run.folder.name.endswith("-s0")
    assert about["knobs"]["epochs"] == 4 and about["seed"] == 0 and about["versions"]["jax"]
    assert about["hardware"]["cores"] and about["commit"] and about["claims"][0]["metric"] == "test/accuracy"
    assert (run.folder / "source" / about["file"]).read_text() == Path(FILE).read_text()
    assert (run.folder / "git.diff").exists()
    assert {p.name for p in (run.folder / "report").iterdir()} >= {"report.html", "learning_curves.svg"}
    status = json.loads((run.folder / "status.json").read_text())
    assert status["status"] == "finished" and status["results"] == run.results
    rows = np.load(run.folder / "evaluations" / "test.npz")
    assert len(rows["row/prediction"]) == 497 and rows["array/confusion"].sum() == 497
    assert np.isclose((rows["row/prediction"] == rows["row/label"]).mean(), run.results["test"]["accuracy"])
    assert "step 20/20" in output and str(run.folder) in output
    verdict = "met" if run.results["test"]["accuracy"] >= 0.97 else "missed"
    assert f"claim: test/accuracy at least 0.97: {verdict}" in output


def test_tensorboard_files_hold_the_same_numbers(finished):
    run, _ = finished
    found = {(v.tag, e.step): v.simple_value for e in tensorboard_events(run.folder) for v in e.summary.value}
    assert np.isclose(found["test/accuracy", 20], run.results["test"]["accuracy"], rtol=1e-6)
    assert ("train/loss", 20) in found and ("timing/steps_per_second", 20) in found


def test_a_finished_run_is_not_trained_twice_but_again_on_demand(finished):
    run, _ = finished
    again, output = train(run.folder.parent)
    assert again.folder == run.folder and again.results == run.results and "--again" in output
    anew, output = train(run.folder.parent, again=True)
    assert f"python -m research report {anew.folder})" in output and not (anew.folder / "report").exists()
    assert anew.folder.name == run.folder.name + "-2" and anew.results == run.results  # a run is a function
    assert (anew.folder / "metrics.jsonl").read_text() == (run.folder / "metrics.jsonl").read_text()
    other, _ = train(run.folder.parent, seed=1)
    assert other.folder != run.folder and other.results != run.results


def test_evaluate_predict_and_report_of_a_run(finished, tmp_path):
    run, _ = finished
    stream = io.StringIO()
    assert verbs.evaluate(run.folder, stream=stream) == run.results
    assert verbs.evaluate(f"{run.folder}@best", on="valid", stream=stream).keys() == {"valid"}
    assert (run.folder / "evaluated" / "20" / "test.npz").exists()
    out = verbs.predict(run.folder, "test", out=tmp_path / "found.jsonl", stream=stream)
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert len(rows) == 497 and np.isclose(sum(rows[7]["probabilities"]), 1, atol=1e-5)
    from research.data import digits

    np.savez(tmp_path / "mine.npz", image=digits().columns["image"][:10])
    rows = verbs.predict(run.folder, str(tmp_path / "mine.npz"), stream=stream).read_text().splitlines()
    names = {"index", "prediction", "class", "confidence", "probabilities"}
    assert len(rows) == 10 and set(json.loads(rows[0])) == names
    before = (run.folder / "report" / "report.html").read_bytes()
    assert verbs.report(run.folder).read_bytes() == before
    with pytest.raises(UserError, match="Did you mean 'test'"):
        verbs.evaluate(run.folder, on="tes")
    with pytest.raises(UserError, match="no checkpoint '7'.*20"):
        verbs.evaluate(f"{run.folder}@7")
    with pytest.raises(UserError, match="not a run folder.*Did you mean"):
        verbs.evaluate(str(run.folder)[:-1] + "9")
    with pytest.raises(UserError, match="cannot read .*expected .csv, .*.npz or a folder"):
        verbs.predict(run.folder, FILE)


def test_from_goes_on_with_more_steps_and_other_knobs(finished):
    run, _ = finished
    longer, output = train(run.folder.parent, start_from=f"{run.folder}@20", epochs=6)
    assert "Resuming from the checkpoint of step 20" in output and longer.status == "finished"
    steps = [json.loads(line)["step"] for line in (longer.folder / "metrics.jsonl").read_text().splitlines()]
    assert steps[-1] == 30 and steps[0] == 1
    assert json.loads((longer.folder / "run.json").read_text())["start_from"] == f"{run.folder.name}@20"
    assert "Training is complete" not in output
    same, _ = train(run.folder.parent, start_from=str(run.folder), epochs=6)
    assert same.folder == longer.folder
    done, output = train(run.folder.parent, start_from=str(run.folder), learning_rate=1e-4)
    assert "step 20. Training is complete." in output and done.results == run.results
    with pytest.raises(
        UserError, match=r"(layers|params|opt)\S* is .* in the checkpoint .*, but .* in this experiment"
    ):
        train(run.folder.parent, start_from=str(run.folder), network="cnn")


def test_a_run_gives_its_weights_to_another_experiment(finished):
    """Through the real checkpoint, and not again when the second run resumes."""
    run, _ = finished
    told = []
    opened = verbs.open_run(run.folder)
    assert repr(opened) == f"OpenedRun({str(run.folder)!r}, step {opened.step})" and len(repr(opened.trained)) < 200
    start = pretrained(f"{run.folder}@20", {r"layers/(.*)": r"layers/\1"}, tell=told.append)
    built = build(dataclasses.replace(opened.experiment, init_from=start), seed=5, devices=jax.devices()[:1])
    state = built.fresh()
    params, _ = read_arrays(run.folder)
    np.testing.assert_array_equal(state.params["layers"]["0"]["kernel"], params["layers"]["0"]["kernel"])
    assert not np.array_equal(state.params["head"]["kernel"], params["head"]["kernel"])
    assert "loaded   layers/0/kernel" in told[0] and "missing  head/kernel" in told[0]


def test_the_command_line_tells_mistakes_in_one_line(finished, capsys, tmp_path):
    run, _ = finished
    runs = ["--runs", str(run.folder.parent)]
    assert main(["train", FILE, *FLAGS, *runs]) == 0
    assert main(["list", str(Path(FILE).parent)]) == 0
    assert "digits.py" in capsys.readouterr().out
    for arguments, message in {
        ("trian",): "Did you mean 'train'",
        ("train", FILE, "--epoch", "3"): "Did you mean '--epochs'",
        ("train", FILE.replace("digits", "digit")): "Did you mean 'digits.py'",
        ("train",): "required: FILE",
        ("evaluate", str(tmp_path)): "not a run folder",
        ("list", str(tmp_path)): "no experiment below",
        ("train", FILE, "--seed", "x"): "seed must be int, not 'x'",
        ("train", FILE, *FLAGS, "--run-dir", str(run.folder), "--seed", "4"): "seed: 0 in the run, 4 given",
        ("train", FILE, "--run-dir", str(run.folder), "--epochs", "5"): "epochs: 4 in the run, 5 given",
        ("train", FILE, "--run-dir", str(Path(FILE).parent)): "contains other files and no run",
    }.items():
        assert main(list(arguments)) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ") and message in error and "Traceback" not in error
    assert not (Path(FILE).parent / ".lock").exists()
    with pytest.raises(UserError):
        main(["train", FILE, "--epoch", "3", "--debug"])


def test_an_argument_of_another_type_is_named(finished, tmp_path):
    run, _ = finished
    opened = open_run(run.folder)
    for call, message in {
        lambda: verbs.predict(opened, opened.state): r"type State .*opened = open_run\(RUN\), then opened.trained\(x\)",
        lambda: verbs.predict(run.folder, {"image": 1}): r"type dict .*opened.trained\(x\)",
        lambda: verbs.predict(opened, "test"): r"type OpenedRun was given; expected the path of a run.*its .folder",
        lambda: verbs.evaluate(run): "type RunResult was given.*its .folder",
        lambda: verbs.report(opened): "type OpenedRun was given.*its .folder",
        lambda: verbs.train(opened.experiment): "type Experiment .*expected the path of an experiment file",
    }.items():
        with pytest.raises(UserError, match=message):
            call()


def _copied(tmp_path, change=lambda text: text):
    folder = tmp_path / "mine"
    folder.mkdir(exist_ok=True)
    file = folder / "digits.py"
    file.write_text(change(Path(FILE).read_text()))
    return file


def test_an_edited_source_is_not_resumed(tmp_path):
    file = _copied(tmp_path)
    stream = io.StringIO()
    run = verbs.train(file, runs=tmp_path, stream=stream, **TINY)
    (run.folder / "status.json").unlink()  # as if it had not finished
    _copied(tmp_path, lambda text: text.replace("smoothing=0.05", "smoothing=0.2"))
    with pytest.raises(UserError, match=r"(?s)has changed since.*-.*smoothing=0.05.*\+.*smoothing=0.2.*--from"):
        verbs.train(file, runs=tmp_path, stream=stream, **TINY)
    assert verbs.evaluate(run.folder, stream=stream) == run.results  # the run keeps its own source


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text.replace("def experiment(", "def experimnt("), "has no function experiment"),
        (lambda text: text + "\n)", "line .*unmatched"),
        (lambda text: text.replace("epochs: int = 60", "seed: int = 60"), "rename the knob 'seed'"),
        (lambda text: text.replace("(1000, 300, None)", "(1000, 797, 0)"), "every part needs at least one record"),
        (lambda text: text.replace("num_classes=10", "num_classes=9"), "10 classes; the measure expects 9"),
        (lambda text: text.replace("classify(model, ", 'classify(model, labels="lable", '), "Did you mean 'label'"),
        (lambda text: text.replace("MLP((8, 8, 1)", "MLP((8, 9, 1)"), "fails for a batch of image"),
    ],
)  # fmt: skip
def test_a_broken_experiment_is_told_plainly(tmp_path, change, message):
    with pytest.raises(UserError, match=message):
        verbs.train(
            _copied(tmp_path, change),
            runs=tmp_path / "runs",
            stream=io.StringIO(),
            **{k: v for k, v in TINY.items() if "seed: int" not in change(Path(FILE).read_text()) or k != "epochs"},
        )


def test_labels_out_of_range_stop_the_run_with_the_range(tmp_path):
    file = _copied(
        tmp_path,
        lambda text: text.replace(
            "data = digits()", "data = digits()\n    data.columns['label'][data.columns['label'] == 9] = 12"
        ),
    )
    first = (
        "The label 12 is none of the 10 classes of the model, 0 to 9: its loss is NaN. Try: num_classes=13\nAt step "
    )
    with pytest.raises(UserError, match="loss is not finite.*label int32.* to 12") as caught:
        verbs.train(file, runs=tmp_path / "runs", stream=io.StringIO(), **TINY)
    assert str(caught.value).startswith(first) and "python -m research doctor FILE" in str(caught.value)
    status = json.loads(next((tmp_path / "runs").glob("*/status.json")).read_text())
    assert status["status"] == "failed" and status["text"].startswith(first)


DAMAGE = {
    "truncated": lambda file: os.truncate(file, file.stat().st_size // 2),
    "emptied": lambda file: os.truncate(file, 0),
    "flipped": lambda file: _flip(file),
    "removed": lambda file: file.unlink(),
}


def _flip(file):
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


@pytest.mark.parametrize(
    "kind", ["flipped", *(pytest.param(how, marks=pytest.mark.slow) for how in DAMAGE if how != "flipped")]
)
def test_a_damaged_newest_checkpoint_is_set_aside_and_the_older_one_used(finished, tmp_path, kind):
    whole, _ = finished
    run = copied(whole, tmp_path)
    newest = run.folder / "checkpoints" / "20"
    largest = max((p for p in (newest / "state").rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
    DAMAGE[kind](largest)
    again, output = train(tmp_path)
    assert "checkpoint of step 20 is damaged and was moved" in output and "from the checkpoint of step" in output
    assert [p.name for p in (run.folder / "damaged").iterdir()] == ["20-0"]
    assert again.results == whole.results
    assert (run.folder / "metrics.jsonl").read_text() == (whole.folder / "metrics.jsonl").read_text()


def test_damaged_metadata_is_found_too_and_nothing_sound_begins_anew(finished, tmp_path):
    whole, _ = finished
    run = copied(whole, tmp_path)
    for meta in (run.folder / "checkpoints").glob("*/meta/meta.json"):
        _flip(meta)
    again, output = train(tmp_path)
    assert output.count("is damaged and was moved") >= 2 and again.results == whole.results
    with pytest.raises(UserError, match="no valid checkpoint|is damaged|damaged"):
        _flip(max((run.folder / "checkpoints").glob("20/meta/meta.json")))
        train(tmp_path, start_from=f"{run.folder}@20", epochs=6)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of its own, which is full after a few hundred kilobytes."""
    disk = tmp_path / "disk"
    disk.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=900k", "tmpfs", disk], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"a small file system cannot be mounted here: {done.stderr.strip()}")
    yield disk
    subprocess.run(["umount", "-l", disk], check=True)


def test_a_full_disk_is_told_and_the_run_goes_on_when_there_is_room(finished, small_disk):
    whole, _ = finished
    with pytest.raises(UserError, match="No space left|cannot write a checkpoint|disk"):
        train(small_disk)
    subprocess.run(["mount", "-o", "remount,size=50m", small_disk], check=True)
    run, _ = train(small_disk)
    assert run.results == whole.results
    assert (run.folder / "metrics.jsonl").read_text() == (whole.folder / "metrics.jsonl").read_text()


def test_a_folder_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="Not a directory|File exists"):
        train(tmp_path / "file")


def test_reads_that_orbax_abandons_are_not_told_but_other_lost_errors_are():
    code = "async def read():\n  try:\n    await wait()\n  except BaseException:\n    raise ValueError('lost')\n"

    @types.coroutine
    def wait():
        yield

    told, hook = [], sys.unraisablehook
    assert hook.__qualname__.startswith("_without_abandoned_io")
    sys.unraisablehook = checkpoint._without_abandoned_io(lambda lost: told.append(lost.object.__qualname__))
    for place in ("lib/orbax/checkpoint/reader.py", "mine.py"):
        scope = {"wait": wait}
        exec(compile(code.replace("read", place[:3]), place, "exec"), scope)
        reading = scope[place[:3]]()
        reading.send(None)
        del reading
    sys.unraisablehook = hook
    assert told == ["min"]


def test_evaluate_prints_the_texts_of_a_finished_run(tmp_path):
    (tmp_path / "story.py").write_text('''"""A run whose evaluation has a text."""
from research.core import Eval
from research.data import eval_batches
from tests import toys


def experiment(*, steps: int = 2):
    story = Eval(eval_batches(toys.DATA, 50), toys.measure, finish=lambda results: {"story": "once\\nupon \\x1b[2J"})
    return toys.experiment(steps=steps, evals={"samples": story._replace(measure=lambda trained, batch: {})})
''')
    stream = io.StringIO()
    folder = verbs.train(tmp_path / "story.py", run_dir=tmp_path / "run", report=False, stream=io.StringIO()).folder
    verbs.evaluate(folder, stream=stream)
    assert stream.getvalue() == "samples\n  story:\n    once\n    upon \ufffd[2J\n"
