import jax
import numpy as np

from research.model import from_nnx
from research.models.strided_cnn import StridedCNN, windows

RNG = np.random.default_rng(0)


def test_a_product_with_windows_is_a_convolution():
    for height, width in ((6, 8), (7, 5)):
        x = RNG.normal(size=(2, height, width, 3)).astype(np.float32)
        kernel = RNG.normal(size=(4, 4, 3, 5)).astype(np.float32)
        expected = jax.lax.conv_general_dilated(
            x, kernel, (2, 2), [(1, 1 + height % 2), (1, 1 + width % 2)], dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        # The channels of a window go by 2 x 2 block, then by the pixel in it.
        flat = kernel.reshape(2, 2, 2, 2, 3, 5).transpose(0, 2, 1, 3, 4, 5).reshape(48, 5)
        found = windows(x) @ flat
        assert found.shape == (2, -(-height // 2), -(-width // 2), 5)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_logits():
    model = from_nnx(lambda rngs: StridedCNN((28, 28, 1), channels=(4, 6, 8), num_classes=7, rngs=rngs))
    params, stats = model.init(jax.random.key(0))
    logits, changed = model.apply(params, stats, RNG.normal(size=(3, 28, 28, 1)).astype(np.float32), train=True)
    assert logits.shape == (3, 7) and not stats and not changed
    assert params["head"]["kernel"].shape == (4 * 4 * 8, 7)
    assert "conv_general_dilated" not in str(
        jax.make_jaxpr(lambda x: model.apply(params, stats, x)[0])(np.ones((1, 28, 28, 1)))
    )
