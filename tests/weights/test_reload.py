"""Exported folders are loaded by transformers and timm themselves, and give our numbers.

It needs the environment of `make truth`, or RESEARCH_TRUTH_PYTHON with the path of a Python that has both libraries.
"""

import os
import subprocess
from pathlib import Path

import jax
import numpy as np
import pytest

from research.core import Trained
from research.layers.activations import gelu
from research.layers.rotary import Llama3
from research.model import from_nnx
from research.models.bert import BERT
from research.models.gpt import GPT
from research.models.llama import LLaMA
from research.models.resnet import PLANS, ResNet, imagenet_resnet
from research.models.t5 import T5, V11
from research.models.vit import ViT
from research.weights import bert, gpt, llama, resnet, t5, vit
from research.weights.export import export
from tests.models.fresh import fresh

PYTHON = os.environ.get("RESEARCH_TRUTH_PYTHON", str(Path(__file__).parents[2] / ".venv-truth" / "bin" / "python"))
SCRIPT = Path(__file__).parent / "reload.py"
TOKENS = np.random.default_rng(0).integers(3, 31, (2, 9))
IMAGES = np.random.default_rng(0).normal(size=(2, 32, 32, 3)).astype(np.float32)
TEXT = {"vocabulary": 31, "length": 12, "width": 16, "depth": 2, "heads": 4}
ENCODER = {**TEXT, "hidden": 40, "padding": 0}
DECODER = {**TEXT, "hidden": 40, "kv_heads": 2}
SEQ2SEQ = {"vocabulary": 31, "width": 16, "depth": 2, "heads": 4, "head_width": 6, "hidden": 40}
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
    "LlamaForCausalLM": (LLaMA, {**DECODER, "rope_scaling": Llama3(4.0, length=4)}, llama.transformers),
    "MistralForCausalLM": (LLaMA, {**DECODER, "window": 4}, llama.transformers),
    "Qwen2ForCausalLM": (LLaMA, {**DECODER, "use_bias": ("q", "k", "v"), "tied": True}, llama.transformers),
    "Qwen3ForCausalLM": (LLaMA, {**DECODER, "head_width": 6, "qk_norm": True}, llama.transformers),
    "T5ForConditionalGeneration": (T5, {**SEQ2SEQ, **V11}, t5.transformers),
    "ResNetForImageClassification": (ResNet, RESNET, resnet.transformers),
    "ViTForImageClassification": (ViT, {**TINY, "epsilon": 1e-12}, vit.transformers),
}


TIMM = {
    "resnet18": (imagenet_resnet, {"depth": 18, "num_classes": 3}, resnet.timm(blocks=PLANS[18], num_classes=3)),
    "resnet50": (
        imagenet_resnet, {"depth": 50, "num_classes": 3},
        resnet.timm(blocks=PLANS[50], bottleneck=True, num_classes=3),
    ),
    "vit_tiny_patch16_224": (ViT, NAMED, vit.timm(**NAMED)),
}  # fmt: skip


@pytest.mark.slow
def test_their_libraries_load_what_is_exported(tmp_path):
    if not Path(PYTHON).exists():
        pytest.skip(f"needs the environment of `make truth`, or RESEARCH_TRUTH_PYTHON: {PYTHON} does not exist")
    ours = {}
    cases = {kind: (module, options, layout(**options)) for kind, (module, options, layout) in CASES.items()} | TIMM
    for kind, (module, options, layout) in cases.items():
        model = from_nnx(lambda rngs, module=module, options=options: module(**options, rngs=rngs))
        trained = Trained(model.apply, *fresh(model, scale=0.1 if kind in TIMM else 0.3))
        export(trained, layout, folder=tmp_path / kind / "out")
        size = 224 if kind.startswith("vit_") else 32
        images = np.resize(IMAGES, (2, size, size, 3))
        is_image = kind in TIMM or "Image" in kind
        given = {"pixel_values": images.transpose(0, 3, 1, 2)} if is_image else {"input_ids": TOKENS}
        inputs = (images,) if is_image else (TOKENS,)
        if module is T5:
            inputs = (TOKENS, TOKENS[:, :5])
            given["decoder_input_ids"] = inputs[1]
        np.savez(tmp_path / kind / "in.npz", **given)
        out = jax.jit(lambda trained, *inputs: trained(*inputs))(trained, *inputs)
        ours[kind] = np.asarray(out[0] if isinstance(out, tuple) else out)
    done = subprocess.run([PYTHON, str(SCRIPT), str(tmp_path)], capture_output=True, text=True)
    assert not done.returncode, done.stderr[-3000:]
    for kind, out in ours.items():
        theirs = np.load(tmp_path / kind / "theirs.npz")["out"]
        np.testing.assert_allclose(out, theirs, rtol=1e-3, atol=1e-4 * np.abs(out).max(), err_msg=kind)
