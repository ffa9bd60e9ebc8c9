"""A network as a chain of its named stages: running them, and checking that they are all of it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor, nn

from jcl.errors import UsageError
from jcl.parts import frozen

__all__ = ["Plan", "Sizes", "measure", "run_decoder_stage", "run_encoder"]


@dataclass(frozen=True)
class Plan:
    """Which submodules run in what order; a decoder stage is a function and the names of what it is called with."""

    encoder: tuple[str, ...]
    decoder: tuple[tuple[Callable[..., Tensor], tuple[str, ...]], ...]
    head: str

    @property
    def names(self) -> tuple[str, ...]:
        """All submodules, in the order of the plan."""
        return (*self.encoder, *(name for _, names in self.decoder for name in names), self.head)


@dataclass(frozen=True)
class Sizes:
    """What a dry run finds: channels of each stage, and height over that of the bottleneck."""

    stride: int
    encoder: tuple[int, ...]
    decoder: tuple[int, ...]


def run_encoder(module: nn.Module, plan: Plan, x: Tensor) -> list[Tensor]:
    """Output of every encoder stage, each called with that of the one before."""
    features: list[Tensor] = []
    for name in plan.encoder:
        x = module.get_submodule(name)(x)
        features.append(x)
    return features


def run_decoder_stage(module: nn.Module, plan: Plan, stage: int, x: Tensor, skip: Tensor) -> Tensor:
    """Output of decoder stage number `stage`, from 0."""
    call, names = plan.decoder[stage]
    return call(*(module.get_submodule(name) for name in names), x, skip)


def measure(module: nn.Module, plan: Plan, in_channels: int) -> Sizes:
    """Run the network on a small image, then its stages one by one, and compare.

    Raises:
        UsageError: see `jcl.adapter.adapt`.
    """
    side = 2 * 2 ** len(plan.encoder)
    like = next(module.parameters())
    image = torch.rand(2, in_channels, side, side, generator=Generator().manual_seed(0)).to(like)
    with frozen(module, [""]):
        whole, order = _run_whole(module, plan, image)
        _check_order(module, plan, order)
        features = _check_encoder(module, plan, image)
        decoded = _check_decoder(module, plan, features)
        logits = module.get_submodule(plan.head)(decoded[-1])
    if logits.shape != whole.shape or not torch.allclose(logits, whole, rtol=1e-4, atol=1e-4):
        raise UsageError(
            f"the stages give another output than {type(module).__name__} itself: it computes something between them, "
            "for which a decoder stage can be a function (docs/backbones.md)"
        )
    if logits.shape[2:] != image.shape[2:]:
        raise UsageError(f"{plan.head} gives {_size(logits)} pixels for an image of {_size(image)}; they must be equal")
    return Sizes(
        stride=side // features[-1].shape[2],
        encoder=tuple(f.shape[1] for f in features),
        decoder=tuple(d.shape[1] for d in decoded),
    )


def _run_whole(module: nn.Module, plan: Plan, image: Tensor) -> tuple[Tensor, list[str]]:
    """The network's own output, and the names of the plan in the order in which it called them."""
    order: list[str] = []
    names = {id(module.get_submodule(name)): name for name in plan.names}

    def note(submodule: nn.Module, _: Any) -> None:
        order.append(names[id(submodule)])

    hooks = [module.get_submodule(name).register_forward_pre_hook(note) for name in plan.names]
    try:
        output = module(image)
    except Exception as error:
        raise UsageError(
            f"{type(module).__name__} does not run on an image of {image.shape[1]} channels and {_size(image)} pixels "
            f"({_line(error)}); is {plan.encoder[0]} the first encoder stage, and in_channels right?"
        ) from error
    finally:
        for hook in hooks:
            hook.remove()
    logits = output[0] if isinstance(output, (tuple, list)) else output
    if not isinstance(logits, Tensor):
        raise UsageError(f"{type(module).__name__} returns a {type(logits).__name__}, where logits are needed")
    return logits, order


def _check_order(module: nn.Module, plan: Plan, order: list[str]) -> None:
    for name in plan.names:
        if name not in order:
            inner = [f"{name}.{child}" for child, _ in module.get_submodule(name).named_children()]
            hint = f"; perhaps {' or '.join(inner[:3])} is meant" if inner else ""
            raise UsageError(f"{type(module).__name__} does not call its {name} in a forward pass{hint}")
    stages = [(name,) for name in plan.encoder] + [names for _, names in plan.decoder] + [(plan.head,)]
    places = [max(map(order.index, names)) for names in stages]
    if places != sorted(places):
        ran = [names for _, names in sorted(zip(places, stages, strict=True))]
        raise UsageError(
            f"{type(module).__name__} runs its stages in another order: {', '.join('+'.join(names) for names in ran)}"
        )


def _check_encoder(module: nn.Module, plan: Plan, image: Tensor) -> list[Tensor]:
    try:
        features = run_encoder(module, plan, image)
    except Exception as error:
        raise UsageError(f"the encoder stages cannot be called one after the other: {_line(error)}") from error
    for name, before, after in zip(plan.encoder[1:], features, features[1:], strict=False):
        if [2 * size for size in after.shape[2:]] != list(before.shape[2:]):
            raise UsageError(
                f"{name} gives {_size(after)} pixels for {_size(before)}; each encoder stage but the first halves them"
            )
    return features


def _check_decoder(module: nn.Module, plan: Plan, features: list[Tensor]) -> list[Tensor]:
    *skips, x = features
    decoded: list[Tensor] = []
    for stage, (_, names) in enumerate(plan.decoder):
        name, before = "+".join(names), x
        try:
            x = run_decoder_stage(module, plan, stage, x, skips.pop())
        except Exception as error:
            raise UsageError(f"decoder stage {name} cannot be called with x and skip: {_line(error)}") from error
        if list(x.shape[2:]) != [2 * size for size in before.shape[2:]]:
            raise UsageError(f"{name} gives {_size(x)} pixels for {_size(before)}; each decoder stage doubles them")
        decoded.append(x)
    return decoded


def _size(x: Tensor) -> str:
    return " x ".join(map(str, x.shape[2:]))


def _line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
