"""The work that contenders do, in numpy: sizes, one fixed batch, the optimizer's numbers. No framework is named."""

import math
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np

from research.errors import UserError, unknown


class Work(NamedTuple):
    """One piece of work: its `sizes` by name, the optimizer's name and learning rate, and the `batch` {"x", "y"}."""

    name: str
    kind: str
    sizes: SimpleNamespace
    optimizer: str
    learning_rate: float
    batch: Mapping[str, np.ndarray]


ADAM = {"b1": 0.9, "b2": 0.999, "eps": 1e-8}  # of adam and adamw, in every framework
WEIGHT_DECAY = 1e-2  # of adamw, on every parameter
MOMENTUM = 0.9  # of sgd

# name: (full sizes, what is smaller in a quick run, optimizer, learning rate). All in f32.
TRAINING: dict[str, tuple[dict[str, int], dict[str, int], str, float]] = {
    "mlp": (dict(batch=128, features=784, width=512, classes=10), dict(batch=8, features=20, width=16), "adam", 1e-3),
    "vit": (
        dict(batch=64, size=32, patch=4, width=192, depth=12, heads=3, classes=10),
        dict(batch=4, size=8, width=8, depth=1, heads=2),
        "adamw", 3e-4,
    ),
    "gpt": (
        dict(batch=8, length=256, width=384, depth=6, heads=6, vocabulary=8192),
        dict(batch=2, length=16, width=16, depth=1, heads=2, vocabulary=64),
        "adamw", 3e-4,
    ),
    "lstm": (
        dict(batch=64, length=128, width=256, depth=2, vocabulary=256),
        dict(batch=4, length=8, width=8, vocabulary=16),
        "adamw", 1e-3,
    ),
    "resnet": (
        dict(batch=64, size=32, width=64, stages=4, classes=10),
        dict(batch=4, size=8, width=4, stages=2),
        "sgd", 0.02,
    ),
}  # fmt: skip
# Next to no arithmetic: what remains is what a step costs besides it. As many leaves as an MLP and a ViT-Ti have.
DISPATCH = {
    "dispatch-6": (dict(batch=1, leaves=6), {}, "adam", 1e-3),
    "dispatch-152": (dict(batch=1, leaves=152), {}, "adamw", 1e-3),
}
# A step of these is one batch of images, one pass over a set, one checkpoint, one fresh process, one whole training,
# the continuation of a prompt to the full length, one fit of a preparation, its application to all rows.
OTHERS = {
    "input": (dict(batch=128, images=50_000, size=32, padding=4), dict(batch=8, images=64), "", 0),
    "evaluation": (dict(batch=500, batches=20, features=784, width=512, classes=10), dict(batch=8, batches=3), "", 0),
    "save": (dict(arrays=200, megabytes=200), dict(arrays=4, megabytes=1), "", 0),
    "restore": (dict(arrays=200, megabytes=200), dict(arrays=4, megabytes=1), "", 0),
    "startup-cold": (TRAINING["mlp"][0], TRAINING["mlp"][1], "", 0),
    "startup-warm": (TRAINING["mlp"][0], TRAINING["mlp"][1], "", 0),
    "help": ({}, {}, "", 0),
    "speedrun": ({}, {}, "", 0),
    "generate": (
        dict(batch=1, prompt=64, length=192, width=384, depth=6, heads=6, vocabulary=8192),
        dict(prompt=4, length=8, width=16, depth=1, heads=2, vocabulary=64), "", 0,
    ),
    "prepare-fit": (dict(rows=1_000_000, columns=20), dict(rows=500), "", 0),
    "prepare-apply": (dict(rows=1_000_000, columns=20), dict(rows=500), "", 0),
}  # fmt: skip
ALL = {**TRAINING, **DISPATCH, **OTHERS}
SCALING = (
    *(f"mlp@batch={n}" for n in (16, 1024)), *(f"mlp@devices={n}" for n in (2, 4)),
    *(f"vit@batch={n}" for n in (4, 16)), *(f"vit@depth={n}" for n in (3, 6)), "vit@devices=2",
)  # fmt: skip


def work(spec: str, *, quick: bool = False) -> Work:
    """The work that `spec` names: `vit`, or with other sizes, `vit@batch=16,depth=3`; `devices` splits the batch.

    Raises UserError for an unknown work or size.
    """
    name, _, changes = spec.partition("@")
    if name not in ALL:
        raise unknown("work", name, ALL)
    full, smaller, optimizer, learning_rate = ALL[name]
    sizes = {"devices": 1, **full, **(smaller if quick else {})}
    for change in filter(None, changes.split(",")):
        key, _, value = change.partition("=")
        if key not in sizes:
            raise unknown(f"size of {name}", key, sizes)
        if not value.isdigit() or int(value) < 1:
            raise UserError(f"{spec!r}: expected {key}=NUMBER, at least 1.")
        sizes[key] = int(value)
    return Work(spec, name, SimpleNamespace(**sizes), optimizer, learning_rate, _batch(name, SimpleNamespace(**sizes)))


def _batch(name: str, s) -> dict[str, Any]:
    """Random numbers of the right form: the time of a step does not depend on what they say."""
    rng = np.random.default_rng(0)
    normal = lambda *shape: rng.normal(size=shape).astype(np.float32)
    if name == "mlp":
        x, y = normal(s.batch, s.features), rng.integers(s.classes, size=s.batch)
    elif name in ("vit", "resnet"):
        x = normal(s.batch, s.size, s.size, 3)
        y = rng.integers(s.classes, size=s.batch)
    elif name in ("gpt", "lstm"):
        text = rng.integers(s.vocabulary, size=(s.batch, s.length + 1))
        x, y = text[:, :-1].copy(), text[:, 1:].copy()
    elif name in DISPATCH:
        x, y = normal(1, 1), np.zeros(1, int)
    else:
        return {}
    return {"x": x.astype(np.int32) if x.dtype == np.int64 else x, "y": y.astype(np.int32)}


def parameters(work: Work) -> int:
    """How many parameters the architecture has, by hand: what every contender must come to."""
    s, kind = work.sizes, work.kind
    if kind == "mlp":
        return _linear(s.features, s.width) + _linear(s.width, s.width) + _linear(s.width, s.classes)
    if kind in DISPATCH:
        return s.leaves * 16
    if kind == "lstm":
        layer = _linear(s.width, 4 * s.width) + 4 * s.width**2
        return s.vocabulary * s.width + s.depth * layer + _linear(s.width, s.vocabulary)
    if kind == "resnet":
        return _resnet(s)
    w = s.width
    block = 4 * _linear(w, w) + _linear(w, 4 * w) + _linear(4 * w, w) + 4 * w
    if kind == "gpt":  # the output layer is the embedding's transpose
        return (s.vocabulary + s.length) * w + s.depth * block + 2 * w
    patches = math.prod([s.size // s.patch] * 2)
    return _linear(3 * s.patch**2, w) + patches * w + s.depth * block + 2 * w + _linear(w, s.classes)


def _linear(a: int, b: int) -> int:
    return a * b + b


def _resnet(s) -> int:
    """Convolutions of 3 x 3 without bias, each with a scale and a bias after it; 1 x 1 where the shape changes."""
    total, channels = 27 * s.width + 2 * s.width, s.width
    for stage in range(s.stages):
        inner = s.width * 2**stage
        total += 9 * channels * inner + 3 * 9 * inner * inner + 4 * 2 * inner
        total += (channels * inner + 2 * inner) if stage else 0
        channels = inner
    return total + _linear(channels, s.classes)
