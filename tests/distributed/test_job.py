"""Several real processes on this host: the numbers of one, whatever is killed, told to stop or goes wrong on one."""

import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from research.distributed.cluster import Cluster
from research.distributed.job import Job, _check_reach, join
from research.errors import UserError
from research.files import read_json
from tests.breaker.bench import lines
from tests.breaker.bench import same as same_run

EXPERIMENT = str(Path(__file__).parents[1] / "line.py")
STEPS = 60


class Launched:
    """`python -m launch.local` over a train command, with its output as it comes."""

    def __init__(self, folder, *knobs, processes, devices=1, restarts=0, command=None, **env):
        command = command or [
            sys.executable,
            "-m",
            "research",
            "train",
            EXPERIMENT,
            "--run-dir",
            str(folder),
            "--no-report",
            *knobs,
        ]
        self.status_file = Path(f"{folder}.launch") / "status.json"
        options = {"processes": processes, "devices": devices, "max-restarts": restarts}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "launch.local", f"--status-file={self.status_file}",
             *(f"--{k}={v}" for k, v in options.items()), "--", *command],
            env={**os.environ, **env}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, bufsize=1,
        )  # fmt: skip
        self.output, self.times = "", []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self):
        for line in self.process.stdout:
            self.output += line
            self.times.append((time.monotonic(), line))

    def ranks(self):
        """The process ids of the ranks that are alive, in their order."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(pid) for pid in children.read_text().split()] if children.exists() else []

    def until(self, ready):
        """Waits for `ready()`; False where the launcher ended before."""
        while self.process.poll() is None:
            if ready():
                return True
            time.sleep(0.005)
        return False

    def end(self, timeout=400):
        try:
            code = self.process.wait(timeout)
        finally:
            self.process.kill()  # and with it the ranks
            self._reader.join()
            self.process.stdout.close()
        return code, self.output


def train(folder, *knobs, processes=1, devices=1, **options):
    code, output = Launched(folder, *knobs, processes=processes, devices=devices, **options).end()
    assert code == 0, output
    return output


def saved(folder):
    return max((int(p.name) for p in folder.glob("checkpoints/*") if p.name.isdigit()), default=0)


def status_of(folder):
    return read_json(folder / "status.json")


def same(folder, other):
    same_run(folder, other)
    for name in ("valid", "test"):
        rows = [np.load(run / "evaluations" / f"{name}.npz")["row/error"] for run in (folder, other)]
        assert rows[0].shape == (50,)
        np.testing.assert_array_equal(*rows)


@pytest.fixture(scope="module")
def one_of_two(tmp_path_factory):
    """An unbroken run of one process with two devices."""
    folder = tmp_path_factory.mktemp("one") / "run"
    train(folder, devices=2)
    return folder


def test_a_rank_that_is_killed_costs_no_number(one_of_two, tmp_path):
    folder, rng = tmp_path / "run", random.Random(os.getpid())
    job = Launched(folder, "--pause", "0.05", processes=2, restarts=5)
    wanted, rank = rng.randrange(12, 40), rng.randrange(2)
    assert job.until(lambda: saved(folder) and lines(folder) * 4 >= wanted)
    os.kill(job.ranks()[rank], signal.SIGKILL)
    code, output = job.end()
    assert code == 0, output
    assert "Resuming from the checkpoint of step" in output and "launch: ended with" in output
    same(folder, one_of_two)


def test_a_signal_to_one_rank_stops_all_at_one_step_and_one_process_goes_on(one_of_two, tmp_path):
    folder = tmp_path / "run"
    knobs = ("--pause", "0.05")
    job = Launched(folder, *knobs, processes=2)
    assert job.until(lambda: lines(folder) >= 2)
    os.kill(job.ranks()[1], signal.SIGUSR1)
    code, output = job.end()
    assert code == 0, output
    status, told = status_of(folder), read_json(job.status_file)
    assert status["status"] == "preempted" and 8 <= status["step"] < STEPS and saved(folder) == status["step"]
    assert told == {"status": "preempted", "step": status["step"], "folder": str(folder)}
    assert "SIGUSR1: finishing the step and saving" in output and "ended with" not in output
    output = train(folder, *knobs, devices=2)
    assert f"Resuming from the checkpoint of step {status['step']}" in output
    same(folder, one_of_two)


def test_an_exception_on_one_rank_ends_all_in_seconds(tmp_path):
    folder = tmp_path / "run"
    job = Launched(folder, "--trouble", "raise", processes=2)
    code, output = job.end()
    began = next(at for at, line in job.times if "the data of this rank is no good" in line)
    assert code == 1 and job.times[-1][0] - began < 10, output
    assert "rank 0 exits because of rank 1: ValueError: the data of this rank is no good" in output
    assert "killing" not in output
    status = status_of(folder)
    assert status["status"] == "failed" and "rank 1: ValueError" in status["text"]
    assert read_json(job.status_file)["step"] == 12


TALK = """
import sys
from research.distributed import job as jobs
from research.errors import UserError
job = jobs.join()
assert jobs.join() is job and jobs.job() is job
other = job.rank == 1
assert job.everyone(job.rank * 10) == [0, 10]
assert job.first(lambda: ["made", job.rank]) == ["made", 0]
import pathlib
file = pathlib.Path(sys.argv[1]) / "prepared"
def prepare():
    there = file.exists()
    file.touch()
    return there
