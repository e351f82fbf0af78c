"""Random weights for the models of other libraries, by a rule that a test can repeat.

A stored case needs the names and shapes of the arrays on disk, and a seed, but no weights. `RandomState` has a frozen
stream of numbers.
"""

import json
import tempfile
from pathlib import Path

import numpy as np


def drawn(shapes: dict[str, list[int]], *, seed: int) -> dict[str, np.ndarray]:
    """Return arrays that keep signals of order 1: {name: array} for {name: shape}, in order of the names.

    They are f32, except for the counters of BatchNorm, which are 0.
    """
    rng, arrays = np.random.RandomState(seed), {}
    for name in sorted(shapes):
        if name.endswith("num_batches_tracked"):
            arrays[name] = np.zeros((), np.int64)
            continue
        x = np.asarray(rng.standard_normal(shapes[name]))
        if x.ndim > 1:
            x = x / np.sqrt(np.prod(x.shape[1:]))
        elif name.endswith(("weight", "running_var")):  # of a normalisation
            x = 1 + 0.2 * np.abs(x)
        else:
            x = 0.15 * x
        arrays[name] = x.astype(np.float32)
    return arrays


def as_text(value) -> np.ndarray:
    """Store a JSON value as bytes in an array."""
    return np.frombuffer(json.dumps(value, sort_keys=True).encode(), np.uint8)


def from_text(array: np.ndarray):
    """Return the JSON value of an array that `as_text` made."""
    return json.loads(array.tobytes())


def saved(model) -> tuple[dict[str, list[int]], dict]:
    """Return {name: shape} of the arrays, and the config, that a model of transformers writes to disk."""
    from safetensors.numpy import load_file

    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        arrays = load_file(Path(folder) / "model.safetensors")
        config = json.loads((Path(folder) / "config.json").read_text())
    return {name: list(x.shape) for name, x in arrays.items()}, config


def reloaded(model, arrays: dict[str, np.ndarray]):
    """Return the model of transformers, in evaluation mode, with arrays by their names on disk."""
    from safetensors.numpy import save_file

    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        save_file(arrays, Path(folder) / "model.safetensors", metadata={"format": "pt"})
        model, report = type(model).from_pretrained(folder, output_loading_info=True, attn_implementation="eager")
    assert not any(report.values()), report
    return model.eval()


def import_torchvision():
    """Import torchvision beside a PyTorch for CPUs, for which its compiled operators do not load."""
    import torch

    library = torch.library.Library("torchvision", "FRAGMENT")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    import torchvision

    return torchvision, library  # the operators exist as long as the library does
