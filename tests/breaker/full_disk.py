"""A full disk: training, or a sweep, ends with an error; when there is room, it goes on to the same numbers.

The disk is a small tmpfs. If this process may not mount one, writes in Python fail from a random moment on.
"""

import contextlib
import errno
import functools
import os
import subprocess

from research.files import read_json
from tests.breaker.bench import VICTIM, Process, same, train_words
from tests.breaker.disk import Disk
from tests.breaker.mounts import may_mount, mounted

KIB = (16, 440)  # the size of the disk; a run needs about 400
EVENTS = 800  # changes of the folder by a run, about


def attempt(bench, rng) -> str:
    """Fill the disk at a random moment, make room, and run the same command again."""
    sweep, real = rng.random() < 0.3, may_mount()
    size, moment = rng.randrange(*KIB), rng.randrange(EVENTS)
    small = mounted("-t", "tmpfs", "-o", f"size={size}k", "tmpfs", at=bench.scratch / "disk")
    with small if real else contextlib.nullcontext(bench.scratch) as disk:
        folder = disk / "run"
        words = ["sweep", VICTIM, "--folder", folder, "--search", "grid", "--hidden", "8,6"]
        words = words if sweep else train_words(folder)
        inject = None if real else functools.partial(fill, folder, moment)
        code, text = Process(words, output=bench.scratch / "full.txt", inject=inject).end()
        assert code in (0, 2), text
        assert "Traceback" not in text, text
        assert code == 0 or "error: " in text, text
        if real:
            subprocess.run(["mount", "-o", "remount,size=64m", disk], check=True)
        again, text = Process(words, output=bench.scratch / "again.txt").end()
        assert again == 0, text
        trials = sorted(folder.glob("trials/*")) if sweep else [folder]
        assert len(trials) == (2 if sweep else 1), text
        for trial in trials:
            assert (trial / "status.json").exists(), f"a trial has no result: {text}"
            assert read_json(trial / "status.json")["status"] == "finished", text
            if read_json(trial / "run.json")["knobs"]["hidden"] == 8:
                same(trial, bench.finished)
    where = "a sweep" if sweep else "a run"
    return f"{where} had room" if code == 0 else f"{where} recovered"


def fill(folder, moment):
    """Let every write below `folder` in this process fail from the given change on."""
    count = 0

    def on_event():
        nonlocal count
        count += 1
        if count > moment:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    folder.mkdir(exist_ok=True)
    Disk(folder, on_event=on_event).__enter__()
