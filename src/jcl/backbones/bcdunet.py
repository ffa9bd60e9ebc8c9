"""BCDU-Net: ConvLSTM on the skips, dense convolutions below (Azad et al., 2019, arXiv:1909.00166).

Layers and sizes are those of the authors' program (github.com/rezazad68/BCDU-Net, `BCDU_net_D3`). What is
otherwise:

- The program runs its ConvLSTM in one direction (`go_backwards`: first the upsampled map, then the skip); the
  paper runs both and joins them. Both is the default here; `bidirectional=False` is the program.
- The gates have no peephole connections, as in the program (Keras' `ConvLSTM2D`): their weights would have
  the size of the image, and the network could take no other. The gates are sigmoids as in the equations of
  Shi et al. (2015, arXiv:1506.04214); Keras 2 has a piecewise linear function in their place by default.
- The head is one 1x1 convolution. The program squeezes through 2 channels first, for its one class.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from jcl.backbones._base import Backbone
from jcl.backbones._layers import run_levels

__all__ = ["BCDUNet"]

LEVELS = 3
DENSE_BLOCKS = 3


def conv_units(in_channels: int, out_channels: int) -> nn.Sequential:
    """Two times Conv3x3 (padding 1) -> ReLU; this network normalises behind the up-convolutions alone."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(out_channels, out_channels, 3, padding=1),
        nn.ReLU(inplace=True),
    )


