"""PyTorch: eager; as fast as it goes (fused optimizer, channels last); and compiled besides."""

import functools

import torch
import torch.nn.functional as F
from torch import nn

from tests.benchmarks import works
from tests.benchmarks.turns import Gate, serve, turns

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


class Block(nn.Module):
    def __init__(self, width, heads, causal):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.heads, self.causal = heads, causal

    def forward(self, x):
        b, t, w = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(b, t, 3, self.heads, w // self.heads).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        x = x + self.out(y.transpose(1, 2).reshape(b, t, w))
        return x + self.down(F.gelu(self.up(self.norm2(x)), approximate="tanh"))


class ViT(nn.Module):
    def __init__(self, s):
        super().__init__()
        self.embed = nn.Conv2d(3, s.width, s.patch, s.patch)
        self.positions = nn.Parameter(0.02 * torch.randn(1, (s.size // s.patch) ** 2, s.width))
        self.blocks = nn.Sequential(*(Block(s.width, s.heads, False) for _ in range(s.depth)))
        self.norm, self.head = nn.LayerNorm(s.width, eps=1e-6), nn.Linear(s.width, s.classes)

    def forward(self, x):
        x = self.embed(x).flatten(2).transpose(1, 2) + self.positions
        return self.head(self.norm(self.blocks(x)).mean(1))


class GPT(nn.Module):
    def __init__(self, s):
        super().__init__()
        self.embed, self.place = nn.Embedding(s.vocabulary, s.width), nn.Embedding(s.length, s.width)
        nn.init.normal_(self.embed.weight, std=0.02)
        self.blocks = nn.Sequential(*(Block(s.width, s.heads, True) for _ in range(s.depth)))
        self.norm = nn.LayerNorm(s.width, eps=1e-6)

    def forward(self, x):
        x = self.embed(x) + self.place(torch.arange(x.shape[1], device=x.device))
        return self.norm(self.blocks(x)) @ self.embed.weight.T


class LSTM(nn.Module):
    def __init__(self, s):
        super().__init__()
        self.embed = nn.Embedding(s.vocabulary, s.width)
        self.layers = nn.LSTM(s.width, s.width, num_layers=s.depth, batch_first=True)
        for name, bias in self.layers.named_parameters():
            if name.startswith("bias_hh"):  # a second bias, which only adds to the first
                bias.requires_grad_(False).zero_()
        self.head = nn.Linear(s.width, s.vocabulary)

    def forward(self, x):
        return self.head(self.layers(self.embed(x))[0])


class ConvNorm(nn.Sequential):
    def __init__(self, channels, width, size=3, stride=1):
        conv = nn.Conv2d(channels, width, size, stride, size // 2, bias=False)
        super().__init__(conv, nn.BatchNorm2d(width))


class Residual(nn.Module):
    def __init__(self, channels, width, stride):
        super().__init__()
        self.a, self.b = ConvNorm(channels, width, stride=stride), ConvNorm(width, width)
        self.shortcut = ConvNorm(channels, width, 1, stride) if stride > 1 else nn.Identity()

    def forward(self, x):
        return F.relu(self.b(F.relu(self.a(x))) + self.shortcut(x))


def module_of(work: works.Work) -> nn.Module:
    """The module for a piece of work."""
    s = work.sizes
    if work.kind == "mlp":
        first, second = nn.Linear(s.features, s.width), nn.Linear(s.width, s.width)
        return nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), nn.Linear(s.width, s.classes))
    if work.kind == "resnet":
        widths = [s.width * 2**stage for stage in range(s.stages)]
        blocks = [
            Residual(w if number else widths[max(0, stage - 1)], w, 2 if stage and not number else 1)
            for stage, w in enumerate(widths)
            for number in range(2)
        ]
        pool = (nn.AdaptiveAvgPool2d(1), nn.Flatten())
        return nn.Sequential(ConvNorm(3, s.width), nn.ReLU(), *blocks, *pool, nn.Linear(widths[-1], s.classes))
    return {"vit": ViT, "gpt": GPT, "lstm": LSTM}[work.kind](s)


def optimizer_of(work: works.Work, parameters, *, fused: bool) -> torch.optim.Optimizer:
    """The optimizer; `fused` updates every array in one pass over it."""
    rate, fused = work.learning_rate, fused or None
    if work.optimizer == "sgd":
        return torch.optim.SGD(parameters, rate, momentum=works.MOMENTUM, fused=fused)
    betas, eps = (works.ADAM["b1"], works.ADAM["b2"]), works.ADAM["eps"]
    if work.optimizer == "adam":
        return torch.optim.Adam(parameters, rate, betas, eps, fused=fused)
    return torch.optim.AdamW(parameters, rate, betas, eps, weight_decay=works.WEIGHT_DECAY, fused=fused)


def train(work: works.Work, gate: Gate, *, best: bool = False, compiled: bool = False):
    """Takes turns with the usual training loop."""
    torch.manual_seed(0)
    model = module_of(work).to(DEVICE).train()
    x, y = (torch.from_numpy(work.batch[name]).to(DEVICE) for name in "xy")
    y = y.long()
    if x.ndim == 4:
        x = x.permute(0, 3, 1, 2).contiguous()
        if best:
            x, model = x.contiguous(memory_format=torch.channels_last), model.to(memory_format=torch.channels_last)
    trained = [p for p in model.parameters() if p.requires_grad]
    gate.facts["parameters"] = sum(p.numel() for p in trained)
    optimizer = optimizer_of(work, trained, fused=best)
    loss_of = lambda: F.cross_entropy(model(x).flatten(0, -2), y.flatten())
    loss_of = torch.compile(loss_of) if compiled else loss_of

    def one():
        optimizer.zero_grad(set_to_none=True)
        loss = loss_of()
        loss.backward()
        optimizer.step()
        return loss.detach()

    wait = (lambda _: torch.cuda.synchronize()) if DEVICE == "cuda" else (lambda _: None)
    turns(gate, one, wait=wait, loss=float)


if __name__ == "__main__":
    best = functools.partial(train, best=True)
    compiled = functools.partial(best, compiled=True)
    serve({"torch": train, "torch-best": best, "torch-best-kept": best, "torch-compile": compiled})
