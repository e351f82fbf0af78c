"""Real processes, really killed: what is left ends bitwise as an unbroken run."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from research.runs import folder as run_folder
from research.runs.pretrained import read_arrays

EXPERIMENT = Path(__file__).parents[2] / "experiments" / "digits.py"
KNOBS = ("--network", "mlp", "--epochs", "16", "--batch-size", "32")  # 500 steps, checkpoints every 50


def command(folder):
    return [sys.executable, "-m", "research", "train", str(EXPERIMENT), *KNOBS, "--run-dir", str(folder), "--no-report"]


def begin(folder):
    env = {**os.environ, "JAX_NUM_CPU_DEVICES": "1"}
    return subprocess.Popen(command(folder), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=env, text=True)


def end(process):
    output, _ = process.communicate(timeout=300)
    return process.returncode, output


def steps_of(folder):
    path = folder / "metrics.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def wait_for(process, ready):
    """Until `ready()`, or the process is over; whether it was ready."""
    while process.poll() is None:
        if ready():
            return True
        time.sleep(0.002)
    return False


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    folder = tmp_path_factory.mktemp("unbroken") / "run"
    code, output = end(begin(folder))
    assert code == 0, output
    return folder


def same(folder, other):
    assert (folder / "metrics.jsonl").read_bytes() == (other / "metrics.jsonl").read_bytes()
    for tree, of in zip(read_arrays(folder), read_arrays(other), strict=True):
        assert _flat(tree).keys() == _flat(of).keys()
        for name, x in _flat(tree).items():
            np.testing.assert_array_equal(x, _flat(of)[name], err_msg=name)
    results = [json.loads((run / "status.json").read_text())["results"] for run in (folder, other)]
    assert results[0] == results[1]


def _flat(tree, prefix=""):
    if not isinstance(tree, dict):
        return {prefix: np.asarray(tree)}
    return {k: v for name, sub in tree.items() for k, v in _flat(sub, f"{prefix}/{name}").items()}


def killed_at_random(folder, *, kills, seed):
    """Kills lives of a run: half of them in the middle of a save, half a random number of lines further on."""
    rng = random.Random(seed)
    for number in range(kills):
        process = begin(folder)
        if number % 2:
            lines = steps_of(folder) + rng.randrange(1, 25)
            ready = lambda lines=lines: steps_of(folder) >= lines
        else:
            delay = rng.random() * 0.05
            ready = lambda: list(folder.glob("checkpoints/*tmp*"))
        alive = wait_for(process, ready)
        if number % 2 == 0:
            time.sleep(delay)
        process.kill()
        end(process)
        if not alive:
            return number
    return kills


def told_to_stop(folder, number):
    """A life of a run that ends by a signal: it finishes the step, saves it and says so. The step."""
    begun, process = steps_of(folder), begin(folder)
    assert wait_for(process, lambda: steps_of(folder) > begun + 20)
    process.send_signal(number)
    code, output = end(process)
    # Ctrl-C ends by the signal, so that a shell's loop over seeds ends too.
    assert code == (0 if number == signal.SIGTERM else -signal.SIGINT), output
    assert "finishing the step and saving" in output and "preempted at step" in output
    status = json.loads((folder / "status.json").read_text())
    assert status["status"] == "preempted" and 0 < status["step"] < 500
    assert (folder / "checkpoints" / str(status["step"])).is_dir()
    return status["step"]


def test_told_to_stop_and_killed_it_ends_as_an_unbroken_run(unbroken, tmp_path):
    """One run of six lives: two end by a signal, three by a kill, two of those in the middle of a save."""
    folder = tmp_path / "run"
    for number in (signal.SIGTERM, signal.SIGINT):
        stopped = told_to_stop(folder, number)
    assert killed_at_random(folder, kills=3, seed=1) >= 2
    code, output = end(begin(folder))
    assert code == 0, output
    assert int(re.search(r"Resuming from the checkpoint of step (\d+)", output)[1]) >= stopped
    same(folder, unbroken)


@pytest.mark.slow
def test_thirty_kills(unbroken, tmp_path):
    total, run = 0, 0
    while total < 30:
        folder = tmp_path / f"run{run}"
        total += killed_at_random(folder, kills=min(10, 30 - total), seed=run + 100)
        code, output = end(begin(folder))
        assert code == 0, output
        same(folder, unbroken)
        run += 1


def test_a_second_ctrl_c_leaves_at_once():
    """While the step or the save that the first one waits for goes on and on."""
    script = (
        "import time\n"
        "from research.distributed.preemption import signals\n"
        "with signals(print):\n"
        "    print('ready', flush=True)\n"
        "    while True: time.sleep(0.05)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    time.sleep(0.3)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    assert process.wait(10) == 130
    assert "Press Ctrl-C again to quit now" in process.communicate()[1]


def test_two_processes_do_not_train_in_one_folder(tmp_path):
    folder = tmp_path / "run"
    with run_folder.lock(folder):
        code, output = end(begin(folder))
    assert code == 2 and f"process {os.getpid()} is already training in" in output
