"""The local launcher over cheap processes: what it starts, passes on, starts again, and never leaves behind."""

import os
import re
import signal
import subprocess
import sys
import time

import pytest

from launch import local
from launch.life import OVER
from launch.plan import Job
from research.errors import UserError

RANK = """
import json, os, pathlib, signal, subprocess, sys, time
rank, status = int(os.environ.get("RESEARCH_PROCESS", 0)), os.environ["RESEARCH_STATUS_FILE"]
lives = pathlib.Path(sys.argv[1])
def tell(word, step):
    if rank == 0:
        pathlib.Path(status).write_text(json.dumps({"status": word, "step": step, "folder": "f"}))
def save(number, frame):
    print("told", signal.Signals(number).name, flush=True)
    tell("preempted", 5)
    sys.exit(0)
for number in (signal.SIGTERM, signal.SIGUSR1):
    signal.signal(number, save)
life = lives.stat().st_size if lives.exists() else 0
if rank == 0:
    with open(lives, "a") as file: file.write("x")
(lives.parent / f".pid{rank}").write_text(str(os.getpid()))
(lives.parent / f".pid{rank}").rename(lives.parent / f"pid{rank}")
"""


def begin(folder, code, *options, grace=0.5):
    """The launcher, over `code` in each process."""
    (folder / "rank.py").write_text(RANK + code)
    start = f"import sys; from launch import local; local.GRACE = {grace}; sys.exit(local.main())"
    rank = [sys.executable, str(folder / "rank.py"), str(folder / "lives")]
    command = [sys.executable, "-c", start, f"--status-file={folder}/s/status.json", *options, "--", *rank]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def end(process):
    output, _ = process.communicate(timeout=60)
    return process.returncode, output


def go(folder, code, *options, **kwargs):
    return end(begin(folder, code, *options, **kwargs))


def until(ready):
    for _ in range(3000):
        if ready():
            return
        time.sleep(0.01)
    raise AssertionError("it did not come about")


