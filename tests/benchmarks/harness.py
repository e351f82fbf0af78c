"""The harness's side: it starts a process for each contender, lets them take turns, and keeps what they report."""

import contextlib
import datetime
import functools
import importlib.metadata
import importlib.util
import json
import os
import platform
import random
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from research.system.allocator import SETTING, TUNABLES
from research.system.provenance import git_state, versions
from tests.benchmarks import stability, works

RESULTS = Path(__file__).parent / "results"
QUICK = {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1", "JAX_DEFAULT_PRNG_IMPL": "rbg"}  # what compiles soonest
if importlib.metadata.version("jax").startswith("0.10."):
    QUICK["XLA_FLAGS"] = "--xla_cpu_use_fusion_emitters=false"  # a switch that later versions do not know
PARTS = 3  # of a turn of training; how they differ shows a disturbance
PEERS = ("keras", "torch", "tensorflow-cpu")  # not among the versions that a run of ours depends on


class Contender(NamedTuple):
    """A process that takes turns: `python -m tests.benchmarks.MODULE NAME WORK`; `needs` are packages.

    `kept`: its allocator keeps freed memory, by the settings of `system.allocator`.
    """

    name: str
    module: str
    needs: tuple[str, ...] = ()
    kept: bool = False


TRAINERS = (
    Contender("ours", "ours", kept=True),
    Contender("floor", "floor", kept=True),
    Contender("linen", "linen"),
    Contender("linen-kept", "linen", kept=True),
    Contender("nnx", "nnx_idiom"),
    Contender("keras", "keras_jax", ("keras",)),
    Contender("torch", "torch_twin", ("torch",)),
    Contender("torch-best", "torch_twin", ("torch",)),
    Contender("torch-best-kept", "torch_twin", ("torch",), kept=True),
    Contender("torch-compile", "torch_twin", ("torch",)),
)
DISPATCHERS = (
    *(Contender(name, "ours", kept=True) for name in ("ours", "ours-step", "ours-many")),
    *(contender for contender in TRAINERS if contender.name in ("floor", "linen", "nnx")),
)


def contenders(work: works.Work) -> tuple[Contender, ...]:
    """Who competes in a piece of work; "floor" is what the others are measured against."""
    if work.kind in works.DISPATCH:
        return DISPATCHERS
    if work.kind in works.OTHERS:
        return OTHERS[work.kind]
    return TRAINERS[:2] if "@" in work.name else TRAINERS


STARTS = tuple(Contender(name, "startup") for name in ("ours", "floor", "bare"))
OTHERS = {
    "input": (
        Contender("ours", "inputs"), Contender("floor", "inputs"),
        *(Contender(name, "inputs", ("torch",)) for name in ("torch-0", "torch-2")),
        Contender("tf-data", "inputs", ("tensorflow",)),
    ),
    "evaluation": (Contender("ours", "evaluation"), Contender("floor", "evaluation")),
    "save": tuple(Contender(name, "checkpoints") for name in ("ours", "ours-blocks", "floor")),
    "restore": tuple(Contender(name, "checkpoints") for name in ("ours", "floor")),
    "startup-cold": STARTS,
    "startup-warm": STARTS,
    "help": tuple(Contender(name, "startup") for name in ("ours", "floor")),
    "speedrun": (
        Contender("ours", "speedrun"), Contender("torch-full", "speedrun", ("torch",)),
        Contender("torch-small", "speedrun", ("torch",)),
    ),
    "generate": (
        *(Contender(name, "generation", kept=True) for name in ("ours", "ours-stream")),
        Contender("transformers", "generation", ("torch", "transformers")),
    ),
    "prepare-fit": tuple(Contender(name, "preparation") for name in ("ours", "scikit-learn")),
    "prepare-apply": tuple(Contender(name, "preparation") for name in ("ours", "scikit-learn")),
}  # fmt: skip


class Process(NamedTuple):
    """A contender that runs, the file that it is told its turns through, and what it prints."""

    contender: Contender
    process: subprocess.Popen
    file: Any
    log: Path

    def ask(self, steps: int) -> dict[str, Any]:
        """What it reports of a turn of `steps`. Raises Lost where it has died."""
        self.tell(steps)
        return self.answer()

    def tell(self, steps: int):
        """Begins a turn of `steps`; 0 is the end. That it has died shows in its answer."""
        with contextlib.suppress(OSError):
            self.file.write(f"{steps}\n")
            self.file.flush()

    def answer(self) -> dict[str, Any]:
        """Its next report. Raises Lost where it has died."""
        line = ""
        with contextlib.suppress(ConnectionResetError):
            line = self.file.readline()
        if not line:
            last = self.log.read_text(errors="replace").strip().split("\n")[-1]
            raise Lost(f"{self.contender.name} died: {last}")
        return json.loads(line)

    def end(self):
        """Its process is gone, whatever it was doing."""
        self.process.kill()
        self.process.wait()
        with contextlib.suppress(OSError):  # what it was not told any more
            self.file.close()


class Lost(Exception):
    """A contender that could not take part, and why."""


def start(contender: Contender, work: works.Work, *, quick: bool, folder) -> Process:
    """Starts a contender; it begins to set itself up. Raises Lost where a package is missing."""
    for package in contender.needs:
        if importlib.util.find_spec(package) is None:
            raise Lost(f"{contender.name} is left out: no {package} here. Install it with pip install -e '.[bench]'")
    mine, its = socket.socketpair()
    log = Path(folder, f"{contender.name}.log")
    command = [sys.executable, "-m", f"tests.benchmarks.{contender.module}", contender.name, work.name]
    command += ["--channel", str(its.fileno()), *(["--quick"] if quick else [])]
    devices = work.sizes.devices
    environment = {name: value for name, value in os.environ.items() if name != SETTING}
    environment |= {
        "JAX_NUM_CPU_DEVICES": str(devices), "KERAS_BACKEND": "jax",
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false", "TF_CPP_MIN_LOG_LEVEL": "2", **(QUICK if quick else {}),
        **({SETTING: TUNABLES} if contender.kept else {}),
    }  # fmt: skip
    if devices > 1:
        environment["NPROC"] = str(max(4 * devices, os.cpu_count()))  # as in research.distributed: or they might hang
    with open(log, "wb") as output, its, mine:
        process = subprocess.Popen(
            command, env=environment, pass_fds=[its.fileno()], stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
        return Process(contender, process, mine.makefile("rw"), log)


class Ready(NamedTuple):
    """A contender that is set up: steps in a part of a turn, and what it said of itself."""

    process: Process
    steps: int
    facts: Mapping[str, Any]


def warmed(process: Process, work: works.Work, *, seconds: float) -> Ready:
    """A contender when it has compiled and done a few steps, checked: its size, and that its loss falls.

    One that says `warm: False` goes as it is, a step a turn. Raises Lost where it does other work than the others.
    """
    facts = dict(process.answer()["facts"])
    if not facts.get("warm", True):
        return Ready(process, 1, facts)
    stride = facts.get("stride", 1)
    first = process.ask(stride)
    again = 4 if work.optimizer else 1
    second = process.ask(again * stride)
    facts |= {"compile": first["seconds"], "loss": [first["loss"], second["loss"]]}
    if work.optimizer:
        expected = works.parameters(work)
        if facts["parameters"] != expected:
            raise Lost(f"{process.contender.name} has {facts['parameters']:,} parameters, not {expected:,}")
        if not second["loss"] < first["loss"]:
            raise Lost(f"the loss of {process.contender.name} does not fall: {facts['loss']}")
    part = seconds / PARTS if "parameters" in facts else seconds
    steps = max(1, min(20_000 // stride, round(part / (second["seconds"] / again)))) * stride
    return Ready(process, steps, facts)


def turn(contender: Ready) -> dict[str, Any]:
    """A turn of a contender: times of a step in ms, shares that others took, its memory and loss. Raises Lost.

    Where it trains, a step comes first that does not count: training does not sleep, so what a sleep costs (memory that
    a virtual machine took back, cold caches) is no part of it. Then come `PARTS` parts.
    """
    trains, ask = "parameters" in contender.facts, contender.process.ask
    if trains:
        ask(contender.facts.get("stride", 1))
    parts = [ask(contender.steps) for _ in range(PARTS if trains else 1)]
    total = lambda key: sum(part[key] for part in parts)
    share = lambda key: sum(part[key] * part["seconds"] for part in parts) / total("seconds")
    ms = 1e3 / contender.steps
    return {
        "contender": contender.process.contender.name, "ms": ms * total("seconds") / len(parts),
        "cpu_ms": ms * total("cpu") / len(parts), "parts": [ms * part["seconds"] for part in parts],
        "foreign": share("foreign"), "steal": share("steal"), "rss": parts[-1]["rss"], "loss": parts[-1]["loss"],
    }  # fmt: skip


def measure(
    spec: str, *, rounds: int, seconds: float, again: int = 0, quick: bool = False, only=(), tell=print
) -> dict[str, Any]:
    """One piece of work by all its contenders: what is a line of the results.

    After the `rounds` come up to `again` rounds of those contenders with fewer stable turns, and of ours and the floor.
    """
    work, ready, lost = works.work(spec, quick=quick), [], []
    chosen = [c for c in contenders(work) if not only or c.name in only]
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as held:

        def begin(contender):
            process = start(contender, work, quick=quick, folder=folder)
            held.callback(process.end)
            return process

        def attempt(function, *args, **options):
            try:
                return function(*args, **options)
            except Lost as error:
                lost.append(str(error))
                tell(f"{spec}: {error}")

        # Where no time is to be right they may set themselves up all at once.
        waiting = [attempt(begin, c) for c in chosen] if quick else chosen
        for process in filter(None, waiting):
            process = process if quick else attempt(begin, process)
            ready.append(process and attempt(warmed, process, work, seconds=seconds))
        ready = [contender for contender in ready if contender]
        played, order = [], random.Random(0)
        for number in range(rounds + again):
            counts = {name: len(found) for name, found in stability.stable(played).items()}
            short = [r for r in ready if counts.get(r.process.contender.name, 0) < rounds]
            if number >= rounds:
                if not short:
                    break
                tell(f"{spec}: again, for {', '.join(r.process.contender.name for r in short)}")
                short += [r for r in ready if r not in short and r.process.contender.name in ("ours", "floor")]
            for contender in order.sample(short, len(short)):
                report = attempt(turn, contender)
                if report is None:
                    ready.remove(contender)
                    continue
                played.append({"round": number, **report})
            tell(f"{spec}: round {number + 1} of {rounds}")
        for contender in ready:
            contender.process.tell(0)
            contender.process.process.wait(60)
    return {
        **circumstances(), "work": spec, "quick": quick, "sizes": vars(work.sizes), "lost": lost, "wanted": rounds,
        "contenders": {r.process.contender.name: {"steps": r.steps, **r.facts} for r in ready}, "rounds": played,
    }  # fmt: skip


def circumstances() -> dict[str, Any]:
    """When, on which machine, with which software, how loaded."""
    found = versions()
    for package in PEERS:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return {
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"), "machine": machine(),
        "versions": found, "commit": git_state(Path(__file__).parent)[0][:12], "load": os.getloadavg()[0],
    }  # fmt: skip


@functools.cache
def machine() -> dict[str, Any]:
    """The processor, cores and memory; and the accelerator, asked in a process of its own, which gives it back."""
    ask = "import json; from research.system.provenance import hardware; print(json.dumps(hardware()))"
    environment = {**os.environ, "JAX_NUM_CPU_DEVICES": "1"}
    told = subprocess.run([sys.executable, "-c", ask], env=environment, capture_output=True, text=True, check=True)
    return {**json.loads(told.stdout.strip().split("\n")[-1]), "system": platform.platform()}


def store(line: Mapping[str, Any], *, folder=RESULTS) -> Path:
    """Appends a line to the results of its kind of machine, and gives their file."""
    place = line["machine"]
    kind = place["processor"] if place["device"] == "cpu" else place["device"]
    slug = "-".join("".join(c if c.isalnum() else " " for c in f"{kind} x{place['cores']}").lower().split())
    path = Path(folder, f"{slug}.jsonl")
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
    return path
