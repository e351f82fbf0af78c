import json
import textwrap

import jax
import numpy as np
import pytest

from research.__main__ import main
from research.errors import UserError
from research.model import from_nnx
from research.weights.options import readers
from research.weights.show import show
from tests.weights.disk import Case, safetensors, shapes

CASES = {"gpt2": "GPT", "llama": "LLaMA", "qwen3": "LLaMA", "t5_gated": "T5"}


@pytest.mark.parametrize("name", CASES)
def test_the_lines_start_an_experiment(name, tmp_path):
    case = Case("transformers_decoders", tmp_path, part=f"{name}/")
    text = show(tmp_path)
    numbers = sum(x.size for x in case.arrays.values())
    assert text.startswith(f"{tmp_path}: {len(case.arrays):,} arrays, {numbers:,} numbers, float32, ")
    assert f"\n{CASES[name]}(" in text
    names = {"from_nnx": from_nnx, "Experiment": lambda *_, init_from: {"start": init_from}}
    lines = textwrap.dedent(text[text.index("    from") :]).replace(", ...)", ")")
    exec(lines.replace("Experiment(", "experiment = Experiment("), names)  # noqa: S102
    params, _ = names["experiment"]["start"](*shapes(names["model"]))
    assert all(isinstance(x, jax.Array | np.ndarray) for x in jax.tree.leaves(params))


def test_a_file_and_names_that_are_not_known(tmp_path, capsys):
    file = safetensors(tmp_path / "model.safetensors", {"x": np.ones((2, 3), np.float16)})
    assert main(["weights", "show", str(file)]) == 0
    assert "1 arrays, 6 numbers, float16" in (out := capsys.readouterr().out) and "give the folder" in out
    for config, message in (
        ({"model_type": "qwen9"}, "'qwen9' is not known. Did you mean 'qwen"),
        ({"architecture": "vit_bas_patch16_224"}, r"Did you mean 'vit_base_patch\*'"),
        ({}, "neither model_type"),
    ):
        (tmp_path / "config.json").write_text(json.dumps(config))
        with pytest.raises(UserError, match=message):
            show(tmp_path)


@pytest.mark.parametrize(
    ("config", "lines"),
    [
        ({"model_type": "roberta"}, "bert.roberta(**sizes)"),
        ({"model_type": "vit"}, "vit.transformers(**sizes)"),
        ({"architecture": "vit_base_patch16_224"}, "vit.timm(**sizes)"),
    ],
)
def test_the_layout_is_that_of_the_architecture_and_the_library(config, lines, tmp_path):
    safetensors(tmp_path / "model.safetensors", {"x": np.ones(2, np.float32)})
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert lines in show(tmp_path)


def test_every_architecture_has_one_reader():
    found = readers()
    assert {"gpt2", "llama", "mistral", "qwen2", "qwen3", "t5", "bert", "roberta", "distilbert", "albert"} < set(found)
    assert len({module.__name__ for module in found.values()}) == 6
