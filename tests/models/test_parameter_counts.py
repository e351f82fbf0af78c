"""Parameter counts, by shape alone, against the numbers that papers and reference implementations publish."""

import pytest

from research.errors import UserError
from research.models import llama, t5, vit
from research.models.cnn import CNN
from research.models.elmo import ELMo
from research.models.gpt import GPT
from research.models.hierarchical_attention import HierarchicalAttention
from research.models.llama import LLaMA
from research.models.resnet import cifar_resnet, imagenet_resnet
from research.models.seq2seq import AdditiveSeq2Seq, MultiplicativeSeq2Seq
from research.models.t5 import T5
from research.models.vit import ViT
from tests.models.fresh import size, size_of_blocks


def gru(features, width):
    return 3 * width * (features + width + 2)


def rnnsearch(embedding, vocabulary, width, maxout):
    attention = width * width + 2 * width * width + width
    start = width * width + width
    hidden = (3 * width + embedding + 1) * 2 * maxout
    cells = 2 * gru(embedding, width) + gru(embedding + 2 * width, width)
    return 2 * vocabulary * embedding + cells + start + attention + hidden + (maxout + 1) * vocabulary


lstm = 4 * 1000 * (1000 + 1000 + 1)  # with one bias; input feeding adds 4,000,000 to one layer
han = 2 * gru(200, 50) + 2 * gru(100, 50) + 2 * (100 * 100 + 100 + 100) + 101 * 5


@pytest.mark.parametrize(
    ("build", "count"),
    [
        (lambda rngs: cifar_resnet(20, rngs=rngs), 269_722),  # He et al. 2016, table 6: 0.27 M
        (lambda rngs: cifar_resnet(56, rngs=rngs), 853_018),  # 0.85 M
        (lambda rngs: imagenet_resnet(18, rngs=rngs), 11_689_512),  # torchvision
        (lambda rngs: imagenet_resnet(50, rngs=rngs), 25_557_032),
        (lambda rngs: CNN(rngs=rngs), 3_818),
        # By the equations of the papers; ELMo without its output layer is the 93.6 M that the authors publish.
        (lambda rngs: AdditiveSeq2Seq(rngs=rngs), rnnsearch(620, 30_000, 1000, 500)),
        (lambda rngs: MultiplicativeSeq2Seq(rngs=rngs), 3 * 50_000_000 + 50_000 + 8 * lstm + 4_000_000 + 3_000_000),
        (lambda rngs: ELMo(vocabulary=1, rngs=rngs), 93_600_864 + 513),
        (lambda rngs: HierarchicalAttention(vocabulary=10, num_classes=5, rngs=rngs), 2000 + han),
    ],
)
def test_parameters(build, count):
    assert size(build) == count


@pytest.mark.parametrize(
    ("network", "sizes", "count"),
    [
        (ViT, vit.TI, 5_717_416),  # timm
        (ViT, vit.S, 22_050_664),
        (ViT, vit.B, 86_567_656),
        (GPT, {}, 124_439_808),  # GPT-2 small
        (LLaMA, llama.LLAMA2_7B, 6_738_415_616),
        (LLaMA, llama.LLAMA3_8B, 8_030_261_248),
        (LLaMA, llama.LLAMA32_1B, 1_235_814_400),
        (LLaMA, llama.TINYLLAMA_1B, 1_100_048_384),
        (LLaMA, llama.MISTRAL_7B, 7_241_732_096),
        (LLaMA, llama.QWEN2_05B, 494_032_768),
        # embedding, 28 layers of attention, SwiGLU and norms, and the last norm
        (
            LLaMA, llama.QWEN3_06B,
            151_936 * 1024 + 28 * (1024 * 128 * (16 + 8 + 8 + 16) + 3 * 1024 * 3072 + 2 * 1024 + 2 * 128) + 1024,
        ),
        (T5, t5.SMALL, 60_506_624),
        (T5, t5.BASE, 222_903_552),
        (T5, t5.LARGE, 737_668_096),
        (T5, t5.SMALL_V11, 76_961_152),
        (T5, t5.BASE_V11, 247_577_856),
    ],
)  # fmt: skip
def test_parameters_of_blocks(network, sizes, count):
    assert size_of_blocks(network, **sizes) == count


def test_a_depth_that_does_not_exist_is_an_error():
    with pytest.raises(UserError, match="of 18 layers; expected .* such as 20"):
        cifar_resnet(18)
    with pytest.raises(UserError, match="Valid: .18, 34"):
        imagenet_resnet(20)
