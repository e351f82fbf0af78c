"""What one device executes in a compiled program: FLOPs, bytes of main memory and bytes sent, from the text of its HLO.

XLA's own analysis counts the body of a loop once. Here it counts as often as it runs.
"""

import functools
import math
import re
from collections.abc import Mapping
from typing import NamedTuple

COLLECTIVES = ("all-gather", "all-reduce", "all-to-all", "collective-permute", "reduce-scatter")
# Instructions that move no data in main memory, or whose parts are counted by themselves.
FREE = re.compile(
    r"parameter|constant|tuple|get-tuple-element|bitcast.*|while|call|conditional|after-all|iota|partition-id|"
    r"replica-id|optimization-barrier|.*-done|async-.*|add-dependency|domain|opt-barrier"
)
SLICES = ("dynamic-slice", "slice", "gather")  # they read the bytes of their result only
ALIASES = ("bitcast", "copy", "convert", "reshape", "transpose")
INSTRUCTION = re.compile(r"^\s*(ROOT )?%?([\w.-]+) = (.*?) ([a-z][\w-]*)\((.*)$")
COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.-]+) \(.*\{$")
ARRAY = re.compile(r"([a-z]\w*)\[([\d,]*)\](?:\{([^}]*)\})?")


class Transfer(NamedTuple):
    """The collectives of one kind in a step: their `number`, and the `bytes` that each device sends."""

    number: int
    bytes: float


class Executed(NamedTuple):
    """What one device executes in a step.

    `flops`: 2 x the multiplications of matrix products and convolutions, those that the partitioner repeats on several
    devices included. `bytes`: read from and written to main memory (HBM) by instructions and fusions, each operand
    once. `transfers`: {kind of collective: Transfer}, by ring algorithms.
    """

    flops: float
    bytes: float
    transfers: Mapping[str, Transfer]


class Instruction(NamedTuple):
    """A line of HLO."""

    name: str
    type: str
    op: str
    operands: tuple[str, ...]
    rest: str
    root: bool


def executed(text: str, *, devices: int) -> Executed:
    """Count what a device executes, from `compiled.as_text()` of a program for a number of devices.

    The body of a loop counts as often as it runs, or once if that number is unknown; all branches of a conditional
    count. A device sends s (g-1)/g bytes for a reduce-scatter or all-to-all of s bytes over g devices, twice that for
    an all-reduce, s (g-1) for an all-gather of parts of s bytes, and s for a permute (Thakur et al. 2005, section 4).
    """
    program, entry = _parsed(text)
    flops = bytes_ = 0.0
    transfers: dict[str, Transfer] = {}
    todo = [(entry, 1, False)]
    while todo:
        name, times, fused = todo.pop()
        computation = program[name]
        for found in computation.values():
            kind = found.op.removesuffix("-start")
            if kind in COLLECTIVES:
                size = sum(_bytes(computation[x].type) for x in found.operands)
                count, total = transfers.get(kind, (0, 0.0))
                sent = _sent(kind, size, _group(found.rest, devices))
                transfers[kind] = Transfer(count + times, total + times * sent)
            flops += times * _flops(found, computation)
            if not fused and not FREE.fullmatch(found.op):
                bytes_ += times * _traffic(found, computation, program)
            for called, count in _called(found, program):
                todo.append((called, times * count, fused or found.op == "fusion"))
    return Executed(flops, bytes_, transfers)


def _parsed(text):
    """({computation: {name: Instruction}}, the name of the entry)."""
    program, entry, current = {}, "", {}
    for line in text.splitlines():
        if head := COMPUTATION.match(line):
            current = program[head[2]] = {}
            entry = head[2] if head[1] else entry
        elif found := INSTRUCTION.match(line):
            root, name, kind, op, rest = found.groups()
            inputs, _, attributes = rest.partition(")")
            number = (inputs,) if op in ("parameter", "constant") else tuple(re.findall(r"%([\w.-]+)", inputs))
            current[name] = Instruction(name, kind, op, number, attributes, bool(root))
    return program, entry


def _arrays(kind):
    """[(bytes, shape, whether it is in main memory)] of a type; the memory spaces above 0 are on the chip."""
    found = []
    for name, shape, layout in ARRAY.findall(kind):
        bits = 8 if name == "pred" else int((re.findall(r"\d+", name) or [0])[0])
        shape = [int(x) for x in shape.split(",") if x]
        found.append((math.prod(shape) * bits / 8, shape, not re.search(r"S\([1-9]", layout)))
    return found


def _bytes(kind, *, memory=False):
    return sum(size for size, _, main in _arrays(kind) if main or not memory)


def _called(found, program):
    """[(computation, how often it runs)] that an instruction calls."""
    if found.op == "while":
        return [
            (re.search(rf"{part}=%?([\w.-]+)", found.rest)[1], _trips(found, program)) for part in ("body", "condition")
        ]
    if found.op == "call":
        return [(re.search(r"to_apply=%?([\w.-]+)", found.rest)[1], 1)]
    if found.op in ("fusion", "async-start"):
        return [(re.search(r"calls=%?([\w.-]+)", found.rest)[1], 1)]
    if found.op == "conditional":
        names = re.search(r"branch_computations=\{([^}]*)\}", found.rest)
        names = re.findall(r"[\w.-]+", names[1]) if names else re.findall(r"_computation=%?([\w.-]+)", found.rest)
        return [(name, 1) for name in names]
    return []


def _trips(loop, program) -> int:
    """How often the body of a loop runs: the compiler's note, or the constant that the condition compares with."""
    if known := re.search(r'known_trip_count":\{"n":"(\d+)"', loop.rest):
        return int(known[1])
    body, condition = (program[re.search(rf"{part}=%?([\w.-]+)", loop.rest)[1]] for part in ("body", "condition"))
    test = next(x for x in condition.values() if x.root)
    if test.op != "compare" or "direction=LT" not in test.rest:
        return 1
    counter, limit = (condition[name] for name in test.operands)
    index = re.search(r"index=(\d+)", counter.rest)
    if limit.op != "constant" or not index:
        return 1
    # A loop of a collective product may be unrolled: its counter then increases by more than 1.
    last = next(x for x in body.values() if x.root).operands[int(index[1])]
    added = [body[name] for name in body[last].operands if name in body and body[name].op == "constant"]
    return math.ceil(int(limit.operands[0]) / int(added[0].operands[0])) if added else 1


def _flops(found, computation) -> float:
    if found.op not in ("dot", "convolution"):
        return 0.0
    (_, output, _), *_ = _arrays(found.type)
    left, right = (_arrays(computation[name].type)[0][1] for name in found.operands)
    if found.op == "dot":
        contracted = re.search(r"lhs_contracting_dims=\{([\d,]*)\}", found.rest)[1]
        return 2.0 * math.prod(output) * math.prod(left[int(d)] for d in contracted.split(",") if d)
    labels = re.search(r"dim_labels=(\w+)_(\w+)->(\w+)", found.rest)
    window = dict(re.findall(r"(\w+)=([\dx_-]+)", (re.search(r"window=\{([^}]*)\}", found.rest) or ["", ""])[1]))
    products = 2.0 * right[labels[2].index("i")]
    for letter in "bf":
        products *= output[labels[3].index(letter)]
    for d in range(len(output) - 2):
        part = lambda key, default, d=d: window.get(key, "x".join([default] * (len(output) - 2))).split("x")[d]
        sizes = left[labels[1].index(str(d))], right[labels[2].index(str(d))], output[labels[3].index(str(d))]
        stride, base, dilation = (int(part(key, "1")) for key in ("stride", "lhs_dilate", "rhs_dilate"))
        products *= _taps(*sizes, stride, base, dilation, int(part("pad", "0_0").split("_")[0]))
    return products


@functools.cache
def _taps(size, kernel, output, stride, base, dilation, pad) -> int:
    """How many products of a kernel entry and an input entry a convolution has in one dimension, without padding."""
    places = [o * stride + k * dilation - pad for o in range(output) for k in range(kernel)]
    return sum(place % base == 0 and 0 <= place // base < size for place in places)


def _traffic(found, computation, program) -> float:
    """Bytes that an instruction reads from and writes to main memory."""
    size = lambda name: _bytes(computation[name].type, memory=True)
    if found.op in SLICES:
        return 2 * _bytes(found.type, memory=True)
    if found.op == "dynamic-update-slice":
        return 2 * size(found.operands[1])
    if found.op in ("copy-start", "slice-start"):  # its result lists the copy, then the original
        return sum(size for size, _, main in _arrays(found.type)[:2] if main)
    if found.op != "fusion":
        return _bytes(found.type, memory=True) + sum(map(size, found.operands))
    inner = program[re.search(r"calls=%?([\w.-]+)", found.rest)[1]]
    return _written(found, inner) + _read(found, inner, size)


def _source(name, inner):
    """The instruction behind those that only rename or convert an array."""
    while inner[name].op in ALIASES:
        name = inner[name].operands[0]
    return inner[name]


def _written(found, inner) -> float:
    """Bytes that a fusion writes: of an array that it updates in place, the update only."""
    root = next(x for x in inner.values() if x.root)
    total = 0.0
    parts = root.operands if root.op == "tuple" else (root.name,)
    for part, (size, _, main) in zip(parts, _arrays(found.type), strict=False):
        last = _source(part, inner)
        size = _bytes(inner[last.operands[1]].type) if last.op == "dynamic-update-slice" else size
        total += size if main else 0
    return total


def _read(found, inner, size) -> float:
    """Bytes that a fusion reads: of an array that it only slices, the slices; of one that it updates, none."""
    users: dict[str, list] = {}
    for x in inner.values():
        for name in x.operands if x.op != "parameter" else ():
            users.setdefault(name, []).append(x)

    def needed(name, entire):
        total = 0.0
        for user in users.get(name, []):
            if user.op in ALIASES:
                total += needed(user.name, entire)
            elif user.op in SLICES and user.operands[0] == name:
                total += _bytes(user.type)
            elif user.op != "dynamic-update-slice" or user.operands[0] != name:
                return entire
        return min(total, entire)

    parameters = {int(x.operands[0]): x.name for x in inner.values() if x.op == "parameter"}
    return sum(needed(parameters[i], size(name)) for i, name in enumerate(found.operands) if size(name))


def _group(rest, devices) -> int:
    """The number of devices that take part in a collective together."""
    if mesh := re.search(r"replica_groups=mesh\[([^\]]*)\][^{]*\{([^}]*)\}", rest):
        sizes = dict(re.findall(r"'(\w+)'=(\d+)", mesh[1]))
        axes = re.findall(r"'(\w+)'(?::\(\d+\)(\d+))?", mesh[2])
        return math.prod(int(part or sizes[axis]) for axis, part in axes)
    if table := re.search(r"replica_groups=\[\d+,(\d+)\]<=", rest):
        return int(table[1])
    if listed := re.search(r"replica_groups=\{\{([\d,]*)\}", rest):
        return len(listed[1].split(","))
    return devices


def _sent(kind, size, group) -> float:
    share = (group - 1) / group
    factor = {"all-reduce": 2 * share, "all-gather": group - 1, "collective-permute": 1}.get(kind, share)
    return size * factor
