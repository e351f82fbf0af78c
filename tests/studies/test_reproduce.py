"""Claims held against seeds: the interval, the verdict, the store, and a page that is written from it alone."""

import io
import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from research import verbs
from research.__main__ import main
from research.errors import UserError
from research.events import Ended, Interval, Started
from research.studies import reproduce
from research.studies.reproduce import Estimate, estimate, form, verdict
from research.tracking import energy

TOY = '''"""A toy whose result is its seed.

Second line.
"""

from research.experiment import Claim
from tests import toys


def experiment(*, {knob}: float = 0.3, bound: float = 5.0):
    """Knobs."""
    evals = toys.experiment().evals
    test = evals["test"]._replace(finish=lambda results: {})  # its metrics are known at the end
    return toys.experiment(noise={knob}, save_every=40, evals={**evals, "test": test}, claims=(
        Claim("test/mse", at_most=bound, reference="a paper, table 3"), Claim("test/other", at_least=1)))
'''


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with an experiment of forty quick steps, and the present directory. No run draws its report."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(verbs, "report_of", lambda *_: None)
    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments" / "__init__.py").touch()
    (tmp_path / "experiments" / "toy.py").write_text(TOY.replace("{knob}", "noise"))
    (tmp_path / "experiments" / "never.py").write_text(TOY.replace("{knob}", "noise").replace("A toy", "Another"))
    return tmp_path


def run(*files, **options):
    stream = io.StringIO()
    return reproduce.reproduce(
        files or "experiments/toy.py", stream=stream, **{"seeds": 2, **options}
    ), stream.getvalue()


def test_the_interval_is_students():
    values = [0.81, 0.84, 0.80, 0.85]
    found = estimate(values)
    low, high = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    np.testing.assert_allclose(found, (np.mean(values), stats.sem(values), low, high, 4), rtol=1e-12)
    assert estimate([0.5]) == Estimate(0.5, math.inf, -math.inf, math.inf, 1)
    assert estimate([500.0, 500.0]) == Estimate(500, 0, 500, 500, 2)


@pytest.mark.parametrize(
    "low, high, bounds, expected",
    [
        (0.80, 0.90, {"at_least": 0.8}, "met"),
        (0.79, 0.90, {"at_least": 0.8}, "undecided"),
        (0.70, 0.79, {"at_least": 0.8}, "missed"),
        (0.70, 0.81, {"at_least": 0.8}, "undecided"),
        (0.79, 0.90, {"at_most": 0.8}, "undecided"),
        (0.70, 0.80, {"at_most": 0.8}, "met"),
        (0.81, 0.90, {"at_most": 0.8}, "missed"),
        (0.79, 0.81, {"at_most": 0.8, "at_least": None}, "undecided"),
        (0.50, 0.60, {"at_least": 0.4, "at_most": 0.7}, "met"),
        (0.71, 0.80, {"at_least": 0.4, "at_most": 0.7}, "missed"),
        (-math.inf, math.inf, {"at_least": 0.4}, "undecided"),
    ],
)
def test_the_verdict_is_by_the_interval(low, high, bounds, expected):
    assert verdict(bounds, Estimate((low + high) / 2, 0.1, low, high, 3)) == expected


