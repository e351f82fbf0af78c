"""One life after another of a command that tells how far it came: the verdicts, by real processes and signals."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from launch.life import AGAIN, OVER, barred, read_status

# Tells status argv[1] and step argv[2], prints, waits for a signal where argv[3] is "wait", leaves with argv[4].
SCRIPT = """
import json, os, signal, sys, time
status, step, wait, code = sys.argv[1:]
got = []
for number in (signal.SIGTERM, signal.SIGUSR1):
    signal.signal(number, lambda n, f: got.append(n))
print("ready", flush=True)
while wait == "wait" and not got:
    time.sleep(0.01)
if wait == "die":
    os.kill(os.getpid(), signal.SIGKILL)
if status != "-":
    json.dump({"status": status, "step": int(step), "folder": "runs/a"}, open(os.environ["RESEARCH_STATUS_FILE"], "w"))
print("got", *got, flush=True)
sys.exit(int(code))
"""


def life(tmp_path, *arguments, restarts=20, number=None, index=None):
    """The exit status of one life, after a signal once it is under way where a number is given."""
    env = {**os.environ, "RESEARCH_STATUS_FILE": str(tmp_path / "status.json")}
    if index is not None:
        env["JOB_COMPLETION_INDEX"] = str(index)
    command = [sys.executable, "-m", "launch.life", "--max-restarts", str(restarts), "--"]
    process = subprocess.Popen(
        [*command, sys.executable, "-c", SCRIPT, *map(str, arguments)],
        env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    if number:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
    output = process.communicate(timeout=30)[0]
    return process.returncode, output


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_reaches_the_command_and_what_it_saved_goes_on(tmp_path, number):
    code, output = life(tmp_path, "preempted", 7, "wait", 0, number=number)
    assert code == AGAIN and f"got {int(number)}" in output


def test_other_ends_keep_their_exit_status(tmp_path):
    for number, (arguments, code) in enumerate([
        (("finished", 9, "-", 0), 0),
        (("preempted", 9, "-", 1), 1),  # it saved, and then something else went wrong
        (("-", 0, "die", 0), 128 + signal.SIGKILL),
        (("-", 0, "-", 2), 2),
    ]):  # fmt: skip
        (tmp_path / str(number)).mkdir()
        assert life(tmp_path / str(number), *arguments)[0] == code


def reasons(path, steps, *, restarts=20):
    """The reason against each life, where the one before it told that step; -1 for one that told nothing."""
    found = []
    for step in steps:
        found.append(barred(path, restarts))
        if step >= 0:
            path.write_text(json.dumps({"status": "preempted", "step": step, "folder": "runs/a"}))
    return found


def test_two_lives_without_a_step_are_the_last(tmp_path):
    *before, last = reasons(tmp_path / "status.json", [3, 5, 5, 5])
    assert before == [""] * 3 and last == "no progress: the last attempt ended at step 5, no further than it began."
    code, output = life(tmp_path, "preempted", 9, "-", 0)
    assert code == OVER and "not restarted: no progress" in output and "ready" not in output


def test_a_command_that_never_begins_is_given_up(tmp_path):
    assert [bool(why) for why in reasons(tmp_path / "status.json", [-1, -1, -1])] == [False, False, True]


def test_the_cap_on_restarts(tmp_path):
    assert reasons(tmp_path / "status.json", [1, 2], restarts=1) == ["", ""]
    code, output = life(tmp_path, "preempted", 3, "-", 0, restarts=1)
    assert code == OVER and "not restarted: restarted 1 times, the limit" in output
    assert "ready" not in output


def test_another_pod_than_the_first_counts_no_lives(tmp_path):
    assert life(tmp_path, "-", 0, "-", 1, index=1)[0] == 1
    assert not list(tmp_path.glob("*.lives"))


def test_the_worker_of_a_sweep_goes_on_in_another_folder(tmp_path):
    path = tmp_path / "status.json"
    for number, step in enumerate((50, 20, 10)):
        assert barred(path, 20) == ""
        path.write_text(json.dumps({"status": "running", "step": step, "folder": f"runs/{number}"}))
    assert barred(path, 20) == "" and barred(path, 20).startswith("no progress")


def test_a_launcher_without_a_status_file_is_told_so():
    env = {k: v for k, v in os.environ.items() if k != "RESEARCH_STATUS_FILE"}
    command = [sys.executable, "-m", "launch.life", "--", "true"]
    ended = subprocess.run(command, env=env, capture_output=True, text=True)
    assert ended.returncode == 2 and "RESEARCH_STATUS_FILE is not set" in ended.stderr
    assert read_status(Path("nowhere"))["step"] == -1
