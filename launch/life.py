"""One life of a job: runs a command, and says by its exit status whether the job may be started again.

    python -m launch.life --max-restarts 20 -- python -m research train FILE

    0   finished
    75  told to end, saved before its end: start it again (AGAIN)
    3   it may not be started again: too many restarts, or two lives on end that came no step further (OVER)
    *   the command's own

The command tells how far it came through RESEARCH_STATUS_FILE, which must be on a disk that the next life sees too.
"""

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

AGAIN, OVER = 75, 3
NOTHING = {"status": "nothing", "step": -1, "folder": ""}


def read_status(status_file) -> dict:
    """What the command last told: {"status": ..., "step": ...}; status "nothing" and step -1 where it did not."""
    with contextlib.suppress(FileNotFoundError):
        return json.loads(Path(status_file).read_text(encoding="utf-8"))
    return NOTHING


def barred(status_file, max_restarts: int) -> str:
    """Counts a life that begins, in a file beside `status_file`; gives the reason why it may not begin, or ''."""
    path = Path(f"{status_file}.lives")
    now = read_status(status_file)
    lives = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    lives.append([now["folder"], now["step"]])
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    part.write_text(json.dumps(lives), encoding="utf-8")
    os.replace(part, path)
    if len(lives) > max_restarts + 1:
        return f"it was restarted {max_restarts} times, the most that is allowed (--max-restarts)."
    # The first life began where an earlier launch may have left the run: that is no step to compare with. The worker
    # of a sweep goes on in another folder.
    if len(lives) > 2 and lives[-1][0] == lives[-2][0] and lives[-1][1] <= lives[-2][1]:
        return f"no progress: it was at step {max(lives[-1][1], 0)} before its last life, and is there still."
    return ""


def live(command, *, status_file, max_restarts: int, worker: int = 0) -> int:
    """Runs one life of `command`, passes SIGTERM and SIGUSR1 on to it, and gives the exit status to leave with.

    Of several workers that share a status file, worker 0 counts the lives.
    """
    process = None

    def forward(number, frame):
        if process is None:
            sys.exit(AGAIN)
        process.send_signal(number)

    # As the first process of a container it would get no signal that it does not handle.
    before = {number: signal.signal(number, forward) for number in (signal.SIGTERM, signal.SIGUSR1)}
    try:
        if worker == 0 and (why := barred(status_file, max_restarts)):
            print(f"not started again: {why}", file=sys.stderr, flush=True)
            return OVER
        process = subprocess.Popen(command)
        code = process.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if code == 0 and read_status(status_file)["status"] == "preempted":
        return AGAIN
    return code if code >= 0 else 128 - code


def main(arguments=None) -> int:
    """The command line; gives the exit status."""
    parser = argparse.ArgumentParser(prog="python -m launch.life", description=__doc__.split("\n")[0])
    parser.add_argument("--max-restarts", type=int, default=20)
    parser.add_argument("--worker", type=int, default=os.environ.get("JOB_COMPLETION_INDEX", "0"))
    parser.add_argument("command", nargs="+")
    given = parser.parse_args(arguments)
    status_file = os.environ.get("RESEARCH_STATUS_FILE") or parser.error("RESEARCH_STATUS_FILE is not set.")
    return live(given.command, status_file=status_file, max_restarts=given.max_restarts, worker=given.worker)


if __name__ == "__main__":
    sys.exit(main())