def test_seeds_are_trained_stored_and_not_trained_again(folder, monkeypatch):
    records, output = run()
    assert [(r["experiment"], r["seed"], r["changed"]) for r in records] == [("toy", 0, {}), ("toy", 1, {})]
    for entry in records:
        results = json.loads(Path(f"runs/{folder_of(entry)}/status.json").read_text())["results"]
        assert entry["results"]["test/mse"] == results["test"]["mse"] and entry["seconds"] > 0
        assert entry["joules"] > 0 and entry["metered"] and entry["hardware"]["processor"] and entry["versions"]["jax"]
    page = Path("REPRODUCTIONS.md").read_text()
    mean = np.mean([r["results"]["test/mse"] for r in records])
    assert f"| experiments/toy.py | test/mse at most 5 | {mean:.4g} ± " in page and "(n = 2) | met" in page
    assert "test/other at least 1 | not among the results | not measured" in page
    assert "| experiments/never.py | test/mse at most bound |" in page and "not run here" in page
    assert "a paper, table 3" in page and "test/mse at most 5" in output
    monkeypatch.setattr(reproduce, "train", None)  # what is recorded needs no training
    assert run()[0] == records and Path("REPRODUCTIONS.md").read_text() == page
    # A comment or a docstring changes nothing; the code does, and the page says so of what was measured before.
    file = Path("experiments/toy.py")
    file.write_text("# a comment\n" + file.read_text().replace("Second line.", "Another line."))
    assert run()[0] == records and Path("REPRODUCTIONS.md").read_text() == page
    file.write_text(
        file.read_text().replace("noise=noise", "noise=2 * noise").replace("noise: float = 0.3", "noise: float = 0.2")
    )
    reproduce.write_page()
    assert Path("REPRODUCTIONS.md").read_text().count("with an earlier version of the file") == 2
    with pytest.raises(TypeError):
        run()
    monkeypatch.undo()
    monkeypatch.chdir(folder)
    monkeypatch.setattr(verbs, "report_of", lambda *_: None)
    assert [(r["seed"], r["knobs"]["noise"]) for r in run()[0]] == [(0, 0.2), (1, 0.2)], "not four: the default is new"


def folder_of(entry):
    return next(path.name for path in Path("runs").glob("toy-*") if path.name.endswith(f"-s{entry['seed']}"))


def test_other_knobs_are_other_rows_and_a_finished_run_can_be_recorded(folder):
    verbs.train("experiments/toy.py", noise=0.1, seed=4, run_dir="mine", stream=io.StringIO())
    records, _ = run("mine")
    assert [(r["changed"], r["seed"], r["joules"]) for r in records] == [({"noise": 0.1}, 4, None)]
    run("mine")
    assert len(reproduce.stored("toy")) == 1, "recorded twice is recorded once"
    assert main(["reproduce", "experiments/toy.py", "--seeds", "1", "--noise", "0.2"]) == 0
    page = Path("REPRODUCTIONS.md").read_text()
    assert "experiments/toy.py --noise 0.1 |" in page and "experiments/toy.py --noise 0.2 |" in page
    assert page.count("(n = 1) | undecided") == 2


def test_what_cannot_be_reproduced_is_said(folder, monkeypatch, capsys):
    with pytest.raises(UserError, match="knobs are for one experiment"):
        run("experiments/toy.py", "experiments/never.py", noise=0.1)
    with pytest.raises(UserError, match="no experiment file"):
        run("experiments/tyo.py")
    assert main(["reproduce", "experiments/toy.py", "--nose", "1"]) == 2 and "--noise" in capsys.readouterr().err
    monkeypatch.setattr(reproduce, "train", lambda *a, **k: verbs.RunResult(Path("x"), "preempted", {}))
    with pytest.raises(UserError, match="seed 0 of .* was interrupted; run the same command again"):
        run()
    begun = folder / "begun"
    begun.mkdir()
    (begun / "run.json").write_text(json.dumps({"experiment": "toy", "claims": [{"metric": "a"}]}))
    with pytest.raises(UserError, match="is not started; expected a finished run"):
        run(begun)
    (begun / "run.json").write_text(json.dumps({"experiment": "toy"}))


def test_runs_without_claims_report_the_metrics_that_others_claim(folder):
    file = Path("experiments/toy.py")
    text = file.read_text().replace("claims=(\n", "claims=() if noise == 0.5 else (\n")
    assert "if noise" in text
    file.write_text(text)
    run()
    records, output = run(noise=0.5)
    mean = np.mean([r["results"]["test/mse"] for r in records if r["changed"]])
    page = Path("REPRODUCTIONS.md").read_text()
    assert f"| experiments/toy.py --noise 0.5 | test/mse | {mean:.4g} ± " in page and "(n = 2) | no claim |" in page
    assert "--noise 0.5 | test/other" not in page, "not among the results"
    names = {name for name, value in records[0]["results"].items()}
    assert len(names) > 1 and all(f"experiments/toy.py --noise 0.5: {name}: " in output for name in names)


