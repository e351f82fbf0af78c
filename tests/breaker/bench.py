"""What every kind of fault needs: an undisturbed run, a run that stopped midway, processes to kill, and the comparison.

A kind is a module with `attempt(bench, rng)`, which injects one fault and returns a word for its outcome, such as
"recovered" or "refused". It raises AssertionError if the product does anything else. All randomness comes from `rng`.
"""

import contextlib
import functools
import io
import json
import multiprocessing
import os
import re
import shutil
import sys
import time
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from research import events, verbs
from research.__main__ import main
from research.runs.pretrained import read_arrays
from research.tree import path_name

VICTIM = Path(__file__).with_name("victim.py")
STEPS, SAVE_EVERY = 24, 2  # those of the victim


class Bench(NamedTuple):
    """`finished` is an undisturbed run, `midway` one that stopped at step 13; `scratch` is empty at each attempt."""

    finished: Path
    midway: Path
    scratch: Path


class Result(NamedTuple):
    """The exit status of a command, and all that it printed."""

    code: int
    text: str


def make_bench(home) -> Bench:
    """Train the runs that the attempts compare with."""
    home = Path(home)
    bench = Bench(home / "finished", home / "midway", home / "scratch")
    train(bench.finished)
    stopping = lambda *_: lambda event: os.kill(os.getpid(), 15) if _is_interval(event, 12) else None
    verbs.train(VICTIM, run_dir=bench.midway, report=False, stream=io.StringIO(), listen=[stopping])
    assert json.loads((bench.midway / "status.json").read_text())["status"] == "preempted"
    verb("evaluate", bench.finished)  # files that a later verb may read
    return bench


def _is_interval(event, step):
    return isinstance(event, events.Interval) and event.step == step


@contextlib.contextmanager
def empty(folder):
    """Give an empty folder, and remove it."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def verb(*words) -> Result:
    """Run a command line in this process. An exception other than a UserError passes: it would be a traceback."""
    output = io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        code = main([str(word) for word in words])
    return Result(code, output.getvalue())


def train(folder, *knobs) -> str:
    """Train the victim in this process, or resume it, and return what was printed. It must succeed."""
    code, text = verb(*train_words(folder, *knobs))
    assert code == 0, text
    return text


def train_words(folder, *knobs):
    """The words of a command that trains the victim."""
    return ["train", VICTIM, "--run-dir", folder, "--no-report", *knobs]


@functools.cache
def _forked():
    """Processes come from a server that has imported everything: importing takes longer than a run."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, "research.cli.training", "research.cli.studies"])
    return context


class Process:
    """`python -m research ...` in a process of its own, which can be killed. Its output goes to a file.

    `inject()` is called in the process before the command.
    """

    def __init__(self, words, *, output, inject=None):
        self.output = Path(output)
        arguments = ([str(word) for word in words], str(output), inject)
        self._process = _forked().Process(target=_command, args=arguments)
        self._process.start()
        self.pid = self._process.pid

    def wait_for(self, ready) -> bool:
        """Wait until `ready()` is true. Returns False if the process ended before."""
        while self._process.is_alive():
            if ready():
                return True
            time.sleep(0.002)
        return False

    def kill(self, number=9):
        """Send a signal to the process, if it still lives."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def end(self, timeout=600) -> Result:  # a busy machine takes minutes, a hang for ever
        """Wait for the process. It must end by itself within `timeout` seconds, or it is killed and counts as hung."""
        self._process.join(timeout)
        hung = self._process.is_alive()
        self._process.kill()
        self._process.join()
        text = self.output.read_text(errors="replace") if self.output.exists() else ""
        assert not hung, f"the process did not end within {timeout} s:\n{text}"
        return Result(self._process.exitcode, text)


def _command(words, output, inject):
    descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    sys.stdout = open(1, "w", buffering=1, closefd=False)
    sys.stderr = open(2, "w", buffering=1, closefd=False)
    if inject:
        inject()
    sys.exit(main(words))


def lines(folder) -> int:
    """The number of lines of metrics.jsonl."""
    path = folder / "metrics.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def resumed_step(text) -> int:
    """The step of the checkpoint from which a run says that it resumes, or 0."""
    found = re.search(r"Resuming from the checkpoint of step (\d+)", text)
    return int(found[1]) if found else 0


def same(folder, other):
    """Assert that two finished runs have the same record, arrays and results, bit for bit."""
    assert (folder / "metrics.jsonl").read_bytes() == (other / "metrics.jsonl").read_bytes(), "metrics.jsonl differs"
    for tree, expected in zip(read_arrays(folder), read_arrays(other), strict=True):
        found, expected = (dict(jax.tree.leaves_with_path(x)) for x in (tree, expected))
        assert found.keys() == expected.keys()
        for path, x in found.items():
            np.testing.assert_array_equal(x, expected[path], err_msg=path_name(path))
    results = [json.loads((run / "status.json").read_text())["results"] for run in (folder, other)]
    assert results[0] == results[1], results
