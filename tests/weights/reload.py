"""Load an exported folder with transformers or timm, in an environment that has them; nothing here is imported.

    python tests/weights/reload.py FOLDER CLASS INPUTS OUTPUTS

INPUTS and OUTPUTS are .npz files. CLASS is one of transformers, or "timm". The program fails if an array is missing or
left over.
"""

import sys

import numpy as np
import torch

library = torch.library.Library("torchvision", "FRAGMENT")  # of a PyTorch for CPUs, as in tests/truth/_checkpoint.py
for name in ("nms", "qnms"):
    library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

folder, kind, inputs, outputs = sys.argv[1:]
given = {key: torch.tensor(x) for key, x in np.load(inputs).items()}
if kind == "timm":
    import timm

    model = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()  # strict
    out = model(**given)
else:
    import transformers

    model, report = getattr(transformers, kind).from_pretrained(folder, output_loading_info=True)
    assert not any(report.values()), report
    out = model.eval()(**given)
    out = out[0]
np.savez(outputs, out=out.detach().numpy())