class DenseBottleneck(nn.Module):
    """Blocks of two conv units and a dropout; each takes the outputs of all blocks before it, the last first.

    The first takes `in_channels`; all return twice as many.
    """

    def __init__(self, in_channels: int, dropout: float) -> None:
        super().__init__()
        channels = 2 * in_channels
        self.blocks = nn.ModuleList(
            conv_units(index * channels if index else in_channels, channels) for index in range(DENSE_BLOCKS)
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h w"]:
        outputs: list[Tensor] = []
        for block in self.blocks:
            x = self.dropout(block(torch.cat(outputs, dim=1) if outputs else x))
            outputs.insert(0, x)
        return x


class Encoder(nn.Module):
    """Three blocks of two conv units, each followed by a 2x2 max pooling, then the dense bottleneck."""

    def __init__(self, in_channels: int, width: int, dropout: float) -> None:
        super().__init__()
        widths = [width * 2**level for level in range(LEVELS)]
        self.blocks = nn.ModuleList(
            conv_units(before, after) for before, after in zip([in_channels, *widths], widths, strict=False)
        )
        self.pool = nn.MaxPool2d(2)
        self.bottleneck = DenseBottleneck(widths[-1], dropout)

    def forward(self, x: Float[Tensor, "b c h w"]) -> list[Tensor]:
        return run_levels([*self.blocks, self.bottleneck], x, self.pool)


def lstm_step(
    gates: Float[Tensor, "b g h w"], cell: Float[Tensor, "b f h w"] | None
) -> tuple[Float[Tensor, "b f h w"], Float[Tensor, "b f h w"]]:
    """Hidden and cell state, from the sums in the four gates (input, forget, cell, output) and the cell state before.

    i, f, o = sigmoid; c' = f c + i tanh(g); h' = o tanh(c'). With None the cell state before is zero.
    """
    enter, forget, new, leave = gates.chunk(4, dim=1)
    entering = enter.sigmoid() * new.tanh()
    cell = entering if cell is None else forget.sigmoid() * cell + entering
    return leave.sigmoid() * cell.tanh(), cell


class SkipLSTM(nn.Module):
    """ConvLSTM (Shi et al., 2015, without peepholes) over the sequence (skip, upsampled), 3x3 convolutions.

    Forward reads the skip first, backward the upsampled map; of each the last hidden state H counts. Both
    are joined by Y = tanh(W * [H_forward, H_backward] + b). With one direction (backward) its H is the
    output. Channels of H and Y are half those of the maps.
    """

    def __init__(self, channels: int, *, bidirectional: bool) -> None:
        super().__init__()
        hidden = max(channels // 2, 1)
        self.directions = 2 if bidirectional else 1
        gates = 4 * hidden * self.directions
        self.inputs = nn.Conv2d(channels, gates, 3, padding=1)
        self.recurrent = nn.Conv2d(hidden * self.directions, gates, 3, padding=1, groups=self.directions, bias=False)
        self.join = nn.Conv2d(2 * hidden, hidden, 3, padding=1) if bidirectional else None
        self.out_channels = hidden

    def forward(self, skip: Float[Tensor, "b c h w"], up: Float[Tensor, "b c h w"]) -> Float[Tensor, "b f h w"]:
        # The convolutions of the inputs do not wait for a state: all steps, gates and directions in one call.
        of_skip, of_up = self.inputs(torch.cat([skip, up])).split(skip.shape[0])
        first = self.by_direction(forward=of_skip, backward=of_up)
        second = self.by_direction(forward=of_up, backward=of_skip)
        states = [lstm_step(gates, None) for gates in first]
        recurrent = self.recurrent(torch.cat([h for h, _ in states], dim=1)).chunk(self.directions, dim=1)
        last = [
            lstm_step(gates + of_hidden, cell)[0]
            for gates, of_hidden, (_, cell) in zip(second, recurrent, states, strict=True)
        ]
        return last[0] if self.join is None else self.join(torch.cat(last, dim=1)).tanh()

    def by_direction(self, *, forward: Tensor, backward: Tensor) -> list[Tensor]:
        """Of the gates of all directions, each direction's own; backward is the last."""
        if self.directions == 1:
            return [backward]
        return [forward.chunk(2, dim=1)[0], backward.chunk(2, dim=1)[1]]


class DecoderBlock(nn.Module):
    """ConvTranspose2x2 (stride 2), BatchNorm, ReLU; ConvLSTM with the skip; two conv units.

    `dropout` is that of the skip.
    """

    def __init__(self, in_channels: int, out_channels: int, *, dropout: float, bidirectional: bool) -> None:
        super().__init__()
        self.up = nn.Sequential(
            nn.ConvTranspose2d(in_channels, out_channels, 2, stride=2),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
        )
        self.dropout = nn.Dropout(dropout)
        self.merge = SkipLSTM(out_channels, bidirectional=bidirectional)
        self.units = conv_units(self.merge.out_channels, out_channels)

    def forward(self, x: Float[Tensor, "b c h w"], skip: Float[Tensor, "b s H W"]) -> Float[Tensor, "b s H W"]:
        return self.units(self.merge(self.dropout(skip), self.up(x)))


def initialise(module: nn.Module) -> None:
    """As the authors' program and Keras do it: He normal, orthogonal recurrent kernels, zero biases, forget gates 1.

    Without batch normalisation PyTorch's own, smaller weights would let the activations vanish with depth.
    """
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, SkipLSTM):  # `apply` comes to a module after its children
        for of_direction in module.recurrent.weight.data.chunk(module.directions):
            nn.init.orthogonal_(of_direction)
        if module.inputs.bias is not None:
            module.inputs.bias.data.view(module.directions, 4, -1)[:, 1] = 1.0


class BCDUNet(Backbone):
    """Encoder of three blocks and a densely connected bottleneck, decoder of three blocks, and a 1x1 head.

    Channels are `width`, 2, 4 times it, and 8 times it in the bottleneck (paper: width 64, three dense
    blocks). Any image size is taken: it is padded with zeros to a multiple of 8, and `forward` crops its
    output back.

    Args:
        dropout: probability behind each dense block and on the deepest skip, as in the authors' program.
        bidirectional: ConvLSTM in both directions (the paper), or backward alone (the authors' program).

    Examples:
        >>> net = BCDUNet(in_channels=1, classes=4, width=8)
        >>> net(torch.zeros(2, 1, 50, 70)).shape
        torch.Size([2, 4, 50, 70])
    """

    stride = 2**LEVELS
    blocks = LEVELS

    first_weights = staticmethod(initialise)

    def __init__(
        self,
        *,
        in_channels: int = 1,
        classes: int = 2,
        width: int = 64,
        dropout: float = 0.5,
        bidirectional: bool = True,
    ) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.feature_channels = tuple(width * 2**level for level in range(LEVELS + 1))
        self.encoder = Encoder(in_channels, width, dropout)
        self.decoder = nn.ModuleList(
            DecoderBlock(
                width * 2 ** (level + 1),
                width * 2**level,
                dropout=dropout if level == LEVELS - 1 else 0.0,
                bidirectional=bidirectional,
            )
            for level in reversed(range(LEVELS))
        )
        self.head = nn.Conv2d(width, classes, 1)
        self.apply(self.first_weights)
