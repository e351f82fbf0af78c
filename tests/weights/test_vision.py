"""ResNets and Vision Transformers of timm, torchvision and transformers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.errors import UserError
from research.layers.activations import gelu
from research.model import from_nnx
from research.models.resnet import PLANS, ResNet
from research.models.vit import ViT
from research.weights import resnet, vit
from tests.weights.disk import Case, safetensors

TINY = {"size": 16, "patch": 4, "width": 16, "depth": 2, "heads": 4, "num_classes": 3, "activation": gelu}
FIVE = {"num_classes": 5}


def check(case, model, layout):
    """The same logits and input gradients as theirs, and the same file after import and export."""
    trained = case.loaded(model, layout)

    def total(images):
        logits = trained(images)
        return jnp.square(logits).sum(), logits

    (_, logits), gradient = jax.jit(jax.value_and_grad(total, has_aux=True))(case.truth["images"])
    np.testing.assert_allclose(logits, case.truth["logits"], atol=1e-5)
    np.testing.assert_allclose(gradient, case.truth["gradient"], rtol=1e-4, atol=1e-5)
    return case.check_round_trip(trained, layout)


def test_timm_resnet(tmp_path):
    arguments = {"blocks": (1, 2), "bottleneck": True, "num_classes": 3}
    case = Case("timm_vision", tmp_path, part="resnet/")
    check(case, from_nnx(lambda rngs: ResNet(**arguments, rngs=rngs)), resnet.timm(**arguments))


@pytest.mark.parametrize("kind", ["basic", "bottleneck"])
def test_transformers_resnet(tmp_path, kind):
    case = Case("transformers_vision", tmp_path, part=f"{kind}/")
    arguments = resnet.arguments(case.config)
    assert arguments == {"blocks": (1, 2), "width": 8, "bottleneck": kind == "bottleneck", "num_classes": 3}
    layout = resnet.transformers(**arguments)
    config = check(case, from_nnx(lambda rngs: ResNet(**arguments, rngs=rngs)), layout)
    assert resnet.arguments(config) == arguments
    assert {name: case.config.get(name, value) for name, value in config.items()} == config


@pytest.mark.parametrize(("part", "library"), [("vit/", vit.timm), ("torchvision/", vit.torchvision)])
def test_timm_and_torchvision_vit(tmp_path, part, library):
    case = Case("timm_vision", tmp_path, part=part)
    check(case, from_nnx(lambda rngs: ViT(**TINY, rngs=rngs)), library(**TINY))


def test_transformers_vit(tmp_path):
    case = Case("transformers_vision", tmp_path, part="vit/")
    arguments = vit.arguments(case.config)
    assert arguments == {**TINY, "channels": 3, "epsilon": 1e-12}
    layout = vit.transformers(**arguments)
    config = check(case, from_nnx(lambda rngs: ViT(**arguments, rngs=rngs)), layout)
    assert vit.arguments(config) == arguments
    assert {name: case.config.get(name, value) for name, value in config.items() if "dropout" not in name}.items() <= (
        config.items()
    )


def test_another_number_of_classes_keeps_a_fresh_head_if_it_is_named(tmp_path):
    case, model = Case("timm_vision", tmp_path, part="vit/"), from_nnx(lambda rngs: ViT(**TINY | FIVE, rngs=rngs))
    layout = vit.timm(**TINY | FIVE)
    with pytest.raises(UserError, match=r"head.bias has the shape \[3\]; head/bias \[5\] needs \[5\]"):
        case.loaded(model, layout)
    trained = case.loaded(model, layout, skip=r"^head/")
    assert isinstance(trained.params["head"]["kernel"], jax.ShapeDtypeStruct)
    assert isinstance(trained.params["norm"]["scale"], jax.Array)


def test_networks_that_timm_names():
    for depth, blocks in PLANS.items():
        layout = resnet.timm(blocks=blocks, bottleneck=depth >= 50)
        assert layout.config["architecture"] == f"resnet{depth}"
        assert resnet.arguments(layout.config)["blocks"] == blocks
    assert not resnet.timm(blocks=(3, 3, 1, 1)).config and not resnet.timm(blocks=(2, 2, 2, 2), bottleneck=True).config
    layout = vit.timm(**vit.SIZES["base"], size=384)
    assert layout.config["architecture"] == "vit_base_patch16_384"
    assert vit.arguments(layout.config)["size"] == 384
    assert not vit.timm(**TINY).config


def test_options_that_the_networks_lack_are_named():
    with pytest.raises(UserError, match="'resnet26' is not known. Did you mean 'resnet"):
        resnet.arguments({"architecture": "resnet26"})
    with pytest.raises(UserError, match=r"hidden_sizes=\[64, 64\] of the config is not supported; expected \[64, 128"):
        resnet.arguments({"model_type": "resnet", "depths": [1, 1], "layer_type": "basic", "hidden_sizes": [64, 64]})
    with pytest.raises(UserError, match="global_pool='avg' of the config is not supported; expected 'token'"):
        vit.arguments({"architecture": "vit_base_patch16_224", "global_pool": "avg"})
    with pytest.raises(UserError, match="intermediate_size=100 of the config is not supported"):
        vit.arguments({"model_type": "vit", "intermediate_size": 100})
    with pytest.raises(UserError, match="'vit_giant_patch14_224' of the config is not supported"):
        vit.arguments({"architecture": "vit_giant_patch14_224"})


def test_a_file_of_an_older_torchvision(tmp_path):
    case = Case("timm_vision", tmp_path, part="torchvision/")
    old = {name.replace("mlp.0", "mlp.linear_1").replace("mlp.3", "mlp.linear_2"): x for name, x in case.arrays.items()}
    safetensors(tmp_path / "model.safetensors", old)
    case.loaded(from_nnx(lambda rngs: ViT(**TINY, rngs=rngs)), vit.torchvision(**TINY))
