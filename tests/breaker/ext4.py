"""Power cuts of a real ext4 file system, on an image behind a loop device.

The kernel's call that ends a mounted ext4 without writing anything more (`EXT4_IOC_SHUTDOWN`, which file system tests
use) stands in for the cut. What was in the page cache is lost, and the next mount recovers the journal.
"""

import fcntl
import os
import struct
import subprocess
import time

from tests.breaker.bench import SAVE_EVERY, Process, lines, resumed_step, same, train_words
from tests.breaker.mounts import may_mount, mounted

SHUTDOWN, NO_FLUSH = 0x8004587D, 2  # _IOR('X', 125, __u32), EXT4_GOING_FLAGS_NOLOGFLUSH


def unavailable() -> str:
    """The reason why this kind cannot be tried here, or ""."""
    return "" if may_mount() and os.path.exists("/dev/loop-control") else "needs root and a loop device"


def attempt(bench, rng) -> str:
    """Cut the power at a random moment of a run, up to three times; then the run ends as an undisturbed one."""
    image, cuts, promised = bench.scratch / "disk.img", rng.randrange(1, 4), 0
    with open(image, "wb") as file:
        file.truncate(64 << 20)
    subprocess.run(["mkfs.ext4", "-q", image], check=True)
    options = ",".join([
        "loop", f"commit={rng.choice([1, 5, 300])}", rng.choice(["delalloc", "nodelalloc"]),
        rng.choice(["data=ordered", "data=writeback"]), rng.choice(["auto_da_alloc", "noauto_da_alloc"]),
    ])  # fmt: skip
    for cut in range(cuts + 1):
        with mounted("-o", options, image, at=bench.scratch / "disk") as disk:
            run = disk / "run"
            process = Process(train_words(run, "--pause", "0.03"), output=bench.scratch / f"life-{cut}.txt")
            if cut < cuts:
                more = lines(run) + rng.randrange(1, 14)
                process.wait_for(lambda more=more, run=run: lines(run) >= more)
                time.sleep(rng.random() * 0.2)
                steps = [int(path.name) for path in run.glob("checkpoints/*") if path.name.isdigit()]
                power_off(disk)
                process.kill()
            code, text = process.end()
            if "Resuming" in text or "step 0/" in text:
                assert resumed_step(text) >= promised, f"{options}: step {promised} was safe: {text}"
            promised = max([promised, *(step - 2 * SAVE_EVERY for step in steps)]) if cut < cuts else promised
            if cut == cuts:
                assert code == 0, f"{options}: {text}"
                same(run, bench.finished)
    return f"{cuts} cuts, recovered"


def power_off(disk):
    """Stop all writing to a mounted file system, at once."""
    folder = os.open(disk, os.O_RDONLY)
    try:
        fcntl.ioctl(folder, SHUTDOWN, struct.pack("I", NO_FLUSH))
    finally:
        os.close(folder)
