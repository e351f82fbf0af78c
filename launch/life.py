"""Run one attempt of a job; the exit status determines whether the queue restarts it.

    python -m launch.life --max-restarts 20 -- python -m research train FILE

    0   finished
    75  stopped by a signal after saving: restart the job (AGAIN)
    3   do not restart the job: too many restarts, or no progress in the last attempt (OVER)
    *   the command's own exit status

The command reports its progress in RESEARCH_STATUS_FILE, which must be on a disk that the next attempt can read.
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
    """Return the last reported {"status", "step", "folder"}; status "nothing" and step -1 if there is no report."""
    with contextlib.suppress(OSError, ValueError, TypeError):
        return {**NOTHING, **json.loads(Path(status_file).read_text(encoding="utf-8"))}
    return NOTHING


def barred(status_file, max_restarts: int) -> str:
    """Count a new attempt in `{status_file}.lives`; return the reason why it must not start, or ''."""
    path = Path(f"{status_file}.lives")
    status = read_status(status_file)
    lives = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    lives.append([status["folder"], status["step"]])
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.part")
    temporary.write_text(json.dumps(lives), encoding="utf-8")
    os.replace(temporary, path)
    if len(lives) > max_restarts + 1:
        return f"restarted {max_restarts} times, the limit (--max-restarts)."
    # Do not compare with the first attempt: it began before any report, and an earlier launch may have left a
    # checkpoint. Do not compare across folders either: a sweep worker moves on to another run.
    if len(lives) > 2 and lives[-1][0] == lives[-2][0] and lives[-1][1] <= lives[-2][1]:
        return f"no progress: the last attempt ended at step {max(lives[-1][1], 0)}, no further than it began."
    return ""


def live(command, *, status_file, max_restarts: int, worker: int = 0) -> int:
    """Run one attempt of `command`, forward SIGTERM and SIGUSR1 to it, and return the exit status to report.

    If several workers share a status file, worker 0 counts the attempts.
    """
    process = None

    def forward(number, frame):
        if process is None:
            sys.exit(AGAIN)
        process.send_signal(number)

    # The first process of a container (PID 1) receives only signals for which it has a handler.
    before = {number: signal.signal(number, forward) for number in (signal.SIGTERM, signal.SIGUSR1)}
    try:
        if worker == 0 and (reason := barred(status_file, max_restarts)):
            print(f"not restarted: {reason}", file=sys.stderr, flush=True)
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
    """Run the command line and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m launch.life", description=__doc__.split("\n")[0])
    parser.add_argument("--max-restarts", type=int, default=20, help="restarts before the job ends")
    parser.add_argument("--worker", type=int, default=os.environ.get("JOB_COMPLETION_INDEX", "0"))
    parser.add_argument("command", nargs="+")
    args = parser.parse_args(arguments)
    status_file = os.environ.get("RESEARCH_STATUS_FILE") or parser.error("RESEARCH_STATUS_FILE is not set.")
    return live(args.command, status_file=status_file, max_restarts=args.max_restarts, worker=args.worker)


if __name__ == "__main__":
    sys.exit(main())
