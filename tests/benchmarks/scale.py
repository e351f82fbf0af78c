"""Predicted scale: GPTs on TPU slices that are not there, compiled ahead of time; and small ones on CPU devices, timed.

    python -m tests.benchmarks.scale            compile what results/scale/ lacks, the small slices first (hours)
    python -m tests.benchmarks.scale --largest  and search for the largest batches (many compilations each)
    python -m tests.benchmarks.scale --cpu      predict and time the small GPT on 1, 2 and 4 CPU devices (minutes)
    python -m tests.benchmarks.scale --page     write SCALE.md from the stored lines

Needs the TPU compiler: pip install -e '.[tpu]'. Each row is stored when it is known; a stopped run goes on with the
next one. What cannot be compiled is stored with the reason.
"""

import argparse
import datetime
import functools
import importlib.metadata
import json
import os
import statistics
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("JAX_NUM_CPU_DEVICES", "4")  # before JAX starts
# As the command line does: with fewer threads, devices wait at a collective for one that has none.
os.environ.setdefault("NPROC", str(4 * int(os.environ["JAX_NUM_CPU_DEVICES"])))

import jax
import jax.numpy as jnp
import numpy as np
import optax

from research.data import generated
from research.diagnose.advice import largest_batch
from research.diagnose.cost import plan, topology_devices
from research.diagnose.hlo import Executed, Transfer
from research.diagnose.roofline import CHIPS, Chip, roofline
from research.distributed.sharding import place
from research.errors import UserError
from research.experiment import Experiment, build
from research.layers.stack import Stack
from research.model import from_nnx
from research.models.gpt import GPT, rules
from research.objectives.language import language
from research.optim.decay import decay_mask
from research.system.provenance import hardware, versions
from research.wrappers.mixed_precision import mixed_precision

RESULTS = Path(__file__).parent / "results" / "scale"
PAGE = Path(__file__).parent / "SCALE.md"
# Less effort for speed makes the TPU compiler four times as fast; FLOPs are the same, memory is about 3 % more.
EFFORT = {"exec_time_optimization_effort": -1.0}


class Size(NamedTuple):
    """The sizes of a GPT."""

    width: int
    depth: int
    heads: int
    length: int = 2048
    vocabulary: int = 50_304  # that of GPT-2, rounded up to a multiple of 128

    @property
    def flops(self) -> float:
        """FLOPs per token of a forward and backward pass: 6 per weight of a product, and the attention's.

        Chowdhery et al. 2022 (PaLM), appendix B, with the output layer.
        """
        weights = 12 * self.depth * self.width**2 + self.vocabulary * self.width
        return 6 * weights + 12 * self.depth * self.width * self.length


# GPT-3 (Brown et al. 2020, table 2.1), with heads of 64 or 128 units.
SIZES = {"350M": Size(1024, 24, 16), "1.3B": Size(2048, 24, 16), "7B": Size(4096, 32, 32)}
SMALL, SMALL_ROWS = Size(width=256, depth=4, heads=4, length=128, vocabulary=1024), 8
SLICES = {
    "v5e": {8: "2x4", 64: "8x8", 256: "16x16"},
    "v5p": {8: "2x2x2", 64: "4x4x4", 256: "4x8x8"},
}
KINDS = {"v5e": "TPU v5 lite", "v5p": "TPU v5"}
ROWS = {"v5e": 2, "v5p": 8}  # of a batch, per chip; where they do not fit, 1
STRATEGIES = ("data", "fsdp", "tensor", "pipeline")
GROUP = 8  # chips over which "tensor" and "pipeline" split a model; data-parallel replicas use the rest