def gone(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(")")[2].split()[0] == "Z"


def lives(folder):
    return (folder / "lives").stat().st_size


def test_the_plan_is_one_command():
    job = Job(("train", "experiments/digits.py", "--hidden", "64"), "digits-1", "runs/launched/digits-1", "python")
    resources = {"processes": 2, "devices": 4, "max_restarts": 3, "patience": 60.0}
    assert str(local.plan(job, resources)) == (
        "$ python -m launch.local --processes=2 --devices=4 --max-restarts=3 \\\n"
        "    --patience=60.0 --status-file=runs/launched/digits-1/status.json -- \\\n"
        "    python -m research train experiments/digits.py --hidden 64"
    )
    assert "--devices" not in str(local.plan(job, {**resources, "devices": None}))
    for name in ("processes", "devices"):
        with pytest.raises(UserError, match=f"--{name} 0; expected at least 1"):
            local.plan(job, {**resources, name: 0})
    with pytest.raises(UserError, match="sweep runs in one process"):
        local.plan(job._replace(arguments=("sweep", "--worker", "f")), resources)


def test_the_environment_of_a_rank():
    assert local.environment(0, processes=1, devices=None, port=9) == {
        "RESEARCH_PROCESSES": "1", "PYTHONUNBUFFERED": "1", "RESEARCH_COORDINATOR": "127.0.0.1:9",
        "RESEARCH_PROCESS": "0",
    }  # fmt: skip
    assert local.environment(1, processes=2, devices=2, port=9) == {
        "RESEARCH_PROCESSES": "2", "PYTHONUNBUFFERED": "1", "RESEARCH_COORDINATOR": "127.0.0.1:9",
        "RESEARCH_PROCESS": "1", "JAX_NUM_CPU_DEVICES": "2", "JAX_LOCAL_DEVICE_IDS": "2,3",
    }  # fmt: skip


def test_every_line_bears_its_rank_and_all_have_one_address(tmp_path):
    code = "print(os.environ['RESEARCH_COORDINATOR'], flush=True); print('no newline', end='')"
    status, output = go(tmp_path, code, "--processes=3")
    lines = sorted(output.splitlines())
    assert status == 0 and [line[:3] for line in lines] == ["[0]", "[0]", "[1]", "[1]", "[2]", "[2]"]
    assert len(set(re.findall(r"127\.0\.0\.1:\d+", output))) == 1 and output.count("no newline\n") == 3


def test_a_failure_ends_the_others_and_their_children(tmp_path):
    code = (
        "for number in (signal.SIGTERM, signal.SIGUSR1): signal.signal(number, signal.SIG_IGN)\n"
        "if rank == 1:\n"
        "    while not (lives.parent / 'child').exists(): time.sleep(0.01)\n"
        "    sys.exit(3)\n"
        "if rank == 0:\n"
        "    child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(300)'])\n"
        "    (lives.parent / '.child').write_text(str(child.pid))\n"
        "    (lives.parent / '.child').rename(lives.parent / 'child')\n"
        "time.sleep(300)\n"
    )
    began = time.monotonic()
    status, output = go(tmp_path, code, "--processes=3")
    assert status == 3 and "rank 1 ended with exit status 3" in output and time.monotonic() - began < 50
    for name in ("pid0", "pid2", "child"):
        until(lambda name=name: gone(int((tmp_path / name).read_text())))


@pytest.mark.parametrize("name", ["SIGTERM", "SIGUSR1"])
def test_a_signal_is_passed_on_and_is_no_reason_to_start_again(tmp_path, name):
    process = begin(tmp_path, "time.sleep(300)", "--processes=2", "--max-restarts=5")
    until(lambda: (tmp_path / "pid0").exists() and (tmp_path / "pid1").exists())
    process.send_signal(signal.Signals[name])
    status, output = end(process)
    assert status == 0 and f"[0] told {name}" in output and f"[1] told {name}" in output and lives(tmp_path) == 1


def test_what_swallows_the_signal_is_killed(tmp_path):
    code = "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n(lives.parent / f'deaf{rank}').touch()\ntime.sleep(300)"
    process = begin(tmp_path, code, "--processes=2", "--patience=0.3", "--max-restarts=5")
    until(lambda: (tmp_path / "deaf0").exists() and (tmp_path / "deaf1").exists())
    process.send_signal(signal.SIGTERM)
    status, output = end(process)
    assert status == 137 and "killing the remaining processes" in output and lives(tmp_path) == 1


def test_a_second_ctrl_c_kills_at_once(tmp_path):
    code = "signal.signal(signal.SIGINT, signal.SIG_IGN)\n(lives.parent / f'deaf{rank}').touch()\ntime.sleep(300)"
    process = begin(tmp_path, code, "--processes=2")
    until(lambda: (tmp_path / "deaf0").exists() and (tmp_path / "deaf1").exists())
    process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    assert end(process)[0] == 130


def test_a_launcher_that_is_killed_leaves_nothing(tmp_path):
    process = begin(tmp_path, "time.sleep(300)", "--processes=2")
    until(lambda: (tmp_path / "pid0").exists() and (tmp_path / "pid1").exists())
    process.kill()
    end(process)
    for name in ("pid0", "pid1"):
        until(lambda name=name: gone(int((tmp_path / name).read_text())))


@pytest.mark.parametrize(
    ("code", "restarts", "status", "count", "words"),
    [
        ("tell('preempted' if life < 3 else 'finished', life)", 9, 0, 4, "preempted at step 2"),
        ("tell('running', life)\nif life < 3: os.kill(os.getpid(), 9)", 9, 0, 4, "ended with 137 at step 2"),
        ("tell('preempted', life)", 2, OVER, 3, "restarted 2 times, the limit"),
        ("tell('preempted', min(life, 2))", 9, OVER, 4, "no progress: the last attempt ended at step 2"),
        ("tell('running', 7)\nsys.exit(1)", 9, 1, 2, "no progress: the last attempt ended at step 7"),
        ("tell('running', life)\nsys.exit(2)", 9, 2, 1, ""),
        ("tell('running', life)\nsys.exit(1)", 0, 1, 1, ""),
        ("tell('preempted', life)", 0, 0, 1, ""),
        ("pass", 9, 0, 1, ""),
    ],
)
def test_lives(tmp_path, code, restarts, status, count, words):
    found, output = go(tmp_path, code, f"--max-restarts={restarts}")
    assert (found, lives(tmp_path)) == (status, count), output
    assert words in output
