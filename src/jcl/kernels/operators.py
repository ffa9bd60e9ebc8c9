"""How a kernel becomes an operator of PyTorch, `torch.ops.jcl.NAME`, which `torch.compile` and `torch.export` keep."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

__all__ = ["call", "differentiable", "empty_channels_last", "operator"]

Function = Callable[..., Any]

_direct: dict[str, Function] = {}


def call(name: str, *inputs: Any) -> Any:
    """An operator of tensors; without PyTorch's dispatcher where nobody looks on.

    Its way through Python takes 20 to 80 microseconds, a twentieth of a small training step.

    Args:
        name: without namespace.
        inputs: all of them, a tensor first.
    """
    traced = torch.compiler.is_compiling() or type(inputs[0]) is not Tensor or is_in_torch_dispatch_mode()
    return getattr(torch.ops.jcl, name).default(*inputs) if traced else _direct[name](*inputs)


def operator(schema: str, *, fake: Function) -> Callable[[Function], Function]:
    """Register a function as an operator for tensors on a CPU, which returns new tensors and changes none.

    Args:
        schema: name, arguments and results, in the schema language of `torch.library`.
        fake: makes empty results of the shapes, types and layouts that the function's have.
    """
    name, brace, rest = schema.partition("(")

    def register(function: Function) -> Function:
        torch.library.define(f"jcl::{name}", brace + rest, tags=torch.Tag.pt2_compliant_tag)
        torch.library.impl(f"jcl::{name}", "cpu", function)
        torch.library.register_fake(f"jcl::{name}", fake)
        _direct[name] = function
        return function

    return register


def differentiable(name: str, save: Function) -> Callable[[Function], Function]:
    """Register a function as the backward pass of an operator: `backward(ctx, *gradients)`, differentiable once.

    Args:
        name: of the operator.
        save: `save(ctx, inputs, output)`, which keeps what the backward pass needs.
    """
    compute = _direct[name]

    def setup(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.set_materialize_grads(False)  # no zeros for outputs without a gradient, such as moments
        save(ctx, inputs, output)

    def forward(ctx: Any, *inputs: Any) -> Any:
        output = compute(*inputs)
        setup(ctx, inputs, output)
        return output

    def register(function: Function) -> Function:
        backward = once_differentiable(function)
        torch.library.register_autograd(f"jcl::{name}", backward, setup_context=setup)
        methods = {"forward": staticmethod(forward), "backward": staticmethod(backward)}
        with_gradient: Any = type(name, (torch.autograd.Function,), methods)
        _direct[name] = lambda *inputs: (with_gradient.apply if torch.is_grad_enabled() else compute)(*inputs)
        return function

    return register


def empty_channels_last(like: Tensor, *shape: int | torch.SymInt) -> Tensor:
    """Of another shape, in channels-last layout."""
    return torch.empty(shape, dtype=like.dtype, device=like.device, memory_format=torch.channels_last)
