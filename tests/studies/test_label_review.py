"""Review and correction of labels as a loop over runs, by its commands."""

import csv
import io
import json

import numpy as np
import pytest

from research.__main__ import main
from research.data import column, indexed
from research.data.labels.corrections import read_corrections
from research.errors import UserError
from research.runs.opened import open_run
from research.studies.label_review import apply, review
from research.verbs import train
from tests.report.test_page import read

pytestmark = pytest.mark.usefixtures("one_device")

SOURCE = """
import numpy as np, optax
from research.core import Eval
from research.data import arrays, batches, corrected, eval_batches, folds as split, subset
from research.experiment import Best, Claim, Experiment
from research.metrics.classification import measure_classification, predict_classes
from research.model import from_nnx
from research.models.mlp import MLP
from research.objectives.classify import classify

WRONG = (3, 11, 20)


def points(corrections=""):
    rng = np.random.default_rng(0)
    label = np.arange(60) % 3
    x = (6 * np.eye(3)[label] + rng.normal(size=(60, 3))).astype(np.float32)
    label[list(WRONG)] = (label[list(WRONG)] + 1) % 3
    data = arrays(image=x, label=label.astype(np.int32))
    return corrected(data, corrections) if corrections else data


def experiment(*, fold: int = 0, folds: int = 2, corrections: str = "", predicts: bool = True, rows: int = 45):
    data, part = points(corrections), split(60, folds, seed=0)[fold]
    model = from_nnx(lambda rngs: MLP((3,), hidden=(), num_classes=3, rngs=rngs))
    return Experiment(
        init=model.init, apply=model.apply, loss=classify(model), optimizer=optax.sgd(0.3), steps=30, save_every=30,
        source=batches(subset(data, np.arange(rows)), 16),
        evals={
            "valid": Eval(eval_batches(subset(data, np.arange(45, 60)), 16), measure_classification(num_classes=3)),
            "test": Eval(eval_batches(subset(data, part.test), 16), measure_classification(num_classes=3)),
        },
        predict=predict_classes() if predicts else None, best=Best("valid/accuracy"),
        claims=(Claim("valid/accuracy", at_least=0.5),),
    )
"""
WRONG = [3, 11, 20]


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("review") / "points.py"
    path.write_text(SOURCE)
    return path


@pytest.fixture(scope="module")
def run(file):
    return train(file, runs=str(file.parent / "plain"), report=False, stream=io.StringIO()).folder


def rows_of(path):
    with open(path, newline="") as table:
        return list(csv.DictReader(table))


