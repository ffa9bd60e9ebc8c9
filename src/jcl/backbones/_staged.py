"""A network as a chain of its named parts: running them, and checking that they are all of it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor, nn

from jcl.backbones._layers import run_levels
from jcl.backbones._surgery import frozen
from jcl.errors import UsageError

__all__ = ["Layout", "Sizes", "measure", "run_decoder_block", "run_encoder"]


@dataclass(frozen=True)
class Layout:
    """Which submodules run in what order; a decoder block is a function and the names of what it is called with."""

    encoder: tuple[str, ...]
    decoder: tuple[tuple[Callable[..., Tensor], tuple[str, ...]], ...]
    head: str

    @property
    def names(self) -> tuple[str, ...]:
        """All submodules, in the order of the layout."""
        return (*self.encoder, *(name for _, names in self.decoder for name in names), self.head)


@dataclass(frozen=True)
class Sizes:
    """What a dry run finds: channels of each level and block, and height over that of the bottleneck."""

    stride: int
    encoder: tuple[int, ...]
    decoder: tuple[int, ...]


def run_encoder(module: nn.Module, layout: Layout, x: Tensor) -> list[Tensor]:
    """Output of every encoder level, each called with that of the one before."""
    return run_levels(map(module.get_submodule, layout.encoder), x)


def run_decoder_block(module: nn.Module, layout: Layout, block: int, x: Tensor, skip: Tensor) -> Tensor:
    """Output of decoder block number `block`, from 0."""
    call, names = layout.decoder[block]
    return call(*(module.get_submodule(name) for name in names), x, skip)


def measure(module: nn.Module, layout: Layout, in_channels: int) -> Sizes:
    """Run the network on a small image, then its parts one by one, and compare.

    Raises:
        UsageError: see `jcl.backbones.adapt`.
    """
    side = 2 * 2 ** len(layout.encoder)
    like = next(module.parameters())
    image = torch.rand(2, in_channels, side, side, generator=Generator().manual_seed(0)).to(like)
    with frozen(module, [""]):
        whole, order = _run_whole(module, layout, image)
        _check_order(module, layout, order)
        features = _check_encoder(module, layout, image)
        decoded = _check_decoder(module, layout, features)
        logits = module.get_submodule(layout.head)(decoded[-1])
    if logits.shape != whole.shape or not torch.allclose(logits, whole, rtol=1e-4, atol=1e-4):
        raise UsageError(
            f"the parts give another output than {type(module).__name__} itself: it computes something between them, "
            "for which a decoder block can be a function (docs/backbones.md)"
        )
    if logits.shape[2:] != image.shape[2:]:
        raise UsageError(
            f"{layout.head} gives {_size(logits)} pixels for an image of {_size(image)}; they must be equal"
        )
    return Sizes(
        stride=side // features[-1].shape[2],
        encoder=tuple(f.shape[1] for f in features),
        decoder=tuple(d.shape[1] for d in decoded),
    )


def _run_whole(module: nn.Module, layout: Layout, image: Tensor) -> tuple[Tensor, list[str]]:
    """The network's own output, and the names of the layout in the order in which it called them."""
    order: list[str] = []
    names = {id(module.get_submodule(name)): name for name in layout.names}

    def note(submodule: nn.Module, _: Any) -> None:
        order.append(names[id(submodule)])

    hooks = [module.get_submodule(name).register_forward_pre_hook(note) for name in layout.names]
    try:
        output = module(image)
    except Exception as error:
        raise UsageError(
            f"{type(module).__name__} does not run on an image of {image.shape[1]} channels and {_size(image)} pixels "
            f"({_line(error)}); is {layout.encoder[0]} the first encoder level, and in_channels right?"
        ) from error
    finally:
        for hook in hooks:
            hook.remove()
    logits = output[0] if isinstance(output, (tuple, list)) else output
    if not isinstance(logits, Tensor):
        raise UsageError(f"{type(module).__name__} returns a {type(logits).__name__}, where logits are needed")
    return logits, order


def _check_order(module: nn.Module, layout: Layout, order: list[str]) -> None:
    for name in layout.names:
        if name not in order:
            inner = [f"{name}.{child}" for child, _ in module.get_submodule(name).named_children()]
            hint = f"; perhaps {' or '.join(inner[:3])} is meant" if inner else ""
            raise UsageError(f"{type(module).__name__} does not call its {name} in a forward pass{hint}")
    parts = [(name,) for name in layout.encoder] + [names for _, names in layout.decoder] + [(layout.head,)]
    places = [max(map(order.index, names)) for names in parts]
    if places != sorted(places):
        ran = [names for _, names in sorted(zip(places, parts, strict=True))]
        raise UsageError(
            f"{type(module).__name__} runs its parts in another order: {', '.join('+'.join(names) for names in ran)}"
        )


def _check_encoder(module: nn.Module, layout: Layout, image: Tensor) -> list[Tensor]:
    try:
        features = run_encoder(module, layout, image)
    except Exception as error:
        raise UsageError(f"the encoder levels cannot be called one after the other: {_line(error)}") from error
    for name, before, after in zip(layout.encoder[1:], features, features[1:], strict=False):
        if [2 * size for size in after.shape[2:]] != list(before.shape[2:]):
            raise UsageError(
                f"{name} gives {_size(after)} pixels for {_size(before)}; each encoder level but the first halves them"
            )
    return features


def _check_decoder(module: nn.Module, layout: Layout, features: list[Tensor]) -> list[Tensor]:
    *skips, x = features
    decoded: list[Tensor] = []
    for block, (_, names) in enumerate(layout.decoder):
        name, before = "+".join(names), x
        try:
            x = run_decoder_block(module, layout, block, x, skips.pop())
        except Exception as error:
            raise UsageError(f"decoder block {name} cannot be called with x and skip: {_line(error)}") from error
        if list(x.shape[2:]) != [2 * size for size in before.shape[2:]]:
            raise UsageError(f"{name} gives {_size(x)} pixels for {_size(before)}; each decoder block doubles them")
        decoded.append(x)
    return decoded


def _size(x: Tensor) -> str:
    return " x ".join(map(str, x.shape[2:]))


def _line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
