"""Networks whose first weights let a gradient reach all of them."""

from torch import nn

from jcl.backbones._nnunet import ResidualBlock

__all__ = ["awake"]


def awake(network: nn.Module) -> nn.Module:
    """The network, with residual blocks that add something: at first they add nothing, and nothing reaches them."""
    for module in network.modules():
        if isinstance(module, ResidualBlock):
            nn.init.constant_(module.conv2.norm.weight, 0.5)
    return network