def test_the_loop_finds_corrects_and_trains_on_the_corrected_labels(file, run, capsys, tmp_path):
    assert main(["labels", "review", str(run), "--on", "train", "--folds", "2"]) == 0
    shown = capsys.readouterr().out
    assert "fold 1, of 0 to 1" in shown and "records of train (out of sample)" in shown
    folder = run / "labels" / "train"
    table = rows_of(folder / "proposals.csv")
    assert {int(row["record"]) for row in table[:3]} == set(WRONG)
    clean = np.arange(60) % 3
    assert all(int(row["proposed"]) == clean[int(row["record"])] for row in table[:3])
    text = read(folder / "review.html").text
    assert "out of sample" in text and "Predicted by 2 networks" in text and "image[2]" in text
    # A second review trains nothing.
    review(run, on="train", folds=2, stream=(again := io.StringIO()))
    assert "fold" not in again.getvalue()

    table[0] |= {"decision": "accept", "reason": "plainly"}
    table[1] |= {"decision": "accept"}
    with open(folder / "proposals.csv", "w", newline="") as out:
        csv.DictWriter(out, table[0]).writeheader()
        csv.DictWriter(out, table[0]).writerows(table)
    words = [str(folder / "proposals.csv"), "--annotator", "ann", "--accept", "1", "--out", str(tmp_path / "set")]
    assert main(["labels", "apply", *words]) == 0
    assert "3 labels changed by ann" in capsys.readouterr().out
    corrections = folder / "corrections.jsonl"
    changes = read_corrections(corrections).changes
    assert [c.record for c in changes] == [int(row["record"]) for row in table[:3]]
    assert [c.reason for c in changes] == ["plainly", "", "one of the first 1 proposals, accepted without inspection"]
    assert all(c.annotator == "ann" and c.time.endswith("+00:00") for c in changes)
    np.testing.assert_array_equal(column(indexed(tmp_path / "set"), "label"), clean)

    # The same decisions are not repeated; a changed one is a further change.
    before = corrections.read_text()
    apply(folder / "proposals.csv", annotator="ann", stream=io.StringIO())
    assert corrections.read_text() == before
    text = (folder / "proposals.csv").read_text()
    (folder / "proposals.csv").write_text(text.replace("accept,plainly", "reject,a mistake"))
    apply(folder / "proposals.csv", annotator="bob", stream=io.StringIO())
    last = read_corrections(corrections).changes[-1]
    assert (last.record, last.annotator, last.reason) == (changes[0].record, "bob", "a mistake")
    assert (last.old, last.new) == (changes[0].new, changes[0].old)
    (folder / "proposals.csv").write_text(text)
    apply(folder / "proposals.csv", annotator="ann", stream=io.StringIO())

    second = train(file, corrections=str(corrections), runs=str(tmp_path), report=False, stream=io.StringIO()).folder
    data = [json.loads((one / "run.json").read_text())["data"]["train"] for one in (run, second)]
    assert data[0]["fields"]["image"] == data[1]["fields"]["image"]
    assert data[0]["fields"]["label"] != data[1]["fields"]["label"]
    left = review(second, on="train", folds=2, stream=io.StringIO())
    assert not {p.record for p in left[:3]} & set(WRONG)
    about = json.loads((second / "labels" / "train" / "review.json").read_text())
    assert about["corrections"] == str(corrections)  # a further round adds to the same record


def test_an_evaluation_and_a_network_that_has_seen_the_labels(run):
    review(run, on="valid", stream=(stream := io.StringIO()))
    assert "15 records of valid (out of sample)" in stream.getvalue()
    review(run, on="train", folds=0, stream=(stream := io.StringIO()))
    assert "(the network was trained on 45 of them)" in stream.getvalue()
    text = read(run / "labels" / "train" / "review.html").text
    assert "may have memorized" in text and "seen" in text
    review(run, stream=(stream := io.StringIO()))
    data = open_run(run).experiment.evals["test"].source.data
    assert f"of test (the network was trained on {(data.indices < 45).sum()} of them)" in stream.getvalue()


def test_the_folds_of_a_cross_validation_predict_each_record_once(tmp_path):
    source = SOURCE.replace("np.arange(rows)), 16)", "part.train), 16)")
    (tmp_path / "points.py").write_text(source)
    options = {"runs": str(tmp_path), "report": False, "stream": io.StringIO()}
    folders = [train(tmp_path / "points.py", fold=k, **options).folder for k in (0, 1)]
    train(tmp_path / "points.py", fold=0, rows=7, **options)  # another recipe
    found = review(folders[1], stream=(stream := io.StringIO()))
    assert "of 60 records of test (out of sample)" in stream.getvalue()
    # Record 11 is less probable in its true class than the mean of that class.
    assert [(p.record, p.proposed) for p in found[:3]] == [(20, "2"), (3, "0"), (11, "2")]
    assert "2 labels are probably wrong" in stream.getvalue()
    text = read(folders[1] / "labels" / "test" / "review.html").text
    assert "Predicted by 2 runs of a cross-validation" in text
    alone = open_run(folders[0]).experiment.evals["test"].source.data
    assert 0 < len(alone) < 60


def test_the_guide_is_beside_the_proposals(run, tmp_path):
    guide = tmp_path / "guide.toml"
    guide.write_text("".join(f'[classes.{c}]\nrules = ["rule {c} <b>"]\nexamples = ["text {c}", {c}]\n' for c in "012"))
    found = review(run, on="valid", guide=guide, stream=io.StringIO())
    page = (run / "labels" / "valid" / "review.html").read_text()
    assert "rule 0 &lt;b&gt;" in page and "text 2" in page and "Annotation guide" in page
    assert page.count("rule") >= 3 + 2 * min(len(found), 1)
    guide.write_text('[classes.0]\nrules = ["a"]\n')
    with pytest.raises(UserError, match="class '1' has no rules"):
        review(run, on="valid", guide=guide, stream=io.StringIO())


