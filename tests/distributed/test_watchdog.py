"""What hangs shows where, and ends: also where the interpreter itself is held."""

import subprocess
import sys

import pytest

from research.distributed.watchdog import SECONDS, limit
from research.errors import UserError

SCRIPT = """
import ctypes, os, sys, time
from research.distributed import watchdog
from research.events import Ended, Started
beats = [0]
def gone(text):
    os.write(1, f"ended: {{text}}".encode())
    os._exit(7)
listen = watchdog.watchdog(0.5, beats=lambda: beats[0], end=gone)
listen(Started(0, 10, lambda: 0))
def where_it_hangs():
    {hang}
for _ in range(12):
    beats[0] += 1
    time.sleep(0.1)
{last}
print("done")
"""
HELD = "ctypes.PyDLL(None).sleep(60)"  # a PyDLL call keeps the interpreter


def script(hang="pass", last="where_it_hangs()", margin=None):
    text = SCRIPT.format(hang=hang, last=last)
    if margin is not None:
        text = text.replace("listen = ", f"watchdog.MARGIN = {margin}\nlisten = ", 1)
    return subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, timeout=60)


def test_a_hang_shows_all_stacks_and_ends():
    found = script("time.sleep(60)")
    assert found.returncode == 7 and "ended: no progress for 0.5 s (RESEARCH_HANG_SECONDS)" in found.stdout
    assert "in where_it_hangs" in found.stderr and "the stacks of all threads of process" in found.stderr


def test_where_c_code_holds_the_interpreter_it_ends_too():
    found = script(HELD, margin=0.5)
    assert found.returncode == 1 and "in where_it_hangs" in found.stderr and not found.stdout


def test_steps_and_the_end_of_a_run_are_no_hang():
    found = script("time.sleep(1.5)", "listen(Ended(12, 'finished', {}))\nwhere_it_hangs()")
    assert (found.returncode, found.stdout, found.stderr) == (0, "done\n", "")


def test_the_limit():
    assert limit({}, processes=2) == SECONDS and limit({}, processes=1) == 0
    assert limit({"RESEARCH_HANG_SECONDS": "60"}, processes=1) == 60
    assert limit({"RESEARCH_HANG_SECONDS": "0"}, processes=8) == 0
    with pytest.raises(UserError, match="RESEARCH_HANG_SECONDS='soon'; expected seconds"):
        limit({"RESEARCH_HANG_SECONDS": "soon"}, processes=1)