def mesh_of(strategy: str, devices: int) -> dict[str, int]:
    """The mesh of a strategy."""
    if strategy in ("data", "fsdp"):
        return {strategy: devices}
    group = min(GROUP, devices)
    return {strategy: group, "data": devices // group}


def experiment(size: Size, *, strategy: str, devices: int, rows: int, dtype=jnp.bfloat16) -> Experiment:
    """A GPT with weights in f32, recomputed layer by layer, trained by AdamW on `rows` rows per device.

    A pipeline has one row per microbatch and replica.
    """
    mesh = mesh_of(strategy, devices)
    parts = rows * mesh["pipeline"] if strategy == "pipeline" else None
    stack = functools.partial(Stack, microbatches=parts, remat="nothing_saveable")
    model = mixed_precision(from_nnx(lambda rngs: GPT(**size._asdict(), stack=stack, rngs=rngs)), dtype)
    ones = np.ones((rows * devices, size.length), np.int32)
    batch = {"tokens": ones, "segments": ones, "positions": np.cumsum(ones, 1) - 1}
    return Experiment(
        init=model.init, apply=model.apply, loss=language(model),
        source=generated(lambda seed: lambda step: batch, len(ones)), steps=1000, mesh=mesh, rules=rules(),
        optimizer=optax.adamw(3e-4, weight_decay=0.1, mask=decay_mask()),
    )  # fmt: skip


def predicted(size: str, chip: str, devices: int, strategy: str) -> dict[str, Any]:
    """The line of a row: its cost, or the reason why there is none."""
    slice_ = topology_devices(f"{chip}:{SLICES[chip][devices]}")
    for rows in dict.fromkeys((ROWS[chip], 1)):
        try:
            built = build(experiment(SIZES[size], strategy=strategy, devices=devices, rows=rows), devices=slice_)
            cost = plan(built, options=EFFORT)
        except UserError as error:
            outcome = {"reason": str(error)}
        else:
            outcome = {"parameters": cost.parameters, "flops": cost.flops, "bytes": dict(cost.bytes),
                       "executed": cost.executed._asdict()}  # fmt: skip
            break
    return {"size": size, "chip": chip, "devices": devices, "strategy": strategy, "rows": rows, **outcome}


def largest(line: Mapping[str, Any]) -> int:
    """The rows of the largest batch that fits, by compiling."""
    chip, devices = line["chip"], line["devices"]
    built = build(
        experiment(SIZES[line["size"]], strategy=line["strategy"], devices=devices, rows=1),
        devices=topology_devices(f"{chip}:{SLICES[chip][devices]}"),
    )
    return largest_batch(built, options=EFFORT)


def measured(rounds: int = 5) -> list[dict[str, Any]]:
    """Lines of the small GPT in f32 on 1, 2 and 4 CPU devices, with its roofline and its time.

    In each round, every mesh takes two steps, of which the second is timed; and the limits of the machine are measured:
    a product of matrices, and an addition to a large array. Devices share them. Sending is reading and writing.
    """
    runs = {}
    for devices in (1, 2, 4):
        for strategy in STRATEGIES if devices > 1 else STRATEGIES[:1]:
            made = experiment(SMALL, strategy=strategy, devices=devices, rows=SMALL_ROWS // devices, dtype=jnp.float32)
            built = build(made, devices=jax.devices()[:devices])
            batch = place(built.source(0)(0), built.mesh)
            runs[devices, strategy] = [plan(built), built.step, built.fresh(), built.fresh_sums(), batch]
    large, long = jnp.ones((2048, 2048)), jnp.ones(2**26)
    product, add = jax.jit(jnp.matmul), jax.jit(lambda x: x + 1, donate_argnums=0)  # in place: no new pages
    times: dict[Any, list] = {key: [] for key in runs}
    limits = []
    for _ in range(rounds):
        seconds = {"product": [], "add": []}
        for _ in range(4):  # the first warms up
            began = time.perf_counter()
            jax.block_until_ready(product(large, large))
            middle = time.perf_counter()
            long = jax.block_until_ready(add(long))
            seconds["product"].append(middle - began)
            seconds["add"].append(time.perf_counter() - middle)
        took = {name: statistics.median(found[1:]) for name, found in seconds.items()}
        limits.append((2 * 2048**3 / took["product"], 2 * long.nbytes / took["add"]))
        for key, run in runs.items():
            for _ in range(2):
                began = time.perf_counter()
                run[2], run[3] = jax.block_until_ready(run[1](run[2], run[3], run[4]))
            times[key].append(time.perf_counter() - began)
    lines, load = [], os.getloadavg()[0]
    for (devices, strategy), (cost, *_) in runs.items():
        found = [roofline(cost.executed, Chip(f / devices, 0, b / devices, b / 2 / devices)) for f, b in limits]
        lines.append({
            "devices": devices, "strategy": strategy, "rows": SMALL_ROWS // devices,
            "executed": cost.executed._asdict(), "bytes": dict(cost.bytes), "load": load, "limits": limits,
            "seconds": times[devices, strategy], "roofline": found,
        })  # fmt: skip
    return lines


def read(path: Path) -> list[dict[str, Any]]:
    """The lines of a file; none if there is no file."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def page(tpu: list[Mapping[str, Any]], cpu: list[Mapping[str, Any]]) -> str:
    """SCALE.md."""
    names = ("python", "jax", "jaxlib", "flax", "optax", "libtpu")
    newest = {k: v for line in sorted([*tpu, *cpu], key=lambda x: x["time"]) for k, v in line["versions"].items()}
    software = ", ".join(f"{name} {newest[name]}" for name in names if name in newest)
    head = [
        "# Predicted scale",
        "Made by `python -m tests.benchmarks.scale --page`; do not edit. The other commands, the models and the meshes "
        f"are in `tests/benchmarks/scale.py`. {software}.",
        ABOUT,
    ]
    found = {(x["size"], x["chip"], x["devices"], x["strategy"]): x for x in tpu}
    head.append(f"{len(found)} of {sum(map(len, SLICES.values())) * len(SIZES) * len(STRATEGIES)} rows are computed.")
    for chip, slices in SLICES.items():
        limits = CHIPS[KINDS[chip]]
        for devices, shape in slices.items():
            head.append(
                f"## {devices} x {chip} ({shape}; {limits.flops / 1e12:.0f} TFLOP/s, {limits.memory / 2**30:.0f} GiB, "
                f"{limits.bandwidth / 1e9:,.0f} GB/s, network {limits.network / 1e9:.0f} GB/s)"
            )
            rows = [_row(found.get((size, chip, devices, s)), size, s, chip) for size in SIZES for s in STRATEGIES]
            known = any(where[1:3] == (chip, devices) for where in found)
            head.append("\n".join([HEAD, *rows]) if known else "No row is computed.")
    return "\n\n".join([*head, *_cpu_part(cpu)]) + "\n"


ABOUT = """\
Each row is compiled by the TPU's own compiler for a slice that is not there. GPTs of 2,048 tokens a row in bfloat16, \
weights and the moments of AdamW in f32, each layer recomputed in the backward pass. *tensor* and *pipeline* split the \
model over 8 chips, the rest are data-parallel replicas; the pipeline has a microbatch of one row per replica.

*GiB*: memory per chip of the compiled step. *TFLOP*: executed by a chip in a step, with recomputation, the idle ticks \
of a pipeline and what several chips repeat. *sent*: MB that a chip sends in a step, by kind of collective; the TPU's \
compiler turns many gathers and scatters of FSDP into permutes that overlap with products. *compute, memory, network*: \
the least milliseconds of a step by each; the longest, in bold, is the roofline. *MFU*: the FLOPs of the model (6 per \
weight and token and those of attention, nothing recomputed) by the peak, at the roofline. *largest batch*: rows of a \
batch over all chips, found by compiling: the next multiple does not fit; empty where it was not searched for.

Main memory limits most rows, and most of its traffic is the scores of attention, which `layers.attention.attention` \
writes and reads in f32: an `attend=` that keeps them on the chip (Dao et al. 2022, FlashAttention) would be the first \
step. The roofline is a bound: no row says that a step reaches it. The error of this prediction is known for CPU \
devices at most: see the end."""
HEAD = (
    "| GPT | strategy | rows per chip | GiB | TFLOP | sent, MB | compute | memory | network | MFU | "
    "largest batch |\n|---|---|--:|--:|--:|---|--:|--:|--:|--:|--:|"
)


def _row(line, size, strategy, chip) -> str:
    if line is None:
        return f"| {size} | {strategy} | | not computed | | | | | | | |"
    if "reason" in line:
        return f"| {size} | {strategy} | {line['rows']} | {line['reason']} | | | | | | | |"
    counted, limits = executed_of(line), CHIPS[KINDS[chip]]
    bound = roofline(counted, limits)
    times = [f"**{_ms(x)}**" if x == bound.seconds else _ms(x) for x in bound]
    mfu = SIZES[size].flops * SIZES[size].length * line["rows"] / limits.flops / bound.seconds
    return (
        f"| {size} | {strategy} | {line['rows']} | {line['bytes']['total'] / 2**30:.1f} | {counted.flops / 1e12:.2f} | "
        f"{_sent(counted)} | {' | '.join(times)} | {mfu:.0%} | {line.get('largest', '')} |"
    )


def executed_of(line: Mapping[str, Any]) -> Executed:
    """The Executed of a stored line."""
    stored = line["executed"]
    return Executed(stored["flops"], stored["bytes"], {k: Transfer(*x) for k, x in stored["transfers"].items()})


def _sent(counted):
    parts = {name: transfer.bytes / 1e6 for name, transfer in counted.transfers.items() if transfer.bytes >= 5e4}
    return ", ".join(f"{name} {size:,.1f}" for name, size in parts.items()) or "0"


def _ms(seconds):
    return f"{1e3 * seconds:,.1f}"


def _cpu_part(lines):
    """The table of CPU devices."""
    title = "## CPU devices, predicted and measured"
    if not lines:
        return [title, "Not measured: `python -m tests.benchmarks.scale --cpu`, on a machine without other work."]
    place = lines[0]["machine"]
    rows = []
    for line in lines:
        counted, seconds = executed_of(line), statistics.median(line["seconds"])
        bounds = [max(x) for x in line["roofline"]]
        serial = [sum(x) for x in line["roofline"]]
        error = statistics.median(p / s for p, s in zip(bounds, line["seconds"], strict=True))
        low, _, high = statistics.quantiles(line["seconds"], n=4, method="inclusive")
        rows.append(
            f"| {line['devices']} | {line['strategy']} | {line['bytes']['total'] / 2**20:.0f} | "
            f"{counted.flops / 1e9:.1f} | {_sent(counted)} | {_ms(statistics.median(bounds))} | "
            f"{_ms(statistics.median(serial))} | {_ms(seconds)} ({_ms(low)} - {_ms(high)}) | {error:.2f} |"
        )
    return [
        title,
        f"{place['processor']}, {place['cores']} cores. A GPT of {SMALL.depth} layers of {SMALL.width} units in f32 on "
        f"{SMALL_ROWS} rows of {SMALL.length} tokens. The devices share the cores, so the roofline has a share of the "
        "machine's limits, measured in the same rounds: a matrix product of 2,048 x 2,048, and an addition to 256 MiB "
        "in place. *serial*: compute, memory and network one after the other. *error*: roofline by measured time, the "
        "median of the rounds; above 1 where caches serve what counts as main memory. The load average was "
        f"{lines[0]['load']:.1f}: other processes took most of the cores if it is far above {place['cores']}.",
        "\n".join([
            "| devices | strategy | MiB per device | GFLOP | sent, MB | roofline, ms | serial, ms | measured, ms "
            "(quartiles) | error |\n|--:|---|--:|--:|---|--:|--:|--:|--:|",
            *rows,
        ]),
    ]  # fmt: skip


def main(arguments) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.scale", description=__doc__.split("\n")[0])
    for flag in ("--cpu", "--largest", "--page"):
        parser.add_argument(flag, action="store_true")
    options = parser.parse_args(arguments)
    jax.config.update("jax_enable_compilation_cache", False)  # a program for devices that are not there cannot be read
    tpu, cpu = RESULTS / "tpu.jsonl", RESULTS / "cpu.jsonl"
    tpu.parent.mkdir(parents=True, exist_ok=True)
    if options.cpu:
        about = {**_about(), "machine": hardware()}
        cpu.write_text("".join(json.dumps({**about, **line}) + "\n" for line in measured()))
    elif not options.page:
        table(tpu, search=options.largest)
    PAGE.write_text(page(read(tpu), read(cpu)))
    return 0


def table(path: Path, *, search: bool):
    """Compute the rows that a file lacks and add them; with `search`, their largest batches too."""
    key = lambda line: (line["devices"], line["size"], line["chip"], line["strategy"])
    found = {key(line): line for line in read(path)}
    chips = [(devices, chip) for devices in SLICES["v5e"] for chip in SLICES]
    for wanted in [(devices, size, chip, s) for devices, chip in chips for size in SIZES for s in STRATEGIES]:
        devices, size, chip, strategy = wanted
        if wanted not in found:
            found[wanted] = {**_about(), **predicted(size, chip, devices, strategy)}
        elif not search or "reason" in found[wanted] or "largest" in found[wanted]:
            continue
        if search and "reason" not in found[wanted]:
            found[wanted]["largest"] = largest(found[wanted])
        path.write_text("".join(json.dumps(line) + "\n" for line in found.values()))
        print(*wanted, found[wanted].get("reason", ""), found[wanted].get("largest", ""), flush=True)


def _about() -> dict[str, Any]:
    time_ = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    try:
        compiler = {"libtpu": importlib.metadata.version("libtpu")}
    except importlib.metadata.PackageNotFoundError:
        compiler = {}
    return {"time": time_, "versions": {**versions(), **compiler}}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