def test_mistakes_are_named(file, run, tmp_path, capsys):
    assert main(["labels", "revew", str(run)]) == 2
    assert "unknown verb 'labels revew'. Did you mean 'labels review'?" in capsys.readouterr().err
    for words in (["labels"], ["labels", "--help"]):
        assert main(words) == 0
        shown = capsys.readouterr().out
        assert "labels review" in shown and "labels apply" in shown and "train" not in shown
    with pytest.raises(UserError, match="unknown data of the run 'vald'. Did you mean 'valid'"):
        review(run, on="vald")
    review(run, on="train", folds=2, stream=io.StringIO())
    kept = next((run / "labels" / "train").glob("fold_0_of_2-*.npz"))
    whole = kept.read_bytes()
    kept.write_bytes(whole[:-30])
    with pytest.raises(UserError, match="npz is damaged: .* Remove it"):
        review(run, on="train", folds=2, stream=io.StringIO())
    kept.write_bytes(whole)
    silent = train(file, predicts=False, runs=str(tmp_path), report=False, stream=io.StringIO()).folder
    with pytest.raises(UserError, match="no predict="):
        review(silent, on="valid")
    (tmp_path / "proposals.csv").write_text("record,given,proposed,confidence,decision\n")
    with pytest.raises(UserError, match="has no review.json beside it"):
        apply(tmp_path / "proposals.csv")
    (tmp_path / "review.json").write_text('{"run": "x"}')
    with pytest.raises(
        UserError, match="review.json is damaged; expected an object with classes, corrections, data, on"
    ):
        apply(tmp_path / "proposals.csv")


def test_a_folder_from_elsewhere_chooses_no_place_for_a_new_file(run, tmp_path):
    review(run, on="valid", stream=io.StringIO())
    folder, moved = run / "labels" / "valid", tmp_path / "moved"
    moved.mkdir()
    about = json.loads((folder / "review.json").read_text())
    about.pop("crc32")
    (moved / "proposals.csv").write_text((folder / "proposals.csv").read_text())
    (moved / "review.json").write_text(json.dumps({**about, "corrections": str(tmp_path / "anywhere")}))
    with pytest.raises(UserError, match="there is no record .*anywhere of earlier corrections"):
        apply(moved / "proposals.csv", stream=io.StringIO())
    file = apply(moved / "proposals.csv", file=moved / "mine.jsonl", stream=io.StringIO())
    assert file.exists() and not (tmp_path / "anywhere").exists()


def test_labels_that_another_person_changed_since_are_not_changed_blindly(run, tmp_path):
    review(run, on="valid", stream=io.StringIO())
    folder = run / "labels" / "valid"
    (tmp_path / "review.json").write_text((folder / "review.json").read_text())
    head, table = "record,given,proposed,confidence,decision\n", tmp_path / "proposals.csv"
    options = {"file": tmp_path / "c.jsonl", "annotator": "ann", "stream": io.StringIO()}
    label = int(column(open_run(run).experiment.evals["valid"].source.data, "label")[0])
    other, third = (str((label + i) % 3) for i in (1, 2))
    table.write_text(f"{head}45,{label},{other},0.9,accept\n")
    apply(table, **options)
    table.write_text(f"{head}45,{third},{label},0.9,accept\n")
    with pytest.raises(UserError, match=f"record 45 was reviewed as '{third}', but ann changed it from '{label}'"):
        apply(table, **options)


def test_proposals_for_other_data_are_kept(run):
    about = run / "labels" / "valid" / "review.json"
    review(run, on="valid", stream=io.StringIO())
    found = json.loads(about.read_text())
    found.pop("crc32")
    found["data"]["records"] = 61
    about.write_text(json.dumps(found))
    with pytest.raises(UserError, match="has proposals for other data"):
        review(run, on="valid", stream=io.StringIO())
    about.unlink()
    (run / "labels" / "valid" / "proposals.csv").unlink()
