"""The doctor as a person calls it: whole experiments, healthy ones without a finding and broken ones named."""

import io

import pytest

from research.__main__ import main
from research.diagnose.doctor import doctor
from research.errors import UserError
from tests.report.runs import write_json

BROKEN = '''"""Digits as they are stored, at a rate of 30."""

from tests.diagnose.patients import noisy, patient

def experiment(*, rate: float = 30.0):
    return patient(rate=rate, prepare=lambda x: 16.0 * x, change=noisy(0.3))
'''
HEALTHY = [
    ("digits.py", {"network": "mlp"}),
    ("tabular/breast_cancer.py", {}),
    pytest.param("digits.py", {"channels": "8,16"}, marks=pytest.mark.slow),
    pytest.param("tabular/regression.py", {}, marks=pytest.mark.slow),
    pytest.param("language/gpt_stdlib.py", {"width": 32, "depth": 1, "length": 32}, marks=pytest.mark.slow),
    pytest.param("vision/fashion_mnist.py", {"width": 32}, marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("file", "knobs"), HEALTHY)
def test_a_healthy_experiment_has_no_finding(file, knobs, tmp_path):
    stream = io.StringIO()
    if "fashion" in file:
        from research.data import fashion_mnist

        try:
            fashion_mnist("test")
        except UserError as error:
            pytest.skip(str(error))
    assert doctor(f"experiments/{file}", folder=tmp_path, stream=stream, **knobs) == [], stream.getvalue()
    assert "0 problems, 0 worth a look" in stream.getvalue()


def test_broken_ones_are_told_on_the_console_on_a_page_and_by_the_exit_status(tmp_path, capsys):
    file = tmp_path / "broken.py"
    file.write_text(BROKEN)
    assert main(["doctor", str(file), "--folder", str(tmp_path / "out")]) == 1
    said = capsys.readouterr().out
    for rule in ("scale of the inputs", "suspect labels", "loss at the start", "learning rate"):
        assert f"problem: {rule}: " in said, said
    assert "    try: " in said and "passed: gradients: " in said
    page = (tmp_path / "out" / "doctor.html").read_text()
    assert "<svg" in page and "Suspect labels" in page and (tmp_path / "out" / "rate.svg").exists()


def test_a_run_is_examined_and_mistakes_are_told(tmp_path, monkeypatch, capsys):
    from research.diagnose import examine
    from research.diagnose.finding import Finding

    (tmp_path / "run.json").write_text("{}")
    found = [Finding("a", False, "one", ()), Finding("b", True, "two", ("this",))]
    monkeypatch.setattr(examine, "examined", lambda run: found)
    assert main(["doctor", str(tmp_path)]) == 1
    assert capsys.readouterr().out.splitlines() == ["problem: b: two", "    try: this", "look: a: one"]
    monkeypatch.setattr(examine, "examined", lambda run: [])
    assert main(["doctor", str(tmp_path)]) == 0 and "no problem found" in capsys.readouterr().out
    with pytest.raises(UserError, match="hidden was given"):
        doctor(tmp_path, hidden=3)
    assert main(["doctor", "experiments/digits.py", "--netwerk", "mlp"]) == 2
    assert "--network" in capsys.readouterr().err
    assert main(["doctor", str(tmp_path / "none.py")]) == 2


ONE_HOT = '''"""The labels are probabilities, which the loss accepts and the measure does not."""

import numpy as np

from research.core import Eval
from research.data import arrays, batches, eval_batches
from research.metrics.classification import measure_classification
from tests.diagnose.patients import patient, records

DATA = arrays(image=records(0)["image"], label=np.eye(10, dtype=np.float32)[records(0)["label"]])

def experiment():
    test = Eval(eval_batches(DATA, 100), measure_classification(num_classes=10))
    return patient(source=batches(DATA, 32), evals={"test": test})
'''


def test_a_broken_evaluation_is_a_finding(tmp_path, capsys):
    file = tmp_path / "onehot.py"
    file.write_text(ONE_HOT)
    assert main(["doctor", str(file), "--no-rate", "--folder", str(tmp_path / "out")]) == 1
    said = capsys.readouterr().out
    assert said.startswith("problem: evaluation 'test': 'label' is float32[100, 10]; expected class numbers")
    assert "1 problems" in said and "class numbers" in (tmp_path / "out" / "doctor.html").read_text()


def test_a_missed_claim_is_worth_a_look(tmp_path, capsys):
    claims = [{"metric": "test/accuracy", "at_least": 0.97}, {"metric": "test/loss", "at_most": 1.0}]
    write_json(tmp_path / "run.json", {"experiment": "a", "knobs": {}, "seed": 0, "claims": claims})
    results = {"test": {"accuracy": 0.9512, "loss": 0.2}}
    for status, said in {"finished": "look: claim: test/accuracy is 0.9512; the claim is at least 0.97.",
                         "failed": "no problem found"}.items():  # fmt: skip
        write_json(tmp_path / "status.json", {"status": status, "step": 4, "total": 4, "results": results})
        assert main(["doctor", str(tmp_path)]) == 0
        out = capsys.readouterr().out
        assert out.startswith(said) and "test/loss" not in out
