"""The sequence of a TPU slice against a stand-in for gcloud: every state, and a failure at every step."""

import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from launch import tpu_vm
from launch.plan import Job
from research.runs.knobs import Parser
from tests.launch.slurm_here import until

REPO = Path(__file__).parent.parent.parent
# In place of an interpreter: counts the lives of worker 0, which ends as told, and leaves something in `runs`.
PYTHON = """#!/bin/bash
echo "$@" >> {folder}/lives
mkdir -p runs/result && echo "$RESEARCH_CLUSTER" > runs/result/cluster
code=$(head -1 {folder}/codes) && sed -i 1d {folder}/codes
exit ${{code:-0}}
"""

started = []


@pytest.fixture
def slice_(tmp_path, monkeypatch):
    """Runs a plan in a small repository with the stand-in on PATH; gives (exit status, the calls in short)."""
    cloud, home = tmp_path / "cloud", tmp_path / "repository"
    for path in (cloud / "bin", home):
        path.mkdir(parents=True)
    for name in ("gcloud", "curl"):
        (cloud / "bin" / name).write_text(
            f'#!/bin/sh\nexec {sys.executable} -I -S {Path(__file__).parent}/gcloud.py {cloud} {name} "$@"\n'
        )
        (cloud / "bin" / name).chmod(0o755)
    (cloud / "python").write_text(PYTHON.format(folder=cloud))
    (cloud / "python").chmod(0o755)
    (home / "x.py").write_text("")
    (home / ".gitignore").write_text("runs/\n")
    subprocess.run(["git", "init", "--quiet", str(home)], check=True)
    monkeypatch.chdir(home)
    monkeypatch.setenv("PATH", f"{cloud}/bin:{os.environ['PATH']}")
    (cloud / "codes").write_text("")

    def run(*resources, states=("ACTIVE",), fail=(), codes=()):
        (cloud / "states").write_text("".join(f"{s}\n" for s in states))
        (cloud / "fail").write_text("".join(f"{f}\n" for f in fail))
        (cloud / "codes").write_text("".join(f"{c}\n" for c in codes))
        process = start(plan(cloud, *resources))
        return process.wait(120), calls(cloud)

    run.cloud, run.home = cloud, home
    yield run
    for process in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    started.clear()


def start(made):
    """The script of a plan, under way in a process group that the fixture ends."""
    ((path, text),) = made.files.items()
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(text)
    # What a shell finds ignored, as under nohup, it cannot trap.
    command = ("env", "--default-signal=HUP", *made.commands[0])
    started.append(subprocess.Popen(command, start_new_session=True))
    return started[-1]


def plan(cloud, *resources, file="x.py", setup=None):
    parser = Parser(prog="x")
    tpu_vm.arguments(parser)
    setup = setup or f"mkdir -p ~/venv/bin && cp {cloud}/python ~/venv/bin/python"
    fixed = ["--accelerator", "v5litepod-8", "--runtime", "v2", "--zone", "z", "--poll", "0.01", "--setup", setup]
    given = vars(parser.parse_args([*fixed, *resources]))
    return tpu_vm.plan(Job(("train", *shlex.split(file)), "x-1", "runs/launched/x-1"), given)


def calls(cloud):
    """create, describe, ... in their order, repeats of describe left out."""
    found = []
    for line in (cloud / "calls").read_text().splitlines():
        words = [word for word in line.split() if not word.startswith("-")]
        name = {"scp": "copy" if "code.tar.gz" in line else "fetch", "ssh": "ssh"}.get(words[3], words[3])
        if name == "ssh":
            name = "install" if "tar -xzf" in line else "run" if "launch.life" in line else "probe"
        if name != "describe" or found[-1:] != ["describe"]:
            found.append(name)
    return found


WHOLE = ["create", "describe", "copy", "install", "run", "fetch", "delete"]


def test_from_create_to_delete(slice_, capfd):
    states = ("WAITING_FOR_RESOURCES", "WAITING_FOR_RESOURCES", "PROVISIONING", "ACTIVE")
    code, found = slice_(states=states)
    assert code == 0 and found == WHOLE
    said = capfd.readouterr().err
    assert [said.count(f"x-1: {state}\n") for state in dict.fromkeys(states)] == [1, 1, 1]
    lives = (slice_.cloud / "lives").read_text().splitlines()
    assert [line.split(" -- ")[0] for line in lives] == [
        f"-m launch.life --max-restarts 20 --worker {worker}" for worker in (0, 1)
    ]
    assert all(line.endswith("-m research train x.py") for line in lives)
    assert (slice_.home / "runs" / "result" / "cluster").read_text() == "tpu\n"  # of worker 0, fetched
    create = (slice_.cloud / "calls").read_text().splitlines()[0]
    assert "create x-1 --zone=z --node-id=x-1 --accelerator-type=v5litepod-8 --runtime-version=v2" in create


