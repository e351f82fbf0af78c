"""The page as a whole: what is on it, that nothing leaves it or slips into it, and runs that are not whole."""

import csv
import io
import json
import re
from html.parser import HTMLParser
from urllib.parse import unquote

import numpy as np
import pytest
from scipy import stats

from research.errors import UserError
from research.html.markup import with_errors
from research.report import report
from tests.report.runs import ROWS, Records, about, bare, evaluation, experiment, whole, write_json, write_lines

VOID = {"meta", "img", "br"}


class Page(HTMLParser):
    """Every tag with its attributes, the text, and whether the tags are closed in order."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.text, self.open = [], "", []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def read(path):
    page = Page(path.read_text(encoding="utf-8"))
    assert page.open == []
    return page


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = whole(tmp_path_factory.mktemp("runs") / "run")
    return folder, report(folder, experiment())


def test_the_page_and_the_pictures_are_in_the_run_folder(finished):
    folder, path = finished
    assert path == folder / "report" / "report.html"
    pictures = ["confusion_test.svg", "learning_curves.svg", "report.html", "worst_test.svg"]
    assert sorted(file.name for file in path.parent.iterdir()) == pictures


def test_everything_that_was_recorded_is_on_the_page(finished):
    text = read(finished[1]).text
    wanted = [
        "digits",
        "A summary.",
        "finished",
        "step 20 of 20",
        "width=64 · seed 3 · 2023-11-14 22:13 UTC",
        "0.9800",
        "met",
        "a paper",
        "A doc.",
        "abc123",
        "width",
    ]
    wanted += [
        "train digits",
        "two cores",
        "2023-11-14 22:13:20 UTC",
        "return 1 < 2",
        "loss",
        "learning rate",
        "digits.py",
    ]
    wanted += ["66.7 %"]  # the precision of class two
    wanted += ["3 of 6 predictions are wrong", "true zero", "predicted one", "loss 3.25", "confidence 70.0 %"]
    assert [words for words in wanted if words not in text] == []


def test_the_page_fetches_nothing(finished):
    page = read(finished[1])
    assert {tag for tag, _ in page.tags} & {"script", "link", "iframe", "object", "base"} == set()
    links = [attrs["href"] for tag, attrs in page.tags if tag == "a"]
    sections = [f"#{attrs['id']}" for tag, attrs in page.tags if tag == "section"]
    assert links[: len(sections)] == sections and len(set(sections)) == len(sections) > 3
    (table,) = links[len(sections) :]
    rows = list(csv.DictReader(io.StringIO(unquote(table.removeprefix("data:text/csv;charset=utf-8,")))))
    lines = [json.loads(line) for line in (finished[0] / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [str(step) for step in sorted({line["step"] for line in lines})]
    for line in lines:
        row = next(row for row in rows if row["step"] == str(line["step"]))
        assert all(row[name] == ("" if value is None else str(value)) for name, value in line.items())
    sources = [
        attrs[key] for _, attrs in page.tags for key in ("src", "href", "xlink:href", "srcset", "data") if key in attrs
    ]
    sources.remove(table)
    assert len(sources) >= 3 and all(source.startswith(("data:image/png;base64,", "#")) for source in sources)
    style = "".join(re.findall(r"<style.*?</style>", finished[1].read_text(), re.DOTALL))
    assert "http" not in style and "@import" not in style and "url(" not in style
    drawn = "".join(re.findall(r"<svg.*?</svg>", finished[1].read_text(), re.DOTALL))
    assert drawn.count('role="img"') == 6 and "http" not in drawn and "<metadata" not in drawn
    policy = [attrs["content"] for tag, attrs in page.tags if attrs.get("http-equiv") == "Content-Security-Policy"]
    assert policy == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]


def test_the_same_run_gives_the_same_bytes(finished):
    folder, path = finished
    before = {file.name: file.read_bytes() for file in path.parent.iterdir()}
    report(folder, experiment())
    assert before == {file.name: file.read_bytes() for file in path.parent.iterdir()}


def test_what_a_run_says_stays_text(tmp_path):
    evil = "<script>alert(1)</script>&amp;\"'\x00"
    folder = bare(tmp_path)
    write_json(folder / "run.json", about(
        summary=evil, doc=evil, knobs={evil: evil}, versions={evil: evil}, hardware=evil, commit=evil, command=evil,
        experiment=evil, seed=evil, claims=[{"metric": evil, "at_least": 1.0, "at_most": None, "reference": evil}],
    ))  # fmt: skip
    write_json(folder / "status.json", {"status": evil, "step": 1, "results": {evil: {evil: 1.0}}, "text": evil})
    write_lines(folder / "metrics.jsonl", [{"step": 1, f"train/{evil}": 1.0}, {"step": 2, f"{evil}/loss": 1.0}])
    write_lines(folder / "timing.jsonl", [{"step": 1, "event": "noted", "text": evil, "time": 1.0}])
    evaluation(folder, texts={evil: evil})
    (folder / "source" / "digits.py").write_text(evil)
    records = Records({"text": evil} for _ in range(6))
    records.classes = [evil, evil, evil]
    page = read(report(folder, experiment(records)))
    assert "script" not in {tag for tag, _ in page.tags}
    assert page.text.count("<script>alert(1)</script>&amp;\"'\ufffd") >= 25
    assert "\x00" not in page.text


def test_a_gallery_that_is_out_of_date_goes(tmp_path):
    folder = bare(tmp_path)
    report(folder, experiment())
    for name in ("mine.png", "worst_test.png"):  # the latter from an earlier version
        (folder / "report" / name).write_bytes(b"")
    evaluation(folder, rows=ROWS | {"prediction": ROWS["label"]})
    assert "No prediction is wrong." in read(report(folder, experiment())).text
    left = [file.name for file in (folder / "report").iterdir()]
    assert not {"worst_test.svg", "worst_test.png"} & set(left) and "mine.png" in left


def test_a_run_that_has_only_begun(tmp_path):
    write_json(tmp_path / "run.json", about())
    text = read(report(tmp_path)).text
    assert "not started" in text and "No metrics yet." in text and "No evaluation yet." in text
    assert "not measured" in text


def test_without_the_experiment_the_gallery_says_why_and_classes_are_numbers(tmp_path):
    text = read(report(bare(tmp_path))).text
    assert "No gallery of the worst errors: the records are not available" in text
    assert "zero" not in text and not (tmp_path / "report" / "worst_test.svg").exists()


def test_data_that_cannot_be_read_costs_only_the_gallery(tmp_path):
    class Missing(Records):
        def __getitem__(self, index):
            raise UserError("the data set is not on this machine.")

    text = read(report(bare(tmp_path), experiment(Missing([{}] * 6)))).text
    assert "the data cannot be read: the data set is not on this machine." in text
    shorter = read(report(tmp_path, experiment(Records([{}] * 5)))).text
    assert "6 examples were evaluated, but the data set holds 5" in shorter


def test_nulls_and_a_single_point(tmp_path):
    write_json(tmp_path / "run.json", about())
    write_lines(tmp_path / "metrics.jsonl", [{"step": 5, "train/loss": None, "train/accuracy": 0.5}])
    write_lines(tmp_path / "timing.jsonl", [{"step": 5, "seconds": 1.0, "steps_per_second": None, "time": 5.0}])
    write_json(tmp_path / "status.json", {"status": "running", "results": {"test": {"accuracy": None}}})
    page = read(report(tmp_path))
    labels = [attrs["aria-label"] for _, attrs in page.tags if "aria-label" in attrs]
    assert labels[0] == "accuracy over the step: train" and not any("loss" in label for label in labels)
    assert "is not a number" in page.text


def test_a_failed_run_says_what_went_wrong_and_judges_so_far(tmp_path):
    folder = bare(tmp_path)
    numbers = {"test": {"accuracy": 0.5}}
    write_json(folder / "status.json", {"status": "failed", "step": 7, "results": numbers, "text": "the loss is <nan>"})
    text = read(report(folder)).text
    assert "failed" in text and "the loss is <nan>" in text and "missed so far" in text and "Results so far" in text


def test_what_is_broken_is_named_and_left_out(tmp_path):
    folder = bare(tmp_path)
    archive = folder / "evaluations" / "test.npz"
    archive.write_bytes(archive.read_bytes()[:400])
    (folder / "evaluations" / "valid.json").write_text("{}")
    (folder / "evaluations" / "valid.npz").write_bytes(b"no archive at all")
    (folder / "status.json").write_text("{")
    with open(folder / "timing.jsonl", "a") as file:
        file.write('{"step": 10, "event": "saved"}\n{"step": 11, "seco{"step": 12}\n[1]\n')
    text = read(report(folder, experiment())).text
    assert (
        "test.npz cannot be read" in text
        and "valid.npz cannot be read" in text
        and "status.json cannot be read" in text
    )
    assert "timing.jsonl: skipped 2 damaged lines" in text


def test_what_is_no_run_folder_is_refused(tmp_path):
    with pytest.raises(UserError, match="not a run folder: it has no run.json"):
        report(tmp_path)
    (tmp_path / "run.json").write_text("[1]")
    with pytest.raises(UserError, match="expected a JSON object, not list"):
        report(tmp_path)
    write_json(tmp_path / "run.json", about())
    (tmp_path / "report").write_text("a file in the way")
    with pytest.raises(UserError, match="the report cannot be written"):
        report(tmp_path)


def test_many_classes_are_told_as_pairs(tmp_path):
    folder = bare(tmp_path)
    matrix = np.eye(30, dtype=np.float32) * 10
    matrix[4, 7] = 5
    evaluation(folder, rows={}, confusion=matrix)
    page = read(report(folder))
    assert "Most confused" in page.text and re.search(r"4\s*7\s*5\s*33.3 %", page.text)
    assert json.loads((folder / "run.json").read_text())["seed"] == 3  # what was recorded is only read


def test_a_mean_over_examples_has_its_standard_error(finished):
    page = read(finished[1])
    error = stats.sem(ROWS["label"] == ROWS["prediction"])
    assert f"0.98 ± {error:.2g}" in page.text and "not include the variation between seeds" in page.text


def test_errors_of_one_metric_have_the_same_digits():
    assert with_errors([0.98671, 1.0, None], [0.00523, 0.012, None]) == ["0.9867 ± 0.0052", "1.0000 ± 0.0120", "–"]
    assert with_errors([1234.5], [56.0]) == ["1234 ± 56"] and with_errors([0.5, 2.0], [None, 0.0]) == ["0.5000", "2"]
    assert with_errors([np.nan, 1.0], [0.1, 0.1]) == ["–", "1.00 ± 0.10"]


def test_short_names_of_metrics_are_explained(tmp_path):
    folder = bare(tmp_path)
    write_json(folder / "status.json", {"status": "finished", "results": {"test": {"ece": 0.1, "brier": 0.2}}})
    page = read(report(folder))
    assert "brier: the Brier score" in page.text and "ece: the expected calibration error" in page.text
    assert "auc: " not in page.text and "reference: a paper" in page.text


def test_a_hint_for_the_pointer_is_not_printed(finished):
    hints = [attrs for _, attrs in read(finished[1]).tags if attrs.get("class") == "screen"]
    assert len(hints) == 1 and "nav, .screen { display: none; }" in finished[1].read_text().split("@media print")[1]
