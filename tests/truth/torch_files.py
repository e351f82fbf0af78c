"""Checkpoints that PyTorch and safetensors write, as bytes, with the values that they hold."""

import io
from collections import OrderedDict

import numpy as np

from tests.truth import FOLDER, load

PACKAGES = ("torch==2.13.0", "safetensors==0.8.0")


def values():
    import torch
    from safetensors.torch import save

    rng = np.random.RandomState(0)
    base = torch.tensor(rng.standard_normal((4, 6)).astype(np.float32))
    exact = torch.tensor([[0.5, -2.0, 448.0], [0.0, 1.5, -0.25]])
    tensors = OrderedDict(
        plain=base,
        transposed=base.T,
        part=base[1:3, 2:5],
        column=base[:, 1],
        parameter=torch.nn.Parameter(base * 2),
        half=base.half(),
        bfloat=base.bfloat16(),
        double=base.double(),
        long=torch.arange(5),
        flags=torch.tensor([True, False]),
        number=torch.tensor(3.5),
        empty=torch.zeros(0, 3),
    )
    stored = {f"value/{name}": x.detach().float().numpy() for name, x in tensors.items()}
    nested = {"epoch": 3, "state_dict": OrderedDict((f"module.{name}", x) for name, x in tensors.items())}
    files = {"zip": (nested, True), "legacy": (nested, False), "flat": (tensors, True)}
    for name, (content, new) in files.items():
        file = io.BytesIO()
        torch.save(content, file, _use_new_zipfile_serialization=new)
        stored[f"file/{name}"] = np.frombuffer(file.getvalue(), np.uint8)
    if (FOLDER / "torch_files.npz").exists():  # a legacy file has addresses in memory, and differs each time
        legacy = load("torch_files")["file/legacy"]
        read = torch.load(io.BytesIO(legacy.tobytes()))["state_dict"]
        if all(torch.equal(read[f"module.{name}"], x) for name, x in tensors.items()):
            stored["file/legacy"] = legacy
    small = {
        "f32": exact, "f16": exact.half(), "bf16": exact.bfloat16(), "f8": exact.to(torch.float8_e4m3fn),
        "f8_wide": exact.to(torch.float8_e5m2), "u8": torch.tensor([1, 255], dtype=torch.uint8),
    }  # fmt: skip
    stored |= {f"small/{name}": x.float().numpy() for name, x in small.items()}
    stored["file/safetensors"] = np.frombuffer(save(small, metadata={"format": "pt"}), np.uint8)
    return stored
