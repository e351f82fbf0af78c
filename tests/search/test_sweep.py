"""Whole sweeps with real runs and real workers, which are really killed."""

import io
import json
import os
import signal
import subprocess
import sys
import time

import jax
import pytest

from research import verbs
from research.__main__ import main
from research.errors import UserError
from research.files import read_json
from research.search import sweep, verb, worker_command
from research.search.study import read_sweep, settle
from research.search.verb import share_of_gpus
from tests.search.fake import FILE, STEPS, cost

ENV = {**os.environ, "JAX_NUM_CPU_DEVICES": "1"}


@pytest.fixture(autouse=True)
def one_device(monkeypatch):
    """As on a laptop."""
    monkeypatch.setenv("JAX_NUM_CPU_DEVICES", "1")
    first = jax.devices()[:1]
    monkeypatch.setattr(jax, "devices", lambda *_: first)


def wait(ready, *, process=None, seconds=300):
    until = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < until and (process is None or process.poll() is None)
        time.sleep(0.02)


def begin(folder, *arguments):
    command = [sys.executable, "-m", "research", "sweep", str(FILE), "--folder", str(folder), *arguments]
    return subprocess.Popen(command, env=ENV, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def alive(pid):
    """Whether a process that is no child of ours runs."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def holder(folder, number):
    """The process that has a trial."""
    path = folder / "locks" / f"{number:04d}"
    return int(path.read_text().split()[1]) if path.exists() and path.read_text().strip() else None


def test_a_sweep_of_real_runs_ends_at_the_closed_form(tmp_path, capsys, monkeypatch):
    arguments = ["--search", "grid", "--x", "0.3,1.3", "--broken", "no,yes", "--runs", str(tmp_path)]
    assert main(["sweep", str(FILE), *arguments]) == 0
    output = capsys.readouterr().out
    (folder,) = tmp_path.iterdir()
    assert folder.name.startswith("sweep-tests.search.toy-")
    found = sweep(FILE, search="grid", x="0.3,1.3", broken="no,yes", runs=tmp_path, stream=io.StringIO())
    assert found.folder == folder and found.finished and len(found.trials) == 4
    good, bad = found.trials[:2], found.trials[2:]
    for trial in good:
        assert trial.value == pytest.approx(cost({"n": 5, "kind": "good", **trial.knobs}, STEPS), abs=1e-6)
        status = read_json(trial.folder / "status.json")
        assert status["status"] == "finished" and status["results"]["valid"]["cost"] == trial.value
    # A run whose loss is not finite is a failed trial, not a dead worker.
    assert [t.state for t in bad] == ["failed", "failed"] and all("NonFinite: At step" in t.error for t in bad)
    assert "best: python -m research train" in output and "--x=0.3 --broken=False --seed 0" in output
    assert (folder / "report.html").exists() and (folder / "parallel.svg").exists()
    command = output.split("best: python -m research ")[1].splitlines()[0].split()
    assert main([*command, "--run-dir", str(tmp_path / "best")]) == 0
    assert (tmp_path / "best" / "metrics.jsonl").read_text() == (good[0].folder / "metrics.jsonl").read_text()


def saved(folder, number, step):
    return (folder / "trials" / f"{number:04d}" / "checkpoints" / str(step) / "meta" / "meta.json").exists()


def test_a_killed_worker_costs_nothing(tmp_path):
    """Two processes; one is killed in the middle of a trial, which goes on from its checkpoint."""
    folder, gate = tmp_path / "sweep", tmp_path / "gate"
    process = begin(folder, "--search", "grid", "--x", "0.3,0.5", "--gate", str(gate), "--workers", "2")
    wait(lambda: saved(folder, 0, 6) and saved(folder, 1, 6), process=process)
    os.kill(holder(folder, 0), signal.SIGKILL)
    gate.touch()
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    assert "exited with code -9; restarting it" in output
    _, study = settle(folder)
    assert [t.state.name for t in study.trials] == ["COMPLETE"] * 2  # none is there twice
    assert [t.user_attrs["lives"] for t in study.trials] == [[0, 6], [0]]
    logs = "".join(path.read_text() for path in folder.glob("worker-*.log"))
    assert logs.count("Resuming from the checkpoint of step 6") == 1
    for trial in study.trials:
        assert trial.value == pytest.approx(cost({"n": 5, "kind": "good", **trial.params}, STEPS), abs=1e-6)
    first = folder / "trials" / "0000"
    whole = verbs.train(read_sweep(folder).file, x=0.3, run_dir=tmp_path / "whole", stream=io.StringIO())
    assert (whole.folder / "metrics.jsonl").read_text() == (first / "metrics.jsonl").read_text()
    assert whole.results == read_json(first / "status.json")["results"]
    # Nothing of it is left to do.
    again = sweep(FILE, search="grid", x="0.3,0.5", gate=str(gate), folder=folder, stream=io.StringIO())
    assert again.finished and len(again.trials) == 2 and len(settle(folder)[1].trials) == 2


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_workers_leave_with_their_parent_and_what_they_did_is_kept(tmp_path, number):
    folder, gate = tmp_path / "sweep", tmp_path / "gate"
    process = begin(folder, "--search", "random", "--x", "0:1", "--budget", "2", "--gate", str(gate), "--workers", "2")
    wait(lambda: saved(folder, 0, 6) and saved(folder, 1, 6), process=process)
    workers = [holder(folder, n) for n in (0, 1)]
    process.send_signal(number)
    told = lambda: all("SIGTERM: finishing" in (folder / f"worker-{n}.log").read_text() for n in (0, 1))
    wait(told)
    gate.touch()
    output, _ = process.communicate(timeout=300)
    assert process.returncode == (0 if number == signal.SIGTERM else -number), output
    wait(lambda: not any(alive(pid) for pid in workers))
    runs = [read_json(folder / "trials" / f"{n:04d}" / "status.json") for n in (0, 1)]
    assert [(run["status"], run["step"]) for run in runs] == [("preempted", 7)] * 2
    _, study = settle(folder)
    assert [t.state.name for t in study.trials] == ["RUNNING"] * 2
    if number == signal.SIGTERM:
        assert "run the same command again to continue" in output
        return
    # Any worker takes them over: here one that is started by hand.
    command = [sys.executable, *worker_command(folder)[1:]]
    done = subprocess.run(command, env=ENV, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Resuming from the checkpoint of step 7") == 2
    assert [t.state.name for t in settle(folder)[1].trials] == ["COMPLETE"] * 2
    assert "no trial left to start: 2 trials" in done.stdout and (folder / "report.html").exists()


def test_a_mistake_that_a_worker_finds_ends_the_sweep(tmp_path, monkeypatch):
    script = "import sys; print('error: unknown metric'); sys.exit(2)"
    monkeypatch.setattr(verb, "worker_command", lambda folder: ("python", "-c", script))
    with pytest.raises(UserError, match=r"^unknown metric\n\(worker [01]; its log is .*worker-[01].log\)$"):
        sweep(FILE, x="0:1", workers=2, folder=tmp_path / "sweep", stream=io.StringIO())


def test_workers_that_die_at_once_are_not_started_for_ever(tmp_path, monkeypatch):
    monkeypatch.setattr(verb, "worker_command", lambda folder: ("python", "-c", "raise SystemExit(9)"))
    with pytest.raises(UserError, match=r"workers died 7 times in a row"):
        sweep(FILE, x="0:1", workers=2, folder=tmp_path / "sweep", stream=io.StringIO())


def test_zero_workers_prepare_and_say_how_to_begin(tmp_path):
    stream = io.StringIO()
    found = sweep(FILE, x="0:1", workers=0, budget="1", folder=tmp_path / "sweep", stream=stream)
    assert not found.finished and not found.trials
    assert f"start each worker with: python -m research sweep --worker {found.folder}" in stream.getvalue()
    assert settle(found.folder)[0].metric == "valid/cost"


def test_the_command_line_answers_mistakes(tmp_path, capsys):
    for arguments, said in (
        ([], "no experiment given. Give a FILE"),
        ([str(FILE), "--x", "1"], "nothing to search"),
        ([str(FILE), "--xx", "0:1"], "unknown argument '--xx'. Did you mean '--x'"),
        ([str(FILE), "--x"], "expected one argument"),
        ([str(FILE), "--x", "-1:1:lg"], "A range looks like 1e-4:1e-2 or 1e-4:1e-2:log"),
        (["--worker", str(tmp_path / "none")], "is not a sweep folder"),
        ([str(FILE), "--x", "0:1:lg"], "A range looks like 1e-4:1e-2 or 1e-4:1e-2:log"),
    ):
        assert main(["sweep", *arguments, *(["--runs", str(tmp_path)] if arguments else [])]) == 2
        assert said in capsys.readouterr().err
    file = tmp_path / "mine.py"
    file.write_text("def experiment(*, metric: float = 1.0): ...\n")
    assert main(["sweep", str(file), "--metric", "0:1"]) == 2
    assert "rename the knob 'metric'" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["sweep", str(FILE), "--help"])
    shown = " ".join(capsys.readouterr().out.split())
    assert "Write a range as" in shown and "--kind good|bad" in shown and "--attached" not in shown


def test_gpus_are_shared_out():
    assert share_of_gpus(0, 2, {}, present=0) == {} and share_of_gpus(0, 2, {"CUDA_VISIBLE_DEVICES": ""}) == {}
    given = [share_of_gpus(n, 3, {}, present=8)["CUDA_VISIBLE_DEVICES"] for n in range(3)]
    assert given == ["0,1", "2,3", "4,5"]  # as many for each: the same mesh, the same numbers
    assert share_of_gpus(1, 2, {"CUDA_VISIBLE_DEVICES": "4,6"}, present=8) == {"CUDA_VISIBLE_DEVICES": "6"}
    shared = share_of_gpus(3, 4, {}, present=2)
    assert shared == {"CUDA_VISIBLE_DEVICES": "1", "XLA_PYTHON_CLIENT_MEM_FRACTION": "0.450"}


def test_sweep_json_is_plain(tmp_path):
    found = sweep(FILE, x="0:1", workers=0, folder=tmp_path / "sweep", stream=io.StringIO())
    known = json.loads((found.folder / "sweep.json").read_text())
    assert known["given"]["space"]["searched"] == {"x": ["Range", 0.0, 1.0, False]} and known["mode"] == "min"
