"""Exported folders are loaded by transformers and timm themselves, and give our numbers.

It needs the environment of `make truth`, or RESEARCH_TRUTH_PYTHON with the path of a Python that has both libraries.
"""

import os
import subprocess
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.core import Trained
from research.layers.activations import gelu
from research.model import from_nnx
from research.models.bert import BERT
from research.models.gpt import GPT
from research.models.resnet import imagenet_resnet
from research.models.vit import ViT
from research.weights import bert, gpt, resnet, vit
from research.weights.export import export
from tests.models.fresh import fresh

PYTHON = os.environ.get("RESEARCH_TRUTH_PYTHON", str(Path(__file__).parents[2] / ".venv-truth" / "bin" / "python"))
SCRIPT = Path(__file__).parent / "reload.py"
TOKENS = np.random.default_rng(0).integers(3, 31, (2, 9))
IMAGES = np.random.default_rng(0).normal(size=(2, 32, 32, 3)).astype(np.float32)
TEXT = {"vocabulary": 31, "length": 12, "width": 16, "depth": 2, "heads": 4}
ENCODER = {**TEXT, "hidden": 40, "padding": 0}
ALBERT = {**ENCODER, "embedding_width": 6, "shared": True}
ROBERTA = {**ENCODER, "padding": 1, "first_position": 2, "token_types": 1}
DISTIL = {**ENCODER, "token_types": 0}
RESNET = {"blocks": (1, 2), "width": 8, "num_classes": 3}
TINY = {"size": 32, "patch": 8, "width": 16, "depth": 2, "heads": 4, "num_classes": 3, "activation": gelu}
NAMED = {**vit.SIZES["tiny"], "size": 224, "num_classes": 3, "activation": gelu}
CASES = {
    "GPT2LMHeadModel": (GPT, TEXT, gpt.transformers),
    "BertModel": (BERT, ENCODER, bert.bert),
    "BertForMaskedLM": (BERT, {**ENCODER, "masked": True, "pooler": None}, bert.bert),
    "BertForPreTraining": (BERT, {**ENCODER, "masked": True, "num_classes": 2}, bert.bert),
    "BertForSequenceClassification": (BERT, {**ENCODER, "num_classes": 3}, bert.bert),
    "RobertaForMaskedLM": (BERT, {**ROBERTA, "masked": True, "pooler": None}, bert.roberta),
    "RobertaForSequenceClassification": (BERT, {**ROBERTA, "num_classes": 3}, bert.roberta),
    "DistilBertForMaskedLM": (BERT, {**DISTIL, "masked": True, "pooler": None}, bert.distilbert),
    "DistilBertForSequenceClassification": (BERT, {**DISTIL, "num_classes": 3, "pooler": jax.nn.relu}, bert.distilbert),
    "AlbertForMaskedLM": (BERT, {**ALBERT, "masked": True, "pooler": None}, bert.albert),
    "AlbertForSequenceClassification": (BERT, {**ALBERT, "num_classes": 3}, bert.albert),
    "ResNetForImageClassification": (None, RESNET, resnet.transformers),
    "ViTForImageClassification": (ViT, {**TINY, "epsilon": 1e-12}, vit.transformers),
}


def network(module, arguments):
    from research.models.resnet import ResNet

    model = from_nnx(lambda rngs: (module or ResNet)(**arguments, rngs=rngs))
    return Trained(model.apply, *fresh(model))


def theirs(folder, kind, inputs, tmp_path):
    np.savez(tmp_path / "in.npz", **inputs)
    arguments = [PYTHON, str(SCRIPT), str(folder), kind, str(tmp_path / "in.npz"), str(tmp_path / "out.npz")]
    done = subprocess.run(arguments, capture_output=True, text=True)
    assert not done.returncode, done.stderr[-3000:]
    return np.load(tmp_path / "out.npz")["out"]


@pytest.fixture(autouse=True)
def environment():
    if not Path(PYTHON).exists():
        pytest.skip(f"needs the environment of `make truth`, or RESEARCH_TRUTH_PYTHON: {PYTHON} does not exist")


@pytest.mark.slow
@pytest.mark.parametrize("kind", CASES)
def test_transformers_loads_what_is_exported(tmp_path, kind):
    module, arguments, layout = CASES[kind]
    trained, is_image = network(module, arguments), "Image" in kind
    folder = export(trained, layout(**arguments), folder=tmp_path / "out")
    inputs = {"pixel_values": IMAGES.transpose(0, 3, 1, 2)} if is_image else {"input_ids": TOKENS}
    ours = trained(IMAGES if is_image else TOKENS)
    ours = ours[0] if isinstance(ours, tuple) else ours
    np.testing.assert_allclose(ours, theirs(folder, kind, inputs, tmp_path), rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["resnet18", "resnet50", "vit_tiny_patch16_224"])
def test_timm_loads_what_is_exported(tmp_path, kind):
    if kind.startswith("resnet"):
        depth = int(kind.removeprefix("resnet"))
        model = from_nnx(lambda rngs: imagenet_resnet(depth, num_classes=3, rngs=rngs))
        layout, size = resnet.timm(blocks=resnet.PLANS[depth], bottleneck=depth >= 50, num_classes=3), 32
    else:
        model, layout, size = from_nnx(lambda rngs: ViT(**NAMED, rngs=rngs)), vit.timm(**NAMED), 224
    trained = Trained(model.apply, *fresh(model, scale=0.05))
    folder = export(trained, layout, folder=tmp_path / "out")
    images = np.asarray(jnp.resize(IMAGES, (2, size, size, 3)))
    ours = np.asarray(jax.jit(lambda trained, x: trained(x))(trained, images))
    there = theirs(folder, "timm", {"x": images.transpose(0, 3, 1, 2)}, tmp_path)
    np.testing.assert_allclose(ours, there, rtol=1e-3, atol=1e-4 * np.abs(ours).max())
