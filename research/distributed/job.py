"""The processes of one job: they join, exchange values and stop together.

Communication uses JAX's coordination service, a store of strings and barriers at rank 0. A rank that receives a signal
or fails appends a message to a list in that store. A thread of every rank reads the list.
"""

import atexit
import contextlib
import json
import os
import secrets
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any

import jax

from research.distributed import watchdog
from research.distributed.cluster import TPU, Cluster, resolve
from research.distributed.preemption import AGREEMENT, Interruption, signals
from research.errors import UserError, print_error, printable

# Timeouts in seconds. C threads send the heartbeats, so only a dead process, a dead host or a broken link misses them.
INITIALIZATION, HEARTBEAT, SHUTDOWN = 300, 60, 60
EXCHANGE = 600  # until the last process reaches an exchange; their times to read and compile differ
LEAVE = 24 * 3600  # the others wait while rank 0 writes the report; a failure ends that wait
POLL = 5  # of one request for the next message
SHARED_FILE = 90  # NFS may hide a new file for a minute


class Job:
    """One of the `count` processes of a job, created by `join`. The process with `rank` 0 writes the run folder."""

    def __init__(self, rank: int = 0, count: int = 1, client=None):
        self.rank, self.count, self._client = rank, count, client
        self.interruption = Interruption()
        self.last_words = lambda text: None  # called before this process exits because another one failed
        self._exchanges, self._failing = 0, False
        self._left = threading.Event()
        self._reader = threading.Thread(target=self._read_messages, name="messages", daemon=True)
        if count > 1:
            self._reader.start()

    def everyone(self, value, *, name=None, timeout: float = EXCHANGE) -> list:
        """Exchange a JSON-serializable value: return the values of all ranks, in order of rank.

        All ranks must call this in the same order, unless `name` identifies the exchange. `timeout` is in seconds;
        JaxRuntimeError is raised if another rank comes too late.
        """
        if self.count == 1:
            return [value]
        if name is None:
            self._exchanges += 1
            name = str(self._exchanges)
        place = f"research/exchange/{name}/"
        self._client.key_value_set(f"{place}{self.rank}", json.dumps(value))
        self._client.wait_at_barrier(place, int(timeout * 1000))
        texts = {int(key.rpartition("/")[2]): text for key, text in self._client.key_value_dir_get(place)}
        return [json.loads(texts[rank]) for rank in range(self.count)]

    def first(self, make) -> Any:
        """Call `make()` on rank 0 and return its result on all ranks."""
        return self.everyone(make() if self.rank == 0 else None)[0]

    def check_same(self, what: str, value: str):
        """Raise UserError on all ranks unless `value` is the same on all; `what` names the value."""
        answers = self.everyone([socket.gethostname(), value])
        first_host, expected = answers[0]
        for rank, (host, other) in enumerate(answers):
            if other != expected:
                raise UserError(
                    f"rank {rank} ({host}) has {what} {other}, rank 0 ({first_host}) has {expected}; start all "
                    "processes of a job with the same code and command."
                )

    def check_shared(self, folder, *, wait: float = SHARED_FILE):
        """Raise UserError on all ranks unless all see a file that rank 0 writes to `folder` within `wait` seconds."""
        if self.count == 1:
            return
        token = Path(folder) / f".shared-{self.first(lambda: secrets.token_hex(8))}"
        if self.rank == 0:
            token.touch()
        until = time.monotonic() + wait
        while not (seen := token.exists()) and time.monotonic() < until:
            time.sleep(0.1)
        answers = self.everyone([socket.gethostname(), seen])
        if self.rank == 0:
            token.unlink()
        blind = [f"rank {rank} ({host})" for rank, (host, seen) in enumerate(answers) if not seen]
        if blind:
            raise UserError(
                f"{', '.join(blind)} did not see, within {wait:g} s, the file that rank 0 ({answers[0][0]}) wrote to "
                f"{folder}. Choose a folder on a file system that all processes share: --runs DIR or RESEARCH_RUNS."
            )

    def turn(self, make) -> Any:
        """Call `make()` on rank 0, then on all others, so that files are prepared once; return this rank's result."""
        if self.rank == 0:
            result = make()
        self.everyone(None, timeout=LEAVE)
        return result if self.rank == 0 else make()

    @contextlib.contextmanager
    def signals(self):
        """Within the context, a stop signal to any rank sets the Interruption on all ranks; yields it."""
        if self.count == 1:
            self.interruption = Interruption()  # a signal to one run must not stop the next run in this process
        with signals(self.ask):
            yield self.interruption

    def ask(self, number: int):
        """Request a stop of all ranks at the same step because of a signal; safe to call from its handler."""
        if self.count == 1:
            self.interruption.stop(number)
        else:  # a request to the coordinator may block, and a signal handler must not
            threading.Thread(target=self._post, args=(f"signal {number}",), daemon=True).start()

    def fail(self, code: int, text: str):
        """Exit with status `code`, and make all other processes of the job exit with it within seconds.

        Does nothing in a job of one process. Uses `os._exit`, because at a normal exit JAX would wait for processes
        that wait for this one.
        """
        if self.count == 1 or self._left.is_set():
            return
        self._failing = True
        with contextlib.suppress(Exception):  # the coordinator may be gone
            self._post(f"failed {code} rank {self.rank}: {printable(text)}")
        self._exit(code)

    def hung(self, text: str):
        """End this process and its job because this process hangs; never returns."""
        self.fail(1, text)
        os._exit(1)

    @contextlib.contextmanager
    def guard(self):
        """Within the context, an exception ends all processes of the job; see `fail`."""
        try:
            yield
        except BaseException as error:
            if self.count > 1 and not self._left.is_set():
                _print_error(error)
                self.fail(_exit_status(error), f"{type(error).__name__}: {error}")
            raise

    def leave(self):
        """Wait until all ranks call this, then shut the job down. Afterwards each process is on its own."""
        if self.count == 1 or self._left.is_set():
            return
        self._client.wait_at_barrier("research/leave", LEAVE * 1000)
        self._left.set()
        if self.rank == 0:
            self._post("left")  # wakes the threads that wait for a message
        self._reader.join()
        jax.distributed.shutdown()

    def _post(self, text):
        number = 0
        while True:
            with contextlib.suppress(jax.errors.JaxRuntimeError):
                self._client.key_value_set(f"research/news/{number}", text)  # raises if the number is taken
                return
            self._client.blocking_key_value_get(f"research/news/{number}", POLL * 1000)
            number += 1

    def _read_messages(self):
        number = 0
        while True:
            try:
                text = self._client.blocking_key_value_get(f"research/news/{number}", POLL * 1000)
            except jax.errors.JaxRuntimeError:  # no message; if the coordinator is gone, JAX ends the process
                time.sleep(0.05)
                continue
            number += 1
            kind, _, rest = text.partition(" ")
            if kind == "left":
                return
            if kind == "signal":
                self._agree(int(rest))
            if kind == "failed" and not self._failing:
                code, text = rest.split(" ", 1)
                self._exit_after_failure(int(code), text)

    def _agree(self, number):
        try:
            counts = lambda mine: self.everyone(mine, name="stop", timeout=AGREEMENT)
            self.interruption.stop(number, counts=counts)
        except Exception as error:
            self.fail(1, f"the processes did not agree on a step to stop at: {error}")

    def _exit_after_failure(self, code, text):
        if watchdog.SETTING in text:  # a hang: the stacks of all ranks help to find its cause
            watchdog.dump(text)
        else:
            os.write(2, f"\nrank {self.rank} exits because of {text}\n".encode())
        with contextlib.suppress(Exception):
            self.last_words(text)
        self._exit(code)

    def _exit(self, code):
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):
                stream.flush()
        time.sleep(1.0 if self.rank == 0 else 0.2)  # the coordinator ends with rank 0, so others must read first
        os._exit(code)


