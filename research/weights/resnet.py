"""ResNets in the layouts of timm, torchvision (the same names) and transformers (`ResNetForImageClassification`)."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from research.errors import UserError
from research.models.resnet import PLANS
from research.weights.layout import Layout
from research.weights.options import check_options, class_names, num_classes_of, timm_entries

MODEL = "ResNet"
ARCHITECTURES = ("resnet", *(f"resnet{depth}" for depth in PLANS))
COUNTER = "num_batches_tracked"  # of BatchNorm; its momentum does not need it


def timm(*, blocks, width=64, bottleneck=False, num_classes=1000) -> Layout:
    """Return the layout of a `ResNet` with these arguments, a large stem and shortcuts of option "B".

    Networks that timm has no name for are written without a config.json, like those for torchvision.
    """
    table = {"stem/conv": "conv1", "stem/norm": "bn1", "head": "fc"}
    for i, stage, number in _places(blocks):
        there = f"layer{stage + 1}.{number}"
        for j in range(3):
            table |= {f"blocks/{i}/layers/{j}/conv": f"{there}.conv{j + 1}"}
            table |= {f"blocks/{i}/layers/{j}/norm": f"{there}.bn{j + 1}"}
        table |= {f"blocks/{i}/projection/conv": f"{there}.downsample.0"}
        table |= {f"blocks/{i}/projection/norm": f"{there}.downsample.1"}
    depth = 2 + sum(blocks) * (3 if bottleneck else 2)
    known = PLANS.get(depth) == tuple(blocks) and bottleneck == (depth >= 50) and width == 64
    config = {"architecture": f"resnet{depth}", **timm_entries(num_classes, 224)} if known else {}
    return Layout(table=table, config=config, constants=_counters(table, blocks, bottleneck), ignored=COUNTER)


def transformers(*, blocks, width=64, bottleneck=False, num_classes=1000) -> Layout:
    """Return the layout of a `ResNet` with these arguments, a large stem and shortcuts of option "B"."""
    table = {
        "stem/conv": "resnet.embedder.embedder.convolution",
        "stem/norm": "resnet.embedder.embedder.normalization",
        "head": "classifier.1",
    }
    for i, stage, number in _places(blocks):
        there = f"resnet.encoder.stages.{stage}.layers.{number}"
        ours = {f"layers/{j}": f"layer.{j}" for j in range(3)} | {"projection": "shortcut"}
        for name, theirs in ours.items():
            table |= {f"blocks/{i}/{name}/conv": f"{there}.{theirs}.convolution"}
            table |= {f"blocks/{i}/{name}/norm": f"{there}.{theirs}.normalization"}
    config = {
        "architectures": ["ResNetForImageClassification"], "model_type": "resnet", "embedding_size": width,
        "hidden_sizes": _hidden_sizes(width, len(blocks), bottleneck), "depths": list(blocks),
        "layer_type": "bottleneck" if bottleneck else "basic", "hidden_act": "relu", "num_channels": 3,
        "downsample_in_first_stage": False, "downsample_in_bottleneck": False, **class_names(num_classes),
        "dtype": "float32",
    }  # fmt: skip
    return Layout(
        table=table, config=config, prefix="resnet.", constants=_counters(table, blocks, bottleneck), ignored=COUNTER
    )


def arguments(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of `ResNet` for a config.json of transformers or timm.

    Raises UserError for another architecture, and for an option that `ResNet` does not support.
    """
    if "architecture" in config:
        architectures = {f"resnet{depth}": depth for depth in PLANS}
        check_options(config, model_type=tuple(architectures), global_pool=("avg",), model_args=({},))
        depth = architectures[config["architecture"]]
        return {"blocks": PLANS[depth], "bottleneck": depth >= 50, "num_classes": config.get("num_classes", 1000)}
    check_options(
        config, model_type="resnet", hidden_act=("relu",), num_channels=(3,), layer_type=("bottleneck", "basic"),
        downsample_in_first_stage=(False,), downsample_in_bottleneck=(False,),
    )  # fmt: skip
    blocks, bottleneck = tuple(config.get("depths", (3, 4, 6, 3))), config.get("layer_type") != "basic"
    width, sizes = config.get("embedding_size", 64), config.get("hidden_sizes", [256, 512, 1024, 2048])
    expected = _hidden_sizes(width, len(blocks), bottleneck)
    if sizes != expected:
        raise UserError(f"the option hidden_sizes={sizes} of the config is not supported; expected {expected}.")
    return {"blocks": blocks, "width": width, "bottleneck": bottleneck, "num_classes": num_classes_of(config)}


def _counters(table, blocks, bottleneck) -> dict[str, np.ndarray]:
    """Return the counters of all norms, which transformers expects in a file."""
    names = ["stem/norm"]
    for i, stage, number in _places(blocks):
        names += [f"blocks/{i}/layers/{j}/norm" for j in range(3 if bottleneck else 2)]
        if not number and (stage or bottleneck):
            names.append(f"blocks/{i}/projection/norm")
    return {f"{table[name]}.{COUNTER}": np.zeros((), np.int64) for name in names}


def _hidden_sizes(width, stages, bottleneck):
    return [width * 2**stage * (4 if bottleneck else 1) for stage in range(stages)]


def _places(blocks) -> Iterator[tuple[int, int, int]]:
    """Yield the number of each block, its stage, and its number in the stage."""
    places = [(stage, number) for stage, count in enumerate(blocks) for number in range(count)]
    for i, (stage, number) in enumerate(places):
        yield i, stage, number
