"""How a run ends that is not finished: with its status, within seconds, and never as if it were finished."""

import contextlib
import io
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from research import events, verbs
from research.distributed.job import job
from research.errors import UserError
from research.files import read_json

TOY = (Path(__file__).parents[1] / "search" / "toy.py").read_text()
PLACES = {  # of `sys.exit`: (old, new, step)
    "the file": ("STEPS = 12", "STEPS = 12\nEXIT(0)", None),
    "experiment()": ("    cost = ", "    EXIT(0)\n    cost = ", 0),
    "the source": ("return make(step)", "return make(step) if step < 4 else EXIT(0)", 4),
    "a measure": ("        return {", "        EXIT(0)\n        return {", 0),
}


def begin(file, folder):
    command = [sys.executable, "-m", "research", "train", str(file), "--run-dir", str(folder), "--no-report"]
    env = {**os.environ, "JAX_NUM_CPU_DEVICES": "1"}
    return subprocess.run(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120)


@pytest.mark.parametrize("function", ["sys.exit", "exit"])
@pytest.mark.parametrize("place", PLACES)
def test_sys_exit_is_an_error_of_an_unfinished_run(tmp_path, place, function):
    old, new, step = PLACES[place]
    file, folder = tmp_path / "mine.py", tmp_path / "run"
    text = TOY.replace(old, new.replace("EXIT", function)).replace("import time", "import sys\nimport time")
    file.write_text(text)
    line = next(number for number, words in enumerate(text.splitlines(), 1) if f"{function}(0)" in words)
    with pytest.raises(UserError, match=rf"mine.py, line {line}: sys.exit\(0\) before .* was complete"):
        verbs.train(file, run_dir=folder, report=False, stream=io.StringIO())
    if step is not None:
        status = read_json(folder / "status.json")
        assert status["status"] == "failed" and "sys.exit(0)" in status["text"]


def test_a_failed_run_exits_with_its_status_whatever_threads_are_left(tmp_path):
    """Also its error and its trackers are complete."""
    file, folder = tmp_path / "mine.py", tmp_path / "run"
    threads = "import threading\nthreading.Thread(target=time.sleep, args=(3600,)).start()\n"
    failing = TOY.replace("return make(step)", "return make(step) if step < 4 else sys.exit(0)")
    file.write_text(failing.replace("import time\n", f"import sys\nimport time\n{threads}"))
    began = time.monotonic()
    done = begin(file, folder)
    assert done.returncode == 2 and "error: " in done.stdout and "sys.exit(0)" in done.stdout
    assert time.monotonic() - began < 60 and read_json(folder / "status.json")["status"] == "failed"
    assert max(int(path.name) for path in (folder / "checkpoints").iterdir()) == 3, "the save before it is complete"


@pytest.mark.parametrize("raises", [True, False])
def test_a_run_that_another_rank_has_ended_reports_no_more(tmp_path, raises):
    """A thread says the last words, and the collective of this rank may fail at the same time."""
    (tmp_path / "mine.py").write_text(TOY)
    collective = RuntimeError("the collective was aborted")

    def listen(event):
        if isinstance(event, events.Saved):
            job().last_words("rank 1: out of memory")
            if raises:
                raise collective

    options = {"run_dir": tmp_path / "run", "report": False, "stream": io.StringIO(), "listen": [lambda *_: listen]}
    with pytest.raises(RuntimeError, match="aborted") if raises else contextlib.nullcontext():
        verbs.train(tmp_path / "mine.py", **options)
    status = read_json(tmp_path / "run" / "status.json")
    assert (status["status"], status["text"]) == ("failed", "rank 1: out of memory")
    lines = [json.loads(line) for line in (tmp_path / "run" / "timing.jsonl").read_text().splitlines()]
    assert [line.get("event") for line in lines].count("failed") == 1 and lines[-1]["event"] == "failed"


@pytest.mark.slow
@pytest.mark.parametrize("inodes", [20, 22, 24, 26])
def test_a_run_ends_if_the_checkpoints_cannot_create_a_folder(tmp_path, inodes):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size=10m,nr_inodes={inodes}", "tmpfs", disk]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting needs root")
    try:
        (tmp_path / "mine.py").write_text(TOY)
        done = begin(tmp_path / "mine.py", disk / "run")
        assert done.returncode == 2 and "No space left on device" in done.stdout.splitlines()[-1]
    finally:
        subprocess.run(["umount", "-l", disk], check=True)
