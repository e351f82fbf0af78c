"""A small run folder, as a real run leaves it."""

import json
from types import SimpleNamespace

import numpy as np

CLAIMS = [{"metric": "test/accuracy", "at_least": 0.97, "at_most": None, "reference": "a paper"}]
LABEL = np.array([0, 1, 2, 0, 1, 2])
PREDICTION = np.array([0, 2, 2, 1, 0, 2])
ROWS = {
    "label": LABEL,
    "prediction": PREDICTION,
    "confidence": np.array([0.9, 0.5, 0.8, 0.7, 0.6, 0.9], np.float32),
    "loss": np.array([0.1, 1.5, 9.0, 3.25, 2.0, 0.1], np.float32),
}


def write_json(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def write_lines(path, lines):
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def about(**changes):
    facts = {
        "experiment": "digits", "summary": "A summary.", "doc": "A doc.", "knobs": {"width": 64}, "seed": 3,
        "versions": {"jax": "0.10"}, "hardware": {"cpu": "two cores"}, "commit": "abc123", "command": "train digits",
        "claims": CLAIMS, "created": 1700000000.0,
    }  # fmt: skip
    return facts | changes


def evaluation(folder, name="test", *, rows=ROWS, texts=None, confusion=None):
    if confusion is None:
        confusion = np.zeros((3, 3), np.float32)
        np.add.at(confusion, (LABEL, PREDICTION), 1)
    write_json(folder / f"evaluations/{name}.json", {"step": 20, "numbers": {"accuracy": 0.5}, "texts": texts or {}})
    arrays = {"array/confusion": confusion} | {f"row/{key}": value for key, value in rows.items()}
    np.savez(folder / f"evaluations/{name}.npz", **arrays)


def bare(folder):
    """A finished run with an evaluation, but without the lines that curves are drawn from, which takes its time."""
    write_json(folder / "run.json", about())
    numbers = {"accuracy": 0.98, "loss": 0.25}
    write_json(folder / "status.json", {"status": "finished", "step": 20, "total": 20, "results": {"test": numbers}})
    evaluation(folder)
    (folder / "source").mkdir()
    (folder / "source" / "digits.py").write_text("def digits():\n    return 1 < 2\n")
    return folder


def whole(folder):
    """A finished run with everything."""
    bare(folder)
    lines = [
        {"step": s, "train/loss": 1 / s, "train/learning_rate": 0.1, "train/accuracy": s / 20} for s in (5, 10, 20)
    ]
    write_lines(folder / "metrics.jsonl", [*lines, {"step": 20, "valid/loss": 0.3, "valid/accuracy": 0.9}])
    timing = [
        {"step": s, "seconds": 1.0, "steps_per_second": 5.0, "data_wait": 0.1, "time": 100.0 + s} for s in (5, 10)
    ]
    write_lines(folder / "timing.jsonl", [{"step": 0, "event": "started", "total": 20, "time": 100.0}, *timing])
    return folder


class Records(list):
    classes = ["zero", "one", "two"]


def experiment(records=None):
    if records is None:
        records = Records({"image": np.full((4, 4, 1), i, np.uint8)} for i in range(6))
    return SimpleNamespace(evals={"test": SimpleNamespace(source=SimpleNamespace(data=records))})