@pytest.mark.parametrize("file", ["mine.py", "other/experiments/toy.py"])
@pytest.mark.parametrize("repository", [False, True])
def test_of_an_experiment_outside_the_summary_is_printed_and_nothing_is_stored(folder, file, repository):
    shutil.copytree("experiments", "other/experiments")
    Path("mine.py").write_text(Path("experiments/toy.py").read_text())
    if not repository:
        Path("experiments").rename("elsewhere")
    before = set(Path().rglob("*"))
    records, output = run(file)
    mean = np.mean([r["results"]["test/mse"] for r in records])
    name = file.removeprefix("other/")
    assert f"{name}: test/mse at most 5: {mean:.4g} ± " in output and "(n = 2): met" in output
    assert (
        "Not recorded, because the file is not below experiments:\n  runs/" in output and output.count("  runs/") == 2
    )
    assert {path.parts[0] for path in set(Path().rglob("*")) - before} == {"runs"}


def test_all_files_are_checked_before_a_run_is_trained(folder):
    with pytest.raises(UserError, match="there is no experiment file .*tyo.py. Did you mean 'toy.py'"):
        run("experiments/toy.py", "experiments/tyo.py")
    assert not Path("runs").exists()


def test_claims_are_read_off_a_source_that_is_not_run():
    text = (
        "x = Claim('a/b', at_least=0.5, at_most=LIMIT, reference='x'), Claim(a, **BOUNDS[k], reference='y'), Claim('c')"
    )
    assert reproduce.claims_in(text) == ["a/b at least 0.5 and at most LIMIT", "a BOUNDS[k]", "c"]


def test_the_form_of_a_source_is_its_code():
    plain = {"a.py": "x = 1\n"}
    assert form(plain) == form({"a.py": '"""Text."""\n# why\nx  =  1\n'}) != form({"a.py": "x = 2\n"})
    assert form(plain) != form({"b.py": "x = 1\n"})


def test_processors_counters_are_read_and_may_begin_again(tmp_path):
    for number, start in ((0, 990_000), (1, 5)):
        package = tmp_path / f"intel-rapl:{number}"
        package.mkdir()
        (package / "energy_uj").write_text(f"{start}\n")
        (package / "max_energy_range_uj").write_text("1000000\n")
        (tmp_path / f"intel-rapl:{number}:0").mkdir()  # a part of the package, in its figure already
    meter = energy.rapl(tmp_path)
    (tmp_path / "intel-rapl:0" / "energy_uj").write_text("500000\n")
    meter.tick()
    (tmp_path / "intel-rapl:0" / "energy_uj").write_text("200000\n")
    (tmp_path / "intel-rapl:1" / "energy_uj").write_text("1005\n")
    assert meter.method == "RAPL" and meter.joules() == pytest.approx(0.510 + 0.700 + 0.001)
    assert energy.rapl(tmp_path / "none") is None
    (tmp_path / "intel-rapl:0" / "energy_uj").unlink()
    assert energy.rapl(tmp_path) is None


def test_each_life_of_a_run_is_metered(tmp_path, monkeypatch):
    ticks = []
    monkeypatch.setattr(energy, "meter", lambda: energy.Meter(lambda: 7.0, "by hand", lambda: ticks.append(1)))
    for _ in range(2):
        listen = energy.metered(tmp_path)
        for event in (
            Started(0, 10, lambda: 0),
            Started(5, 10, lambda: 5),
            Interval(6, {}, {}),
            Ended(10, "finished", {}),
        ):
            listen(event)
    lines = [json.loads(line) for line in (tmp_path / "cost.jsonl").read_text().splitlines()]
    assert [(line["joules"], line["method"]) for line in lines] == [(7, "by hand")] * 2 and len(ticks) == 6
    energy.metered(tmp_path)(Ended(0, "failed", {}))  # before it began
    assert len((tmp_path / "cost.jsonl").read_text().splitlines()) == 2


def test_the_estimate_is_of_processor_time(monkeypatch):
    meter = energy.estimate()
    before = energy.time.process_time()
    monkeypatch.setattr(energy.time, "process_time", lambda: before + 3)
    assert meter.joules() == pytest.approx(30, abs=1) and "estimate" in meter.method