@pytest.mark.parametrize(
    ("fail", "expected"),
    [
        (["create"], ["create", "delete"]),
        (["value(state.state)"] * 10, ["create", "describe", "delete"]),
        (["scp"] * 3, ["create", "describe", "copy", "copy", "copy", "delete"]),
        (["tar -xzf"], ["create", "describe", "copy", "install", "delete"]),
        (["--recurse"], WHOLE[:-1]),  # kept, with the runs on it
    ],
)
def test_a_failure_at_any_step_ends_and_deletes(slice_, fail, expected):
    code, found = slice_(fail=fail)
    assert found == expected and code == (0 if fail == ["--recurse"] else 1)


def test_what_passes_is_tried_again(slice_):
    code, found = slice_(fail=["value(state.state)"] * 3 + ["scp"])
    assert code == 0 and found == ["create", "describe", "copy", *WHOLE[2:]]


def test_a_run_that_fails_is_fetched_and_not_repeated(slice_):
    code, found = slice_(codes=[1])
    assert code == 1 and found == [
        "create",
        "describe",
        "copy",
        "install",
        "run",
        "describe",
        "probe",
        "fetch",
        "delete",
    ]


@pytest.mark.parametrize("state", ["FAILED", "DELETING"])
def test_no_slice_to_be_had(slice_, capfd, state):
    code, found = slice_(states=["PROVISIONING", state])
    assert code == 1 and found == ["create", "describe", "delete"]
    assert f"x-1: {state}" in capfd.readouterr().err


def test_a_slice_that_is_taken_away_is_asked_for_anew(slice_, capfd):
    mount = ("--spot", "--mount", "true", "--max-restarts", "2")
    once = ["create", "describe", "copy", "install", "run", "describe"]
    code, found = slice_(*mount, states=["ACTIVE", "SUSPENDING", "ACTIVE"], codes=[1])
    assert code == 0 and found == [*once, "delete", *once[:-1], "delete"]
    (slice_.cloud / "calls").unlink()
    code, found = slice_(*mount, states=["SUSPENDED"])  # before it was there
    assert code == 1 and found == ["create", "describe", "delete"] * 3
    capfd.readouterr()
    (slice_.cloud / "calls").unlink()
    code, found = slice_("--spot", states=["ACTIVE", "SUSPENDING"], codes=[1])  # the runs went with it
    assert code == 1 and found == [*once, "delete"]
    assert "with --mount, the runs survive" in capfd.readouterr().err


def test_deleted_by_another_hand_it_stays_away(slice_):
    code, found = slice_("--mount", "true", codes=[1], states=["ACTIVE", "DELETING"])
    assert code == 1 and found == ["create", "describe", "copy", "install", "run", "describe", "delete"]


def test_workers_that_do_not_answer_are_gone(slice_):
    code, found = slice_("--mount", "true", "--max-restarts", "1", codes=[1], fail=["--command=true"])
    assert code == 0 and found[4:8] == ["run", "describe", "probe", "delete"] and found.count("run") == 2


def test_kept(slice_, capfd):
    code, found = slice_("--keep")
    assert code == 0 and found == WHOLE[:-1]
    assert "queued-resources delete x-1 --force --quiet --zone=z" in capfd.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_ended_from_outside_it_deletes(slice_, number):
    (slice_.cloud / "states").write_text("ACTIVE\n")
    (slice_.cloud / "python").write_text("#!/bin/bash\nwhile [ -d ~ ]; do sleep 0.05; done\n")
    process = start(plan(slice_.cloud))
    until(lambda: (slice_.cloud / "calls").exists() and "run" in calls(slice_.cloud), 30)
    process.send_signal(number)
    assert process.wait(30) == 143 and calls(slice_.cloud)[-1] == "delete"


@pytest.mark.slow
def test_a_real_training_on_the_copied_code(slice_, monkeypatch):
    monkeypatch.chdir(REPO)
    monkeypatch.setenv("JAX_NUM_CPU_DEVICES", "1")
    python = f'#!/bin/sh\\nexec {sys.executable} "$@"'
    setup = f"mkdir -p ~/venv/bin && printf '{python}' > ~/venv/bin/python && chmod +x ~/venv/bin/python"
    one = ("--env", "RESEARCH_CLUSTER=")  # no TPU here
    made = plan(slice_.cloud, *one, file="tests/launch/slow_steps.py --steps 10", setup=setup)
    (slice_.cloud / "states").write_text("ACTIVE\n")
    (script,) = made.files.values()
    (slice_.home / "x.sh").write_text(script.replace("runs/launched/x-1/code", f"{slice_.home}/code").replace(
        '"$name:code/runs" .', f'"$name:code/runs" {slice_.home}'))  # fmt: skip
    assert subprocess.call(["bash", str(slice_.home / "x.sh")]) == 0 and calls(slice_.cloud) == WHOLE
    told = json.loads((slice_.home / "runs" / "launched" / "x-1" / "status.json").read_text())
    assert told["status"] == "finished" and told["step"] == 10
    assert list((slice_.home / "runs").glob("*slow_steps-*-s0/report/report.html"))
