"""A real SLURM of two nodes: real trainings of two processes through every way in which a job can end."""

import contextlib
import io
import json
import os
import re
import signal
from pathlib import Path
from typing import NamedTuple

import pytest

from launch.__main__ import main
from research.search import sweep
from tests.launch.slurm_here import until

REPO = Path(__file__).parent.parent.parent
FILE = "tests/launch/slow_steps.py"
TWO = ("--nodes", "2")
LONG = 400  # seconds; most takes ten on an idle host


class Submitted(NamedTuple):
    """A job: its number, and the folder of all runs."""

    number: str
    runs: Path

    def output(self, which=None):
        return next(self.runs.glob(f"launched/*/{which or self.number}.out")).read_text()

    def told(self, which=None):
        found = list(self.runs.glob(f"launched/*/{which or self.number}.json"))
        return json.loads(found[0].read_text()) if found else {"status": "nothing", "step": -1}

    def metrics(self):
        (path,) = self.runs.glob("*slow_steps-*/metrics.jsonl")
        return path.read_text()


@pytest.fixture
def submit(slurm, tmp_path, monkeypatch, capfd):
    def submit(*arguments, runs=tmp_path, what=(FILE,)):
        monkeypatch.chdir(REPO)
        for name, value in {**slurm.env, "RESEARCH_RUNS": str(runs), "JAX_NUM_CPU_DEVICES": "1"}.items():
            monkeypatch.setenv(name, value)
        capfd.readouterr()
        assert main(["slurm", *what, *arguments]) == 0
        return Submitted(re.search(r"Submitted batch job (\d+)", capfd.readouterr().out).group(1), runs)

    return submit


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    return tmp_path_factory.mktemp("unbroken")


@pytest.fixture
def unbroken(slurm, submit, kept):
    """The metrics of a run of two processes on two nodes that nobody disturbs."""
    if not list(kept.glob("launched")):
        job = submit("--", *TWO, runs=kept)
        ended(slurm, job, "COMPLETED")
        assert job.told()["status"] == "finished" and job.told()["step"] == 20
        assert job.output().count("finished at step 20 of 20") == 1  # of two processes, one tells
    return Submitted("", kept).metrics()


