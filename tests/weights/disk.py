"""Checkpoints of other libraries on disk, for tests: written without the code under test."""

import json
import struct

import jax
import numpy as np

from research.core import Trained
from research.weights.export import export
from research.weights.folders import read_checkpoint, read_config
from research.weights.load import weights
from tests.truth import load
from tests.truth._checkpoint import drawn, from_text


def safetensors(file, arrays, *, header=None):
    """Write arrays, in this order; `header` changes entries of the header."""
    entries, offset = {}, 0
    names = {"float32": "F32", "float16": "F16", "bfloat16": "BF16", "float64": "F64", "int64": "I64", "uint8": "U8"}
    for name, x in arrays.items():
        end = offset + x.nbytes
        kind = names.get(x.dtype.name, "F8_E4M3")
        entries[name] = {"dtype": kind, "shape": list(x.shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps({**entries, **(header or {})}).encode()
    file.write_bytes(
        struct.pack("<Q", len(text)) + text + b"".join(np.ascontiguousarray(x).tobytes() for x in arrays.values())
    )
    return file


def shapes(model):
    """The shapes of a model's params and stats."""
    return jax.eval_shape(model.init, jax.random.key(0))


def arrays_in(folder):
    """All arrays of a checkpoint, read by the code under test."""
    return {name: np.asarray(stored.map()) for name, stored in read_checkpoint(folder).items()}


class Case:
    """A stored case of another library: its checkpoint with random weights in a folder, and its outputs.

    `part` is the first part of the case's keys in a file of several cases, such as "vit/".
    """

    def __init__(self, name, folder, *, part=""):
        self.truth = {key.removeprefix(part): x for key, x in load(name).items()}
        self.config = from_text(self.truth["config"])
        self.arrays = drawn(from_text(self.truth["shapes"]), seed=int(self.truth["seed"]))
        self.folder = folder
        safetensors(folder / "model.safetensors", self.arrays)
        (folder / "config.json").write_text(json.dumps(self.config))

    def loaded(self, model, layout, **options) -> Trained:
        """The model with the weights of the checkpoint."""
        params, stats = weights(self.folder, layout, tell=lambda text: None, **options)(*shapes(model))
        return Trained(model.apply, params, stats)

    def check_round_trip(self, trained, layout):
        """Export what was imported: the same names, shapes and bytes. Return the config, if any."""
        folder = export(trained, layout, folder=self.folder / "out")
        written = arrays_in(folder)
        assert {name: x.shape for name, x in written.items()} == {name: x.shape for name, x in self.arrays.items()}
        for name, x in self.arrays.items():
            assert written[name].tobytes() == x.tobytes(), name
        return read_config(folder) if layout.config else {}
