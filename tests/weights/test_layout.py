"""Tables: every transformation, in both directions."""

import numpy as np
import pytest

from research.core import Trained
from research.errors import UserError
from research.weights.export import export
from research.weights.layout import At, Layout
from research.weights.load import weights
from tests.weights.disk import arrays_in, safetensors

RNG = np.random.default_rng(0)


def numbers(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def both_ways(tmp_path, table, theirs, ours):
    """Import `theirs` and compare with `ours`; export and compare with `theirs`. Stats are below "stats"."""
    safetensors(tmp_path / "model.safetensors", theirs)
    layout = Layout(table=table, config={})
    stats = {"model": ours.pop("stats")} if "stats" in ours else {}
    start = weights(tmp_path, layout, tell=lambda text: None)
    like = lambda tree: {name: like(x) if isinstance(x, dict) else np.zeros_like(x) for name, x in tree.items()}
    params, new_stats = start(like(ours), like(stats))
    compare(params, ours)
    compare(new_stats, stats)
    written = arrays_in(export(Trained(print, params, new_stats), layout, folder=tmp_path / "out"))
    assert {name: x.tobytes() for name, x in written.items()} == {name: x.tobytes() for name, x in theirs.items()}


def compare(tree, expected):
    assert tree.keys() == expected.keys()
    for name, x in expected.items():
        compare(tree[name], x) if isinstance(x, dict) else np.testing.assert_array_equal(tree[name], x)


def test_modules_have_the_names_and_the_order_of_pytorch(tmp_path):
    linear, conv, norm, table = numbers(5, 3), numbers(4, 3, 2, 2), numbers(6), numbers(7, 2)
    theirs = {
        "fc.weight": linear, "fc.bias": linear[:, 0].copy(), "conv.weight": conv, "bn.weight": norm, "bn.bias": -norm,
        "bn.running_mean": norm + 1, "bn.running_var": norm**2, "emb.weight": table,
    }  # fmt: skip
    ours = {
        "fc": {"kernel": linear.T, "bias": linear[:, 0]},
        "conv": {"kernel": conv.transpose(2, 3, 1, 0)},
        "norm": {"scale": norm, "bias": -norm},
        "embed": {"embedding": table},
        "stats": {"norm": {"mean": norm + 1, "var": norm**2}},
    }
    both_ways(tmp_path, {"fc": "fc", "conv": "conv", "norm": "bn", "embed": "emb"}, theirs, ours)


def test_parts_of_unequal_size(tmp_path):
    fused, bias = numbers(4 + 2 + 2, 3), numbers(8)
    ours = {
        name: {"kernel": fused[part].T, "bias": bias[part]}
        for name, part in (("q", slice(4)), ("k", slice(4, 6)), ("v", slice(6, 8)))
    }
    table = {name: At("qkv", part=i) for i, name in enumerate("qkv")}
    both_ways(tmp_path, table, {"qkv.weight": fused, "qkv.bias": bias}, ours)
    with pytest.raises(UserError, match="joins arrays into qkv.bias, but q/bias is part 0, v/bias is part 2"):
        export(Trained(print, {n: ours[n] for n in "qv"}, {}), Layout(table=table, config={}), folder=tmp_path / "two")


def test_permuted_split_and_padded_shapes(tmp_path):
    patches, positions, flat = numbers(8, 3, 2, 2), numbers(1, 5, 8), numbers(6, 2 * 3 * 4)
    ours = {
        "embed": {"kernel": patches.transpose(2, 3, 1, 0).reshape(12, 8)},
        "positions": positions[0],
        # A linear layer behind a flattened image: channels first there, last here.
        "head": {"kernel": flat.reshape(6, 2, 3, 4).transpose(2, 3, 1, 0).reshape(24, 6)},
        "gate": {"kernel": flat.T},
    }
    table = {
        "embed": At("proj", split=(2, 2, 3, 8), axes=(3, 2, 0, 1)),
        "positions": At("pos", shape=(1, ...)),
        "head": At("fc", split=(3, 4, 2, 6), axes=(3, 2, 0, 1), shape=(6, 24)),
        "gate": At("se", shape=(..., 1, 1)),
    }
    theirs = {"proj.weight": patches, "pos": positions, "fc.weight": flat, "se.weight": flat[..., None, None]}
    both_ways(tmp_path, table, theirs, ours)


def test_sums_are_read_and_written_as_one_term_and_zero(tmp_path):
    a, b = numbers(4), numbers(4)
    layout = Layout(table={"cell/bias": At(("bias_ih", "bias_hh"))}, config={})
    safetensors(tmp_path / "model.safetensors", {"bias_ih": a, "bias_hh": b})
    params, _ = weights(tmp_path, layout, tell=lambda text: None)({"cell": {"bias": np.zeros(4, np.float32)}}, {})
    np.testing.assert_array_equal(params["cell"]["bias"], a + b)
    written = arrays_in(export(Trained(print, params, {}), layout, folder=tmp_path / "out"))
    np.testing.assert_array_equal(written["bias_ih"], a + b)
    np.testing.assert_array_equal(written["bias_hh"], np.zeros(4))


def test_layers_that_are_stacked_here(tmp_path):
    layers = [(numbers(3, 2), numbers(3)) for _ in range(11)]
    theirs = {f"h.{i}.{n}": x for i, layer in enumerate(layers) for n, x in zip(("weight", "bias"), layer, strict=True)}
    kernels = np.stack([kernel.T for kernel, _ in layers])
    ours = {"blocks": {"stacked": {"fc": {"kernel": kernels, "bias": np.stack([bias for _, bias in layers])}}}}
    order = [f"h.{i}.{name}" for name in ("bias", "weight") for i in range(11)]  # not the order of their file
    both_ways(tmp_path, {f"blocks/{i}/fc": f"h.{i}" for i in range(11)}, {name: theirs[name] for name in order}, ours)


def test_tables_that_do_not_fit_are_named(tmp_path):
    params = {"fc": {"kernel": numbers(2, 3)}}
    out = lambda table, params=params: export(
        Trained(print, params, {}), Layout(table=table, config={}), folder=tmp_path / "out"
    )
    with pytest.raises(UserError, match="the layout has no name for fc/kernel. Did you mean 'fcs'"):
        out({"fcs": "fc"})
    with pytest.raises(UserError, match="no name for fc/gamma. Add an entry for this array"):
        out({"fc": "fc"}, {"fc": {"gamma": numbers(2)}})
    with pytest.raises(UserError, match=r"does not fit fc/kernel: .* cannot transform the shape \(2, 3\)"):
        out({"fc": At("fc", shape=(7,))})
    with pytest.raises(UserError, match="does not fit fc/kernel"):
        out({"fc": At("fc", axes=(0, 0))})
    assert not (tmp_path / "out").exists()
