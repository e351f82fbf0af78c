"""Run several processes on this host as on a cluster, each with its own devices.

The launcher watches the processes until they end. It prefixes each output line with the rank, forwards signals, and
ends the other processes if one fails.
"""

import argparse
import ctypes
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from launch.life import OVER, barred, read_status
from launch.plan import Job, Plan
from research.errors import UserError

GRACE = 15.0  # seconds for the other processes to exit after a failure; most exit within one
PATIENCE = 600.0  # seconds to save after a signal; after that, assume that the process ignored it


def arguments(parser):
    """Add the resource options of a job on this host."""
    parser.add_argument("--processes", type=int, default=1, metavar="N", help="number of processes")
    parser.add_argument("--devices", type=int, metavar="N", help="devices per process; any number on a CPU")
    parser.add_argument("--max-restarts", type=int, default=0, metavar="N", help="after a crash or preemption")
    parser.add_argument("--patience", type=float, default=PATIENCE, metavar="S", help="seconds to save after a signal")


def plan(job: Job, resources: Mapping[str, Any]) -> Plan:
    """Plan one command that starts the processes. Raises UserError for counts below 1, or a sweep in several."""
    for name in ("processes", "devices"):
        if resources[name] is not None and resources[name] < 1:
            raise UserError(f"--{name} {resources[name]}; expected at least 1.")
    if resources["processes"] > 1 and job.arguments[0] != "train":
        raise UserError(f"{job.arguments[0]} runs in one process; --processes applies only to train.")
    options = [f"--{name.replace('_', '-')}={value}" for name, value in resources.items() if value is not None]
    status = f"--status-file={job.folder}/status.json"
    return Plan({}, ((job.python, "-m", "launch.local", *options, status, "--", *job.command()),))


def submit(plan: Plan) -> int:
    """Replace this process by the plan's command, so that signals reach it directly."""
    sys.stdout.flush()
    os.execv(plan.commands[0][0], plan.commands[0])


def environment(rank: int, *, processes: int, devices: int | None, port: int) -> dict[str, str]:
    """Return the variables that the launcher adds to the environment of a rank."""
    env = {"RESEARCH_COORDINATOR": f"127.0.0.1:{port}", "RESEARCH_PROCESSES": str(processes)}
    env |= {"RESEARCH_PROCESS": str(rank), "PYTHONUNBUFFERED": "1"}
    if devices:
        env |= {"JAX_NUM_CPU_DEVICES": str(devices)}
    if devices and processes > 1:
        env |= {"JAX_LOCAL_DEVICE_IDS": ",".join(str(rank * devices + i) for i in range(devices))}
    return env


class Life:
    """One attempt of a job: starts the processes and waits for them. Signal handlers call `stop`."""

    def __init__(self, command, *, status_file, processes: int, devices: int | None):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.until, self.asked = float("inf"), []
        self._ranks, self._pumps = [], []
        for rank in range(processes):
            env = os.environ | environment(rank, processes=processes, devices=devices, port=port)
            env |= {"RESEARCH_STATUS_FILE": os.path.abspath(status_file)}
            single = processes == 1  # a single process writes to the terminal directly
            process = subprocess.Popen(
                command, env=env, stdin=subprocess.DEVNULL, start_new_session=True, preexec_fn=_die_with_parent,
                stdout=None if single else subprocess.PIPE, stderr=None if single else subprocess.STDOUT,
            )  # fmt: skip
            self._ranks.append(process)
            if not single:
                self._pumps.append(threading.Thread(target=_pump, args=(rank, process.stdout), daemon=True))
                self._pumps[-1].start()

    def stop(self, number: int, patience: float):
        """Forward a signal; kill after `patience` seconds, or immediately on the second Ctrl-C."""
        for process in self._ranks:
            if process.poll() is None:
                process.send_signal(number)
        again = number == signal.SIGINT and number in self.asked
        self.asked.append(number)
        self.until = 0 if again else min(self.until, time.monotonic() + patience)

    def wait(self) -> int:
        """Wait for all processes; return the exit status of the first failure, otherwise 0."""
        code = 0
        try:
            while (codes := [process.poll() for process in self._ranks]).count(None):
                failed = [(rank, code) for rank, code in enumerate(codes) if code]
                if failed and not code:
                    code = failed[0][1]
                    _say(f"rank {failed[0][0]} ended with {_describe_exit(code)}; {GRACE:g} s left for the others")
                    self.until = min(self.until, time.monotonic() + GRACE)
                if time.monotonic() > self.until:
                    _say("killing the remaining processes")
                    break
                time.sleep(0.05)
        finally:
            for process in self._ranks:
                _kill_group(process.pid)
            codes = [process.wait() for process in self._ranks]
        for pump in self._pumps:
            pump.join(5)
        return code or next((code for code in codes if code), 0)


def run(command, *, status_file, processes=1, devices=None, max_restarts=0, patience=PATIENCE) -> int:
    """Run a command in `processes` processes, with restarts, and return its exit status (128 + n for signal n).

    A job that crashed or was preempted restarts up to `max_restarts` times, unless an attempt made no progress. A
    signal to this process, or a user error (exit status 2), causes no restart.
    """
    life, ended = None, []
    for path in (status_file, f"{status_file}.lives"):  # from an earlier launch
        Path(path).unlink(missing_ok=True)

    def handle(number, frame):
        ended.append(number)
        if life:
            life.stop(number, patience)

    before = {n: signal.signal(n, handle) for n in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)}
    try:
        code = 0
        while not ended:
            if reason := barred(status_file, max_restarts):
                if not max_restarts:  # report the exit status of the only attempt
                    return code
                _say(f"not restarted: {reason}")
                return code or OVER
            life = Life(command, status_file=status_file, processes=processes, devices=devices)
            for number in ended:  # signals that arrived while the processes started
                life.stop(number, patience)
            code = life.wait()
            preempted = code == 0 and read_status(status_file)["status"] == "preempted"
            code = 128 - code if code < 0 else code
            if code == 2 or (code == 0 and not preempted):
                return code
            if max_restarts and not ended:
                _say(f"{'preempted' if preempted else f'ended with {code}'} at step {read_status(status_file)['step']}")
        return 130 if signal.SIGINT in ended else code
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _pump(rank, stream):
    with stream:
        for line in stream:
            _write(b"[%d] %s" % (rank, line if line.endswith(b"\n") else line + b"\n"))


def _say(text):
    _write(f"launch: {text}\n".encode())


def _write(data):
    sys.stdout.buffer.write(data)  # one call per line, so that lines from several threads do not mix
    sys.stdout.buffer.flush()


def _describe_exit(code):
    return f"exit status {code}" if code > 0 else signal.Signals(-code).name


def _kill_group(pid):
    try:
        os.killpg(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):  # the group is gone; macOS raises PermissionError for zombies
        pass


def _die_with_parent():
    """Ask Linux to kill this process with its parent; its own session would otherwise outlive a killed launcher."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def main(args=None) -> int:
    """Run the command line and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m launch.local", description=__doc__)
    arguments(parser)
    parser.add_argument("--status-file", required=True, help="file in which the job reports its progress")
    parser.add_argument("command", nargs="+")
    options = vars(parser.parse_args(args))
    return run(options.pop("command"), **options)


if __name__ == "__main__":
    sys.exit(main())