_job = Job()


def job() -> Job:
    """Return the job that this process has joined; before `join`, a job of one process."""
    return _job


def _add_threads():
    """Give XLA enough threads for the simulated CPU devices.

    By default it has one thread per core. A collective blocks one thread for each device and each running program, so
    with too few threads the devices would wait for one another forever.
    """
    count = jax.config.jax_num_cpu_devices
    if count > 1 and 4 * count > (os.cpu_count() or 1):
        os.environ.setdefault("NPROC", str(4 * count))  # several programs may run at the same time


def join(env=None) -> Job:
    """Join the job that the environment describes, and return it; see `research.distributed.cluster`.

    Call this before JAX uses a device. Later calls return the same Job. For a single process, JAX is not configured.
    After joining, an uncaught exception ends all processes of the job. Raises UserError if the environment describes a
    cluster incompletely or the coordinator cannot be reached.
    """
    global _job
    _add_threads()
    cluster = resolve(os.environ if env is None else env)
    if cluster is None or jax.distributed.is_initialized():
        return _job
    _check_reach(cluster)
    jax.config.update("jax_enable_preemption_service", False)  # it would swallow SIGTERM
    try:
        jax.distributed.initialize(
            cluster.coordinator,
            cluster.processes,
            cluster.rank,
            cluster_detection_method="gcetpu" if cluster == TPU else "deactivate",
            initialization_timeout=INITIALIZATION,
            heartbeat_timeout_seconds=HEARTBEAT,
            shutdown_timeout_seconds=SHUTDOWN,
        )
    except (ValueError, OSError) as error:
        if cluster != TPU:
            raise
        raise UserError(f"RESEARCH_CLUSTER=tpu, but no TPU metadata: {error} Is this a TPU VM?") from error
    # JAX has no public API for its key-value store.
    from jax._src.distributed import global_state

    _job = Job(global_state.process_id, global_state.num_processes, global_state.client)
    sys.excepthook = _uncaught
    atexit.register(_job.leave)
    jax.devices()  # its first call waits for all processes, so it must not happen at a point that only some reach
    return _job