assert job.turn(prepare) == other
def refused(act, *words):
    try:
        act()
    except UserError as error:
        assert all(word in str(error) for word in words), error
    else:
        raise AssertionError(words)
job.check_same("the experiment", "x")
refused(lambda: job.check_same("the experiment", "xy"[job.rank]), "rank 1 (", "has the experiment y, rank 0", "has x")
job.check_shared(sys.argv[1])
job.everyone(None)
assert not list(pathlib.Path(sys.argv[1]).glob(".shared*"))
here = pathlib.Path(sys.argv[1]) / f"of{job.rank}"
here.mkdir()
refused(lambda: job.check_shared(here, wait=0.5), "rank 1 (", "all processes share: --runs DIR or RESEARCH_RUNS")
print("talked")
if sys.argv[2] == "fail":
    if other:
        raise UserError("a mistake of rank 1")
    job.everyone("never comes")
"""


@pytest.mark.parametrize(("last", "code"), [("leave", 0), ("fail", 2)])
def test_what_ranks_tell_one_another(tmp_path, last, code):
    command = [sys.executable, "-c", TALK, str(tmp_path), last]
    found, output = Launched(tmp_path, processes=2, command=command).end()
    assert found == code and output.count("talked") == 2, output
    assert ("error: a mistake of rank 1" in output) == (last == "fail")
    assert ("rank 0 exits because of rank 1: UserError: a mistake" in output) == (last == "fail")
    assert "killing" not in output


def test_one_process_needs_nobody(tmp_path):
    job = Job()
    assert (job.rank, job.count) == (0, 1) and job.everyone("x") == ["x"] and job.first(lambda: 3) == 3
    job.check_same("x", "y")
    job.check_shared(tmp_path / "not there")
    assert job.turn(lambda: 5) == 5
    job.fail(1, "no job, no end")
    job.leave()
    with pytest.raises(KeyError), job.guard():
        raise KeyError
    with job.signals() as first:
        assert not first()
        os.kill(os.getpid(), signal.SIGUSR1)
        assert first() and first.number == signal.SIGUSR1
    with job.signals() as second:
        assert not second()


def test_a_coordinator_out_of_reach_is_an_error_in_words():
    with socket.create_server(("", 0)) as server:
        port = server.getsockname()[1]
        _check_reach(Cluster(f"127.0.0.1:{port}", 2, 1), timeout=0)
        with pytest.raises(UserError, match=f"rank 0 cannot listen on port {port}.*Set RESEARCH_PORT"):
            _check_reach(Cluster(f"127.0.0.1:{port}", 2, 0))
    _check_reach(Cluster(f"127.0.0.1:{port}", 2, 0))
    with pytest.raises(UserError, match=f"rank 1 cannot reach rank 0 at localhost:{port} .127.0.0.1. after 0 s"):
        _check_reach(Cluster(f"localhost:{port}", 2, 1), timeout=0)
    with pytest.raises(UserError, match="unknown host name"):
        _check_reach(Cluster("no.such.host.invalid:80", 2, 1), timeout=0)


@pytest.fixture(scope="module")
def one_of_four(tmp_path_factory):
    folder = tmp_path_factory.mktemp("four") / "run"
    train(folder, devices=4)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("stride", [1, 2])
def test_four_processes_give_the_numbers_of_one(one_of_four, tmp_path, stride):
    other = one_of_four
    if stride > 1:
        other = tmp_path / "other"
        train(other, "--stride", "2", devices=4)
    train(tmp_path / "run", "--stride", str(stride), processes=4)
    same(tmp_path / "run", other)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "rank"), [(signal.SIGTERM, 3), (signal.SIGINT, 0)])
def test_saved_by_four_it_goes_on_in_two_and_in_one(one_of_four, tmp_path, number, rank):
    folder = tmp_path / "run"
    job = Launched(folder, "--pause", "0.05", processes=4)
    assert job.until(lambda: lines(folder) >= 5)
    os.kill(job.ranks()[rank], number)
    code, output = job.end()
    # Ctrl-C ends all of them by the signal, as it does one.
    assert code == (0 if number == signal.SIGTERM else 130), output
    step = status_of(folder)["step"]
    assert status_of(folder)["status"] == "preempted" and saved(folder) == step
    for processes in (2, 1):
        copy = tmp_path / f"by{processes}"
        shutil.copytree(folder, copy)
        output = train(copy, "--pause", "0.05", processes=processes, devices=4 // processes)
        assert f"Resuming from the checkpoint of step {step}" in output
        same(copy, one_of_four)
    # Another mesh: no longer bit for bit.
    train(folder, "--pause", "0.05", devices=1)
    assert np.isclose(status_of(folder)["results"]["test"]["mse"], status_of(copy)["results"]["test"]["mse"], rtol=1e-4)


@pytest.mark.slow
def test_many_kills_of_random_ranks(one_of_four, tmp_path):
    folder, rng, kills = tmp_path / "run", random.Random(os.getpid()), 0
    job = Launched(folder, "--pause", "0.1", processes=4, restarts=30)
    while kills < 6:
        # Each life makes progress, else the launcher would rightly give up; half of them die in the middle of a save.
        before, delay = saved(folder), rng.random() * 0.8
        if not job.until(lambda before=before: saved(folder) > before and len(job.ranks()) == 4):
            break
        if rng.random() < 0.5:
            job.until(lambda: list(folder.glob("checkpoints/*tmp*")))
            delay *= 0.05
        time.sleep(delay)
        if len(ranks := job.ranks()) == 4:
            os.kill(rng.choice(ranks), signal.SIGKILL)
            kills += 1
            job.until(lambda ranks=ranks: not set(ranks) & set(job.ranks()))
    code, output = job.end()
    assert code == 0 and kills >= 2, output
    same(folder, one_of_four)


@pytest.mark.slow
def test_a_hang_on_one_rank_shows_all_stacks_and_ends(tmp_path):
    job = Launched(tmp_path / "run", "--trouble", "hang", processes=2, RESEARCH_HANG_SECONDS="60")
    code, output = job.end()
    assert code == 1 and "no progress for 60 s" in output
    assert len(re.findall(r"^\[1\].*in troubled$", output, re.M)) == 1  # where it hangs
    assert output.count("the stacks of all threads of process") == 2


@pytest.mark.slow
def test_a_damaged_checkpoint_is_set_aside_by_all(one_of_two, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(one_of_two, folder)
    (folder / "status.json").unlink()
    newest = folder / "checkpoints" / str(saved(folder))
    for path in newest.glob("state/d/*"):
        os.truncate(path, path.stat().st_size // 2)
    output = train(folder, processes=2)
    assert f"step {newest.name} is damaged and was moved" in output and "killing" not in output
    assert [path.name for path in (folder / "damaged").iterdir()] == [f"{newest.name}-0"]
    same(folder, one_of_two)


def test_what_a_job_compiles_again_is_explained_by_the_rows_that_a_process_reads(tmp_path):
    # Without the cache, in which a compilation is too short to count on a busy machine.
    off = {"JAX_ENABLE_COMPILATION_CACHE": "false"}
    output = train(tmp_path / "run", "--trouble", "compile", "--steps", "32", processes=2, **off)
    assert "intervals compiled again" in output and "The shapes and types of its batches did not change" in output


def test_devices_that_are_made_believe_get_threads_enough(monkeypatch):
    """Else a collective may hang: hand-written JAX did with `JAX_NUM_CPU_DEVICES=2` on two cores, steps queued."""
    monkeypatch.delenv("NPROC", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 16)
    join({})
    assert "NPROC" not in os.environ  # four for each device that these tests have
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    join({})
    assert os.environ.pop("NPROC") == "16"
