"""Listing, filtering and sorting of run folders, damaged ones among them."""

import fcntl
import threading

import pytest

from research.__main__ import main
from research.errors import UserError
from research.report.runs import age, defaults, format_runs, listed, runs
from research.runs.folder import lock
from tests.report.runs import about, bare, write_json

SOURCE = "def experiment(*, width: int = 64, rate: float = 1e-3, sizes: tuple = (8, 8), other=print):\n    pass\n"


def run(folder, accuracy=None, *, status="finished", seed=0, **knobs):
    knobs = {"width": 64, "rate": 1e-3, "sizes": [8, 8], **knobs}
    write_json(folder / "run.json", about(knobs=knobs, seed=seed, file="digits.py"))
    (folder / "source").mkdir(exist_ok=True)
    (folder / "source" / "digits.py").write_text(SOURCE)
    numbers = {} if accuracy is None else {"test": {"accuracy": accuracy, "loss": 1 - accuracy}}
    write_json(folder / "status.json", {"status": status, "step": 5, "total": 20, "results": numbers})
    return folder


@pytest.fixture
def folder(tmp_path):
    run(tmp_path / "a", 0.9)
    run(tmp_path / "b", 0.95, width=32, seed=1)
    run(tmp_path / "sweep" / "c", 0.85, rate=1e-2, network="cnn")
    run(tmp_path / "d", status="running")
    (tmp_path / "e").mkdir()
    (tmp_path / "e" / "run.json").write_text('{"experiment": "dig')
    write_json(tmp_path / "f" / "run.json", about(knobs=None, claims=None))
    (tmp_path / "f" / "status.json").write_text("[]")
    (tmp_path / "no_run").mkdir()
    write_json(tmp_path / "a" / "checkpoints" / "run.json", about())  # within a run nothing is looked for
    return tmp_path


def names(found):
    return [one.folder.name for one in found]


def test_all_are_listed_and_the_damaged_say_so(folder):
    found = {one.folder.name: one for one in runs(folder)}
    assert list(found) == ["a", "b", "d", "e", "f", "c"]
    statuses = {name: one.status for name, one in found.items()}
    assert statuses == dict(a="finished", b="finished", c="finished", d="running", e="damaged", f="damaged")
    assert "run.json cannot be read" in found["e"].problem and "expected a JSON object" in found["f"].problem
    assert (found["b"].metric, found["b"].value, found["b"].seed, found["d"].value) == ("test/accuracy", 0.95, 1, None)
    assert found["a"].changed == {} and found["b"].changed == {"width": 32}
    assert found["c"].changed == {"rate": 1e-2, "network": "cnn"}  # a knob of another form of the file counts
    text = format_runs(runs(folder), now=1700000000.0 + 7200)
    assert "2 h" in text and "width=32" in text and "5/20" in text and text.count("\n") == 6


def test_a_trial_has_the_name_of_its_sweep(tmp_path):
    run(tmp_path / "sweep-x" / "trials" / "0003", 0.9)
    run(tmp_path / "trials" / "mine", 0.8)
    write_json(tmp_path / "sweep-x" / "sweep.json", {})
    text = format_runs(runs(tmp_path))
    assert "\nsweep-x/0003  finished" in text and "\nmine " in text


@pytest.mark.parametrize(
    ("where", "wanted"),
    [
        (["width=32"], ["b"]),
        (["width!=32"], ["a", "d", "c"]),
        (["rate>=1e-2"], ["c"]),
        (["seed<1"], ["a", "d", "c"]),
        (["test/accuracy>0.86"], ["a", "b"]),
        (["accuracy > 0.86", "seed=0"], ["a"]),
        (["loss<0.06"], ["b"]),
        (["network=CNN"], ["c"]),
        (["name=d"], ["d"]),
        (["sizes=(8, 8)", "step<=5"], ["a", "b", "d", "c"]),
        (["sizes=8,8", "step<=5"], ["a", "b", "d", "c"]),
        (["experiment=digits", "status=running"], ["d"]),
    ],
)
def test_conditions(folder, where, wanted):
    assert names(runs(folder, where=where)) == wanted


