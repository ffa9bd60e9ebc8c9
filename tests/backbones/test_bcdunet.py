"""BCDU-Net against the authors' layers, a ConvLSTM worked out pixel by pixel, and Keras' own."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from jcl.backbones.bcdunet import BCDUNet, DecoderBlock, DenseBottleneck, SkipLSTM

PUBLISHED_LAYERS = {
    "encoder.blocks": [640, 36928, 73856, 147584, 295168, 590080],
    "encoder.bottleneck": [1180160, 2359808, 2359808, 2359808, 4719104, 2359808],
    "decoder.0": [524544, 1024, 1769984, 295168, 590080],
    "decoder.1": [131200, 512, 442624, 73856, 147584],
    "decoder.2": [32832, 256, 110720, 18496, 36928],
    "head": [1154, 3],
}
"""Keras' summary of the authors' `BCDU_net_D3` (github.com/rezazad68/BCDU-Net), 20,659,717 in all.

Of a batch normalisation's four values per channel two are running statistics, which PyTorch does not count.
"""

STATISTICS = {"decoder.0": 512, "decoder.1": 256, "decoder.2": 128}


def parameters(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_one_direction_has_the_layers_of_the_authors_program():
    assert sum(map(sum, PUBLISHED_LAYERS.values())) == 20_659_717
    net = BCDUNet(classes=1, bidirectional=False)
    for part in [*STATISTICS, "encoder.blocks", "encoder.bottleneck"]:
        counted = parameters(net.get_submodule(part))
        assert counted == sum(PUBLISHED_LAYERS[part]) - STATISTICS.get(part, 0), part
    assert parameters(net) == 20_659_717 - sum(STATISTICS.values()) - (1154 + 3) + (64 + 1)


def test_the_second_direction_adds_its_convlstm_and_the_convolution_that_joins():
    one, both = (BCDUNet(width=64, bidirectional=b) for b in (False, True))
    second = 1769984 + 442624 + 110720
    joins = sum(9 * 2 * hidden * hidden + hidden for hidden in (128, 64, 32))
    assert parameters(both) - parameters(one) == second + joins == 2_710_624


def test_shapes_of_every_level():
    net = BCDUNet(width=4)
    features = net.encode(torch.zeros(2, 1, 32, 48))
    assert [tuple(f.shape) for f in features] == [(2, 4, 32, 48), (2, 8, 16, 24), (2, 16, 8, 12), (2, 32, 4, 6)]
    shapes = [tuple(net.decode(features, blocks=k).shape) for k in range(4)]
    assert shapes == [(2, 32, 4, 6), (2, 16, 8, 12), (2, 8, 16, 24), (2, 4, 32, 48)]


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def slow_convolution(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """3x3 with zeros around, one output pixel at a time."""
    padded = np.pad(x, [(0, 0), (1, 1), (1, 1)])
    out = np.empty((len(weight), *x.shape[1:]))
    for row, column in np.ndindex(*x.shape[1:]):
        out[:, row, column] = np.einsum("ocij,cij->o", weight, padded[:, row : row + 3, column : column + 3])
    return out


def slow_convlstm(sequence: list[np.ndarray], inputs: np.ndarray, recurrent: np.ndarray, bias: np.ndarray):
    """Last hidden state of one direction on one slice; the equations of Shi et al. (2015) without peepholes."""
    w_xi, w_xf, w_xc, w_xo = np.split(inputs, 4)
    w_hi, w_hf, w_hc, w_ho = np.split(recurrent, 4)
    b_i, b_f, b_c, b_o = np.split(bias[:, None, None], 4)
    h = c = np.zeros((len(w_xi), *sequence[0].shape[1:]))
    for x in sequence:
        i = sigmoid(slow_convolution(x, w_xi) + slow_convolution(h, w_hi) + b_i)
        f = sigmoid(slow_convolution(x, w_xf) + slow_convolution(h, w_hf) + b_f)
        o = sigmoid(slow_convolution(x, w_xo) + slow_convolution(h, w_ho) + b_o)
        c = f * c + i * np.tanh(slow_convolution(x, w_xc) + slow_convolution(h, w_hc) + b_c)
        h = o * np.tanh(c)
    return h


@pytest.mark.parametrize("bidirectional", [False, True])
def test_convlstm_against_its_equations(bidirectional):
    generator = torch.Generator().manual_seed(0)
    layer = SkipLSTM(6, bidirectional=bidirectional).double()
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter, std=0.5, generator=generator)
    skip, up = torch.randn(2, 2, 6, 4, 5, dtype=torch.float64, generator=generator)
    weights = [t.detach().numpy() for t in (layer.inputs.weight, layer.recurrent.weight, layer.inputs.bias)]
    for index in range(2):
        s, u = skip[index].numpy(), up[index].numpy()
        if bidirectional:
            forward, backward = zip(*(np.split(w, 2) for w in weights), strict=True)
            states = np.concatenate([slow_convlstm([s, u], *forward), slow_convlstm([u, s], *backward)])
            bias = layer.join.bias.detach().numpy()[:, None, None]
            wanted = np.tanh(slow_convolution(states, layer.join.weight.detach().numpy()) + bias)
        else:
            wanted = slow_convlstm([u, s], *weights)
        with torch.no_grad():
            assert np.allclose(layer(skip, up)[index].numpy(), wanted, rtol=1e-10, atol=1e-12)


def test_one_direction_against_keras():
    """Recorded: Keras 3.15.1, ConvLSTM2D(1, 3, padding="same", go_backwards=True), sigmoid, float64."""
    recorded = [
        [0.00873390256085101, 0.061384485614948, -0.018007247096128533],
        [0.31352893713350455, 0.13242513588799257, -0.10089085527503515],
    ]
    wave = lambda *shape: torch.arange(np.prod(shape), dtype=torch.float64).sin().view(shape)  # noqa: E731
    layer = SkipLSTM(2, bidirectional=False).double()
    layer.load_state_dict(
        {
            "inputs.weight": wave(3, 3, 2, 4).permute(3, 2, 0, 1),
            "recurrent.weight": wave(3, 3, 1, 4).permute(3, 2, 0, 1),
            "inputs.bias": wave(4),
        }
    )
    skip, up = wave(2, 3, 2), torch.cos(3 * wave(2, 3, 2))
    with torch.no_grad():
        state = layer(skip.permute(2, 0, 1)[None], up.permute(2, 0, 1)[None])
    assert np.allclose(state[0, 0].numpy(), recorded, rtol=1e-12)


def test_a_block_reads_the_upsampled_map_before_the_skip():
    generator = torch.Generator().manual_seed(0)
    block = DecoderBlock(8, 4, dropout=0.5, bidirectional=False).double().eval()
    x = torch.randn(1, 8, 2, 3, dtype=torch.float64, generator=generator)
    skip = torch.randn(1, 4, 4, 6, dtype=torch.float64, generator=generator)
    with torch.no_grad():
        # in evaluation a fresh normalisation only divides by the root of 1 + epsilon
        up = F.conv_transpose2d(x, block.up[0].weight, block.up[0].bias, stride=2).clamp(min=0) / (1 + 1e-5) ** 0.5
        weights = [
            t.numpy() for t in (block.merge.inputs.weight, block.merge.recurrent.weight, block.merge.inputs.bias)
        ]
        state = torch.from_numpy(slow_convlstm([up[0].numpy(), skip[0].numpy()], *weights))[None]
        assert torch.allclose(block(x, skip), block.units(state), rtol=1e-10, atol=1e-12)


def test_each_dense_block_takes_all_before_it():
    bottleneck = DenseBottleneck(3, dropout=0.5).eval()

    def block(index: int, x: torch.Tensor) -> torch.Tensor:
        for layer in (0, 2):
            convolution = bottleneck.blocks[index][layer]
            x = F.conv2d(x, convolution.weight, convolution.bias, padding=1).clamp(min=0)
        return x

    x = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    first = block(0, x)
    second = block(1, first)
    assert torch.allclose(bottleneck(x), block(2, torch.cat([second, first], dim=1)))


def test_dropout_is_a_setting():
    x = torch.rand(2, 1, 16, 16)
    rates = {n: m.p for n, m in BCDUNet(width=2).named_modules() if isinstance(m, torch.nn.Dropout) and m.p}
    assert rates == {"encoder.bottleneck.dropout": 0.5, "decoder.0.dropout": 0.5}
    without, with_dropout = BCDUNet(width=4, dropout=0.0), BCDUNet(width=4, dropout=0.5)
    assert torch.equal(without(x), without(x))
    assert not torch.equal(with_dropout(x), with_dropout(x))


def test_weights_begin_as_those_of_keras():
    layer = BCDUNet(width=8).decoder[0].merge
    assert torch.equal(layer.inputs.bias.view(2, 4, 16), torch.tensor([0.0, 1, 0, 0]).view(1, 4, 1).expand(2, 4, 16))
    for kernel in layer.recurrent.weight.detach().chunk(2):
        rows = kernel.flatten(1)
        assert torch.allclose(rows @ rows.T, torch.eye(64), atol=1e-5)


def test_activations_do_not_vanish_with_depth():
    """He's variance keeps the mean square through a ReLU; PyTorch's own would take off a factor of 6 a layer."""
    torch.manual_seed(0)
    features = BCDUNet(width=32).eval().encode(torch.randn(1, 1, 64, 64))
    assert 0.1 < features[-1].square().mean() < 10
