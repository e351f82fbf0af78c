"""Load exported folders with transformers and timm, in an environment that has them; nothing here is imported.

    python tests/weights/reload.py FOLDER

FOLDER has a folder per case: KIND/out is the exported one, KIND/in.npz the inputs, KIND/theirs.npz the output.
KIND is a class of transformers, or a network of timm. The program fails if an array is missing or left over.
"""

import sys
from pathlib import Path

import numpy as np
import torch

library = torch.library.Library("torchvision", "FRAGMENT")  # of a PyTorch for CPUs, as in tests/truth/_checkpoint.py
for name in ("nms", "qnms"):
    library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

import timm  # noqa: E402
import transformers  # noqa: E402

for case in sorted(Path(sys.argv[1]).iterdir()):
    given = {key: torch.tensor(x) for key, x in np.load(case / "in.npz").items()}
    if hasattr(transformers, case.name):
        model, report = getattr(transformers, case.name).from_pretrained(case / "out", output_loading_info=True)
        assert not any(report.values()), (case.name, report)
        out = model.eval()(**given)[0]
    else:
        out = timm.create_model(f"local-dir:{case / 'out'}", pretrained=True).eval()(given["pixel_values"])  # strict
    np.savez(case / "theirs.npz", out=out.detach().numpy())