def test_sorting_puts_the_best_first_and_the_unknown_last(folder):
    assert names(runs(folder, sort="accuracy"))[:3] == ["b", "a", "c"]
    assert names(runs(folder, sort="loss"))[:3] == ["b", "a", "c"]
    assert names(runs(folder, sort="test/loss"))[:3] == ["b", "a", "c"]
    assert names(runs(folder, sort="-accuracy"))[:3] == ["c", "a", "b"]
    assert names(runs(folder, sort="rate"))[:1] == ["c"] and set(names(runs(folder, sort="rate"))[-2:]) == {"e", "f"}
    assert names(runs(folder, sort="network", status="finished"))[0] == "c"


def test_status(folder):
    assert names(runs(folder, status="damaged")) == ["e", "f"]
    with pytest.raises(UserError, match="unknown status 'finishd'. Did you mean 'finished'"):
        runs(folder, status="finishd")


@pytest.mark.parametrize(
    ("where", "match"),
    [
        ("widht=32", "Did you mean 'width'"),
        ("width", "cannot be read"),
        ("width=", "cannot be read"),
        ("network>3", "needs a number"),
    ],
)
def test_conditions_that_cannot_be_read(folder, where, match):
    with pytest.raises(UserError, match=match):
        runs(folder, where=[where])


def test_a_folder_that_is_none(tmp_path, folder):
    with pytest.raises(UserError, match="no folder .*sweeb. Did you mean 'sweep'"):
        runs(folder / "sweeb")
    with pytest.raises(UserError, match="no folder test/accuracy>0.9. Pass conditions after --where. Give"):
        runs("test/accuracy>0.9")
    assert format_runs(runs(folder / "no_run")) == "no runs."
    assert runs(folder / "no_run", where=["width=3"]) == []


def test_a_run_that_goes_on_is_listed_by_its_evaluations(tmp_path):
    bare(tmp_path)
    write_json(tmp_path / "status.json", {"status": "running", "step": 20, "total": 40})
    assert listed(tmp_path).value == 0.5  # of evaluations/test.json
    write_json(tmp_path / "status.json", {"status": "running", "results": {"test": {"accuracy": None, "loss": 2.0}}})
    assert listed(tmp_path).results == {"test/loss": 2.0}


def test_defaults_are_read_without_running_anything(tmp_path):
    file = tmp_path / "x.py"
    file.write_text("raise SystemExit\n" + SOURCE)
    assert defaults(file) == {"width": 64, "rate": 1e-3, "sizes": [8, 8]}
    file.write_text("def experiment(")
    assert defaults(file) == defaults(tmp_path / "none.py") == defaults(tmp_path) == {}


def test_age():
    assert [age(s) for s in (-3, 59, 60, 7199, 90000)] == ["0 s", "59 s", "1 min", "2 h", "1 d"]


def test_the_verb(folder, capsys):
    assert main(["runs", str(folder), "--where", "width=64", "accuracy>0.5", "--sort=-accuracy"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["run", "c", "a"]
    assert main(["runs", str(folder / "nowhere")]) == 2


def test_a_run_whose_process_is_gone_is_killed(tmp_path, capsys):
    mine = run(tmp_path / "mine", status="running")
    status = lambda: [one.status for one in runs(tmp_path)]
    assert status() == ["running"], "without a lock, nothing is known"
    with lock(mine):
        assert status() == ["running"]
    assert status() == ["killed"], "the system has released the lock, as it does if a process dies"
    assert main(["runs", str(tmp_path), "--status", "killed"]) == 0 and "mine  killed" in capsys.readouterr().out
    (mine / ".lock").write_text("1 on another-host\n")
    assert status() == ["running"], "another host may still hold it"


def test_a_reader_does_not_keep_a_run_from_starting(tmp_path):
    with open(run(tmp_path / "mine") / ".lock", "w") as reader:
        fcntl.flock(reader, fcntl.LOCK_SH)
        threading.Timer(0.02, fcntl.flock, [reader, fcntl.LOCK_UN]).start()
        with lock(tmp_path / "mine"):
            pass