def _check_reach(cluster: Cluster, *, timeout: float = INITIALIZATION):
    """Raise UserError if the coordinator cannot be reached. JAX would abort the process, or crash with SIGSEGV."""
    if cluster == TPU:
        return
    host, _, port = cluster.coordinator.rpartition(":")
    if cluster.rank == 0:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("", int(port)))
            except OSError as error:
                raise UserError(
                    f"rank 0 cannot listen on port {port} of {cluster.coordinator}: {error.strerror}. Set "
                    "RESEARCH_PORT or another RESEARCH_COORDINATOR."
                ) from error
        return
    until = time.monotonic() + timeout
    while True:
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
            return
        except OSError as error:
            if time.monotonic() > until:
                raise UserError(
                    f"rank {cluster.rank} cannot reach rank 0 at {cluster.coordinator} ({_address_of(host)}) after "
                    f"{timeout:g} s: {error}. Check that rank 0 has started and that the name resolves to its host."
                ) from error
        time.sleep(0.2)


def _address_of(host):
    with contextlib.suppress(OSError):
        return socket.gethostbyname(host)
    return "unknown host name"


def _uncaught(kind, error, trace):
    _print_error(error)
    _job.fail(_exit_status(error), f"{kind.__name__}: {error}")


def _print_error(error):
    if isinstance(error, UserError) and "--debug" not in sys.argv:
        print(f"error: {error}", file=sys.stderr)
    else:
        print_error(type(error), error, error.__traceback__)


def _exit_status(error):
    return 2 if isinstance(error, UserError) else 130 if isinstance(error, KeyboardInterrupt) else 1