def ended(slurm, job, state, which=None):
    """Waits until the job, or element, is in a state; on another end, fails with its output."""
    which = which or job.number
    over = {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", state}
    found = until(lambda: (s := slurm.state(which)) in over and s, LONG)
    assert found == state, job.output(which)


def again(slurm, job, which=None, restarts=1):
    """Waits until the job is requeued, and lets it begin at once: SLURM would wait for two minutes."""
    which = which or job.number

    def requeued():
        shown = slurm.show(which)
        return shown.get("JobState") == "PENDING" and shown.get("Restarts") == str(restarts)

    until(requeued, LONG)
    slurm.run("scontrol", "update", f"JobId={which}", "StartTime=now")


def under_way(job, step=5, which=None):
    until(lambda: job.told(which)["step"] >= step, LONG)


def test_it_finishes(unbroken):
    assert [json.loads(line)["step"] for line in unbroken.splitlines()] == [5, 10, 15, 20]


def test_an_exception_on_one_node_ends_the_job_and_is_not_repeated(slurm, submit):
    job = submit("--fail-at", "7", "--", *TWO)
    ended(slurm, job, "FAILED")
    assert "RuntimeError: boom" in job.output() and "requeue" not in job.output()
    assert slurm.show(job.number)["Restarts"] == "0"


def test_cancelled_by_a_person_it_saves_and_stays_away(slurm, submit, capfd):
    job = submit("--steps", "4000", "--seconds", "0.1", "--")
    under_way(job)
    assert main(["status", "slurm", job.number]) == 0
    assert job.number in capfd.readouterr().out
    assert main(["cancel", "slurm", job.number]) == 0
    ended(slurm, job, "CANCELLED")
    until(lambda: "not by this script" in job.output(), 60)
    assert job.told()["status"] == "preempted" and job.told()["step"] >= 5
    assert main(["logs", "slurm", job.number, "--", "--pid=1000000000"]) == 0  # until that process is gone
    assert "preempted at step" in capfd.readouterr().out


@pytest.mark.slow
def test_preempted_it_goes_on_to_the_same_numbers(slurm, submit, unbroken):
    job = submit("--seconds", "1", "--", *TWO)
    under_way(job)
    slurm.run("sbatch", "--partition=high", "--nodes=2", "--exclusive", "--output=/dev/null", "--wrap=sleep 1")
    again(slurm, job)
    assert job.told()["status"] == "preempted" and 5 <= job.told()["step"] < 20
    ended(slurm, job, "COMPLETED")
    assert f"Resuming from the checkpoint of step {json.loads(_lives(job))[1][1]}" in job.output()
    assert job.metrics() == unbroken


def _lives(job):
    return next(job.runs.glob(f"launched/*/{job.number}.json.lives")).read_text()


@pytest.mark.slow
def test_at_its_time_limit_it_saves_and_goes_on_an_element_of_an_array_by_itself(slurm, submit):
    limits = ("--seeds", "3:5", "--time", "2", "--warning", "60")
    job = submit("--steps", "400", "--seconds", "1", "--", *limits)
    elements = [f"{job.number}_{seed}" for seed in (3, 4)]
    for which in elements:
        until(lambda which=which: slurm.show(which).get("Restarts") == "1", LONG)
        slurm.run("scontrol", "update", f"JobId={which}", "TimeLimit=60")  # or a slow host is at its end again
        again(slurm, job, which)
        assert "the time limit is near: saving" in job.output(which)
    slurm.run("scancel", elements[0])  # which has the number of the whole array, or the other one has
    ended(slurm, job, "CANCELLED", elements[0])
    until(lambda: "Resuming from the checkpoint" in job.output(elements[1]), LONG)
    slurm.run("scancel", elements[1])
    ended(slurm, job, "CANCELLED", elements[1])
    assert sorted(p.name[-2:] for p in job.runs.glob("*slow_steps-*")) == ["s3", "s4"]


@pytest.mark.slow
def test_told_before_it_could_listen_it_begins_anew(slurm, submit):
    job = submit("--")
    until(lambda: slurm.run("squeue", "-h", "--steps", "--job", job.number).stdout.count(".0"), LONG)
    slurm.run("scancel", "--signal=TERM", job.number)
    slurm.run("scancel", "--batch", "--signal=TERM", job.number)
    again(slurm, job)
    assert job.told()["status"] == "nothing" and "stop requested, or" in job.output()


@pytest.mark.parametrize(
    ("lives", "words"),
    [
        ([["", -1], ["r", 5]], "no progress: the last attempt ended at step 5"),
        ([["", -1], ["r", 1], ["r", 2]], "restarted 2 times, the limit"),
    ],
)
def test_restarts_end_at_the_cap_and_without_progress(slurm, submit, lives, words):
    job = submit("--", "--max-restarts", "2", "--sbatch=--hold")
    (folder,) = (job.runs / "launched").iterdir()
    (folder / f"{job.number}.json").write_text(json.dumps({"status": "preempted", "step": 5, "folder": "r"}))
    (folder / f"{job.number}.json.lives").write_text(json.dumps(lives))
    slurm.run("scontrol", "release", job.number)
    ended(slurm, job, "FAILED")
    assert words in job.output() and "requeue" not in job.output() and slurm.show(job.number)["Restarts"] == "0"


@pytest.mark.slow
@pytest.mark.parametrize("lost", ["the node of the script", "the other node"])
def test_a_lost_node_is_no_failure_of_the_job(slurm, submit, unbroken, lost):
    job = submit("--seconds", "1", "--", *TWO)
    under_way(job)
    batch = slurm.show(job.number)["BatchHost"]
    node = batch if lost == "the node of the script" else next(n for n in slurm.nodes if n != batch)
    lose(slurm, job, node)
    until(lambda: slurm.show(job.number).get("Restarts") == "1", LONG)
    slurm.start_node(node)
    # Not at once: SLURM first ends on this node what it believes is there of the life before.
    ended(slurm, job, "COMPLETED")
    assert job.metrics() == unbroken


def lose(slurm, job, node):
    """Kills all that runs on a node, as if its power were cut."""
    gone = {int((slurm.base / f"slurmd.{node}.pid").read_text())}
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            values = dict(v.split("=", 1) for v in (entry / "environ").read_text().split("\0") if "=" in v)
            if (values.get("SLURM_JOB_ID"), values.get("SLURMD_NODENAME")) == (job.number, node):
                parent = int(re.search(r"PPid:\s+(\d+)", (entry / "status").read_text()).group(1))
                if "slurmstepd" in Path(f"/proc/{parent}/cmdline").read_text():
                    gone.add(parent)
                gone.add(int(entry.name))
    assert len(gone) >= 3
    for number in gone:
        with contextlib.suppress(ProcessLookupError):
            os.kill(number, signal.SIGKILL)


@pytest.mark.slow
def test_the_workers_of_a_sweep_are_an_array_and_one_that_dies_costs_nothing(slurm, submit, tmp_path):
    folder, gate = tmp_path / "sweep", tmp_path / "gate"
    grid = dict(search="grid", x="0.3,0.5", gate=str(gate), folder=folder, stream=io.StringIO())
    sweep("tests/search/toy.py", workers=0, **grid)
    job = submit("--", "--workers", "2", what=("sweep", str(folder)))
    under_way = lambda n: (folder / "trials" / f"{n:04d}" / "checkpoints" / "6" / "meta" / "meta.json").exists()
    until(lambda: under_way(0) and under_way(1), LONG)
    holder = int((folder / "locks" / "0000").read_text().split()[1])
    os.kill(holder, signal.SIGKILL)
    gate.touch()
    elements = [f"{job.number}_{number}" for number in (0, 1)]
    over = {"COMPLETED", "FAILED"}
    ends = until(lambda: (found := [slurm.state(which) for which in elements]) and set(found) <= over and found, LONG)
    assert sorted(ends) == ["COMPLETED", "FAILED"], [job.output(which) for which in elements]
    assert "Resuming from the checkpoint of step 6" in job.output(elements[ends.index("COMPLETED")])
    done = sweep("tests/search/toy.py", **grid)
    assert done.finished and [trial.state for trial in done.trials] == ["finished"] * 2
