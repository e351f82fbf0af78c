"""The processes of one job: how they find each other, tell each other things, and end together.

JAX's coordination service carries it all: a store of texts and barriers at rank 0. What a rank must tell the others
without being asked (a signal, a failure) it appends to a list there, the news, that a thread of each rank follows.
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
import traceback
from pathlib import Path
from typing import Any

import jax

from research.distributed import watchdog
from research.distributed.cluster import TPU, Cluster, resolve
from research.distributed.preemption import AGREEMENT, Interruption, signals
from research.errors import UserError

# Seconds. Heartbeats come from C threads, so that only a dead process, a dead host or a cut link misses them.
INITIALIZATION, HEARTBEAT, SHUTDOWN = 300, 60, 60
EXCHANGE = 600  # until the last process comes to the same line; they differ by what they read and compile
LEAVING = 24 * 3600  # the others wait while rank 0 writes the report; a failure ends that wait
LOOK = 5  # for news, a request may wait so long at the coordinator
SHARED = 90  # NFS may hide a new file for a minute


class Job:
    """This process among the `count` of its job; `rank` 0 writes the run folder. Made by `join`."""

    def __init__(self, rank: int = 0, count: int = 1, client=None):
        self.rank, self.count, self._client = rank, count, client
        self.interruption = Interruption()
        self.last_words = lambda text: None  # called before this process ends on account of another's failure
        self._exchanges, self._failing = 0, False
        self._left = threading.Event()
        self._follower = threading.Thread(target=self._follow, name="news", daemon=True)
        if count > 1:
            self._follower.start()

    def everyone(self, value, *, name=None, timeout: float = EXCHANGE) -> list:
        """The `value` (anything JSON holds) of each rank, in their order. All come here, at the same line."""
        if self.count == 1:
            return [value]
        if name is None:
            self._exchanges += 1
            name = str(self._exchanges)
        place = f"research/exchange/{name}/"
        self._client.key_value_set(f"{place}{self.rank}", json.dumps(value))
        self._client.wait_at_barrier(place, int(timeout * 1000))
        found = {int(key.rpartition("/")[2]): text for key, text in self._client.key_value_dir_get(place)}
        return [json.loads(found[rank]) for rank in range(self.count)]

    def first(self, make) -> Any:
        """What rank 0 gets from `make()`, on all ranks."""
        return self.everyone(make() if self.rank == 0 else None)[0]

    def check_same(self, what: str, value: str):
        """Raises a UserError on all ranks unless `value` is the same on all."""
        found = self.everyone([socket.gethostname(), value])
        for rank, (host, other) in enumerate(found):
            if other != found[0][1]:
                raise UserError(
                    f"rank {rank} ({host}) has {what} {other}, rank 0 ({found[0][0]}) has {found[0][1]}: all "
                    "processes of a job run the same code and command."
                )

    def check_shared(self, folder, *, wait: float = SHARED):
        """Raises a UserError on all ranks unless all see what rank 0 writes into `folder` within `wait` seconds."""
        if self.count == 1:
            return
        token = Path(folder) / f".shared-{self.first(lambda: secrets.token_hex(8))}"
        if self.rank == 0:
            token.touch()
        until = time.monotonic() + wait
        while not (seen := token.exists()) and time.monotonic() < until:
            time.sleep(0.1)
        found = self.everyone([socket.gethostname(), seen])
        if self.rank == 0:
            token.unlink()
        blind = [f"rank {rank} ({host})" for rank, (host, seen) in enumerate(found) if not seen]
        if blind:
            raise UserError(
                f"{', '.join(blind)} did not see within {wait:g} s what rank 0 ({found[0][0]}) wrote in {folder}. The "
                "runs of several processes need a folder on a file system that all share: --runs DIR or RESEARCH_RUNS."
            )

    def turn(self, make) -> Any:
        """`make()` on each rank, on rank 0 before the others: what it prepares on disk is prepared once."""
        if self.rank == 0:
            made = make()
        self.everyone(None, timeout=LEAVING)
        return made if self.rank == 0 else make()

    @contextlib.contextmanager
    def signals(self):
        """While it lasts, a signal to any rank that asks for an end makes the Interruption say so on all."""
        if self.count == 1:
            self.interruption = Interruption()  # the next run in this process is another matter
        with signals(self.ask):
            yield self.interruption

    def ask(self, number: int):
        """Asks all ranks to stop at the same point, on account of a signal. May be called by its handler."""
        if self.count == 1:
            self.interruption.stop(number)
        else:  # a request to the coordinator may wait, and a handler may not
            threading.Thread(target=self._post, args=(f"signal {number}",), daemon=True).start()

    def fail(self, code: int, text: str):
        """Ends this process, and all others of the job within seconds, with `code`; does nothing for one process.

        By _exit: JAX would wait at the end of the interpreter for processes that wait for this one.
        """
        if self.count == 1 or self._left.is_set():
            return
        self._failing = True
        with contextlib.suppress(Exception):  # the coordinator may be gone
            self._post(f"failed {code} rank {self.rank}: {text}")
        self._exit(code)

    def hung(self, text: str):
        """Ends this process, which hangs, and with it the job."""
        self.fail(1, text)
        os._exit(1)

    @contextlib.contextmanager
    def guard(self):
        """An error in the block ends the whole job, where it has several processes; see `fail`."""
        try:
            yield
        except BaseException as error:
            if self.count > 1 and not self._left.is_set():
                _show(error)
                self.fail(_code(error), f"{type(error).__name__}: {error}")
            raise

    def leave(self):
        """Ends the job in good order: returns when all ranks have come here. After it there is only one process."""
        if self.count == 1 or self._left.is_set():
            return
        self._client.wait_at_barrier("research/leave", LEAVING * 1000)
        self._left.set()
        if self.rank == 0:
            self._post("left")  # wakes the threads that wait for news
        self._follower.join()
        jax.distributed.shutdown()

    def _post(self, text):
        number = 0
        while True:
            with contextlib.suppress(jax.errors.JaxRuntimeError):
                self._client.key_value_set(f"research/news/{number}", text)  # refused where there is one
                return
            self._client.blocking_key_value_get(f"research/news/{number}", LOOK * 1000)
            number += 1

    def _follow(self):
        number = 0
        while True:
            try:
                text = self._client.blocking_key_value_get(f"research/news/{number}", LOOK * 1000)
            except jax.errors.JaxRuntimeError:  # nothing new; where the coordinator is gone, JAX ends the process
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
                self._follow_into_death(int(code), text)

    def _agree(self, number):
        try:
            counts = lambda mine: self.everyone(mine, name="stop", timeout=AGREEMENT)
            self.interruption.stop(number, counts=counts)
        except Exception as error:
            self.fail(1, f"no agreement on a step to stop at: {error}")

    def _follow_into_death(self, code, text):
        if watchdog.SETTING in text:  # each shows where it stands
            watchdog.dump(text)
        else:
            os.write(2, f"\nrank {self.rank} ends: {text}\n".encode())
        with contextlib.suppress(Exception):
            self.last_words(text)
        self._exit(code)

    def _exit(self, code):
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):
                stream.flush()
        time.sleep(1.0 if self.rank == 0 else 0.2)  # with rank 0 goes the coordinator, before others have the news
        os._exit(code)


_job = Job()


def job() -> Job:
    """The job that this process has joined; one of a single process before `join`."""
    return _job


def _room_for_devices():
    """XLA keeps as many threads as a CPU has cores, and a collective blocks one for each device and program under way:
    with fewer threads, devices that are made believe would wait for one another for ever.
    """
    count = jax.config.jax_num_cpu_devices
    if count > 1 and 4 * count > (os.cpu_count() or 1):
        os.environ.setdefault("NPROC", str(4 * count))  # some programs are under way at a time


def join(env=None) -> Job:
    """Joins the job that the environment describes (see `research.distributed.cluster`), before JAX touches a device.

    Done once; later calls give the same Job. For one process JAX is left alone. From then on an exception that
    nobody catches ends the whole job. Raises UserError for half a cluster and for a coordinator out of reach.
    """
    global _job
    _room_for_devices()
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
        raise UserError(f"RESEARCH_CLUSTER=tpu, and no TPU metadata: {error} Is this a TPU VM?") from error
    # JAX has no public door to its store.
    from jax._src.distributed import global_state

    _job = Job(global_state.process_id, global_state.num_processes, global_state.client)
    sys.excepthook = _uncaught
    atexit.register(_job.leave)
    jax.devices()  # a meeting of all processes, so not where one of them happens to come first
    return _job


def _check_reach(cluster: Cluster, *, timeout: float = INITIALIZATION):
    """Here it is an error in words; in JAX the process aborts, or dies of a segmentation fault."""
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
                    f"rank 0 cannot listen at port {port} of {cluster.coordinator}: {error.strerror}. Set "
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
                    f"{timeout:g} s: {error}. Has rank 0 started, and does that name mean the same host everywhere?"
                ) from error
        time.sleep(0.2)


def _address_of(host):
    with contextlib.suppress(OSError):
        return socket.gethostbyname(host)
    return "no such name"


def _uncaught(kind, error, trace):
    _show(error)
    _job.fail(_code(error), f"{kind.__name__}: {error}")


def _show(error):
    if isinstance(error, UserError) and "--debug" not in sys.argv:
        print(f"error: {error}", file=sys.stderr)
    else:
        traceback.print_exception(error)


def _code(error):
    return 2 if isinstance(error, UserError) else 130 if isinstance(error, KeyboardInterrupt) else 1
