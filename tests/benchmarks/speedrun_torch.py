"""PyTorch's entrants of the speedrun: residual networks of convolutions, as fast as they go on two CPU cores.

    python -m tests.benchmarks.speedrun_torch --seed 0 [--network small] [--validation]

bf16 autocast where the processor has it, channels last, AdamW with a one-cycle schedule, images mirrored and shifted
by a pixel, the logits of six views of an image averaged at the end. It prints one line of JSON.
"""

import argparse
import json
import os
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from research.data.readers.idx import read_idx

FOLDER = Path(os.environ.get("FASHION_MNIST_DIR") or "/usr/share/datasets/fashion-mnist")
HELD_OUT = 5_000  # of the training images, for choosing


def layer(channels, width, size=3):
    """A convolution, BatchNorm, ReLU: of 3 x 3, or of `size` x `size` places that do not overlap."""
    how = dict(padding=1) if size == 3 else dict(stride=size)
    conv = nn.Conv2d(channels, width, size, bias=False, **how)
    return nn.Sequential(conv, nn.BatchNorm2d(width), nn.ReLU(inplace=True))


class Full(nn.Module):
    """Three convolutions, the image halved by pooling after the first and the second, and a residual one."""

    def __init__(self):
        super().__init__()
        pool = nn.MaxPool2d(2)
        self.body = nn.Sequential(layer(1, 32), pool, layer(32, 64), pool, layer(64, 128))
        self.residual, self.head = layer(128, 128), nn.Linear(128, 10)

    def forward(self, x):
        x = self.body(x)
        return self.head((x + self.residual(x)).amax((2, 3)))


class Small(nn.Module):
    """The network of our entrant: 2 x 2 pixels, and later 2 x 2 places, become channels; a layer over all places."""

    def __init__(self, widths=(48, 96, 160), dense=160):
        super().__init__()
        a, b, c = widths
        even = nn.ZeroPad2d((0, 1, 0, 1))  # 7 x 7 places
        self.body = nn.Sequential(nn.PixelUnshuffle(2), layer(4, a), layer(a, b, size=2), even, layer(b, c, size=2))
        self.residual, self.dense = layer(c, c, size=1), layer(c, dense, size=4)
        self.head = nn.Linear(2 * c + dense, 10)

    def forward(self, x):
        x = self.body(x)
        x = x + self.residual(x)
        return self.head(torch.cat([x.amax((2, 3)), x.mean((2, 3)), self.dense(x)[:, :, 0, 0]], 1))


NETWORKS = {"full": Full, "small": Small}


def images(split: str):
    """("x" f32 [N, 1, 28, 28], "y"), normalised."""
    kind = {"train": "train", "test": "t10k"}[split]
    x, y = (
        next(read_idx(path, ndim=ndim) for path in sorted(FOLDER.glob(f"{kind}-{name}*")))
        for name, ndim in (("images", 3), ("labels", 1))
    )
    x = torch.from_numpy((x.astype(np.float32) / 255 - 0.286) / 0.353)[:, None]
    return x, torch.from_numpy(y.astype(np.int64))


def augmented(x):
    """Each image mirrored or not, all of them shifted by up to a pixel: a whole epoch in a few array operations."""
    padded = F.pad(torch.where(torch.rand(len(x), 1, 1, 1) < 0.5, x.flip(3), x), (1,) * 4, value=float(x.min()))
    out, corners = torch.empty_like(x), torch.randint(0, 9, (len(x),))
    for corner in range(9):
        rows = (corners == corner).nonzero().squeeze(1)
        i, j = divmod(corner, 3)
        out[rows] = padded[rows, :, i : i + 28, j : j + 28]
    return out


def views(x):
    """(weight, images): as they are and mirrored, and both moved by a pixel to either corner, the edges repeated."""
    padded = F.pad(x, (1,) * 4, mode="replicate")
    for weight, place in ((0.5, 1), (0.25, 0), (0.25, 2)):
        moved = padded[:, :, place : place + 28, place : place + 28]
        yield from ((weight, moved), (weight, moved.flip(3)))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--network", choices=NETWORKS, default="full")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--rate", type=float, default=4e-3)
    parser.add_argument("--decay", type=float, default=0.02)
    parser.add_argument("--smoothing", type=float, default=0.05)
    parser.add_argument("--validation", action="store_true", help="hold out 5,000 images and tell of those")
    parser.add_argument("--bf16", choices=("auto", "on", "off"), default="auto")
    given = parser.parse_args()
    began = time.perf_counter()
    torch.manual_seed(given.seed)
    x, y = images("train")
    if given.validation:
        x, y, tested = x[HELD_OUT:], y[HELD_OUT:], (x[:HELD_OUT], y[:HELD_OUT])
    else:
        tested = images("test")
    # Elsewhere PyTorch would only imitate it.
    flags = Path("/proc/cpuinfo").read_text() if given.bf16 == "auto" else ""
    bf16 = given.bf16 == "on" or "avx512_bf16" in flags or "amx_bf16" in flags
    model = NETWORKS[given.network]().to(memory_format=torch.channels_last)
    decayed = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": given.decay}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=given.rate, fused=True)
    count = len(x) // given.batch
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, given.rate, total_steps=given.epochs * count, pct_start=0.25
    )
    autocast = torch.autocast("cpu", torch.bfloat16, enabled=bf16)
    for _ in range(given.epochs):
        model.train()
        order = torch.randperm(len(x))
        shuffled = augmented(x[order]).contiguous(memory_format=torch.channels_last)
        for i in range(0, count * given.batch, given.batch):
            with autocast:
                logits = model(shuffled[i : i + given.batch])
            loss = F.cross_entropy(logits.float(), y[order[i : i + given.batch]], label_smoothing=given.smoothing)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
    model.eval()
    with torch.no_grad(), autocast:
        judged = (sum(weight * model(view).float() for weight, view in views(x)) for x in tested[0].split(500))
        logits = torch.cat(list(judged))
        hits = (logits.argmax(1) == tested[1]).float().mean()
    print(json.dumps({"accuracy": hits.item(), "seconds": time.perf_counter() - began, "bf16": bf16}))


if __name__ == "__main__":
    main()
