"""The kernels are operators as PyTorch wants them: it traces, compiles and exports networks that use them."""

import copy
from collections.abc import Callable

import jaxtyping
import pytest
import torch
from torch import Tensor, nn

from jcl.kernels import direct, pooling  # noqa: F401  registers its operators
from jcl.kernels.convolution import convolve
from jcl.kernels.exchange import use_kernels
from jcl.kernels.normalisation import moments_of
from support.onkernels import lanes

LANES = lanes()
WIDE = int(LANES % direct.CHANNELS == 0)
"""Whether convolutions in bfloat16 take so many channels."""


def image(channels: int = LANES, *, gradient: bool = True) -> Tensor:
    x = torch.randn(2, channels, 9, 14, generator=torch.Generator().manual_seed(0))
    return x.to(memory_format=torch.channels_last).requires_grad_(gradient)


def short(channels: int = LANES, *, gradient: bool = True) -> Tensor:
    return image(channels, gradient=False).bfloat16().requires_grad_(gradient)


def weight(*, gradient: bool = True) -> Tensor:
    return torch.randn(2 * LANES, LANES, 3, 3, generator=torch.Generator().manual_seed(1)).requires_grad_(gradient)


def vector(channels: int = LANES) -> Tensor:
    return torch.linspace(0.5, 2, channels).requires_grad_()


def statistics() -> tuple[Tensor, Tensor]:
    mean, variance = moments_of(image())
    return mean, variance


def places() -> Tensor:
    return torch.zeros(2, LANES, 4, 7, dtype=torch.uint8).to(memory_format=torch.channels_last)


CALLS: dict[str, Callable[[], list[tuple[object, ...]]]] = {
    "convolution": lambda: [
        (image(), weight(), None, 1.0),
        (image().detach(), weight(), vector(2 * LANES), 0.1),
        (image(), weight(gradient=False), vector(2 * LANES), 1.0),
        (image().detach().contiguous(), weight(gradient=False), None, 0.0),
        *[(short(), weight(), vector(2 * LANES), 0.1)] * WIDE,
    ],
    "convolution_backward": lambda: [
        (image(2 * LANES, gradient=False), image(gradient=False), weight(gradient=False), *asked)
        for asked in ((True, True), (True, False), (False, True))
    ] + [(short(2 * LANES, gradient=False), short(gradient=False), weight(gradient=False), True, True)] * WIDE,
    "convolution_moments": lambda: [
        (image(), weight()), (image(gradient=False), weight()), *[(short(), weight())] * WIDE,
    ],
    "normalised_convolution": lambda: [
        (x, *statistics(), vector(), vector(), weight(), 1e-5, 0.1) for x in (image(), *[short()] * WIDE)
    ],
    "normalised_convolution_backward": lambda: [
        (image(2 * LANES).detach(), image().detach(), *statistics(), vector().detach(), vector().detach(),
         weight(gradient=False), 1e-5, 0.1, asked) for asked in (True, False)
    ] + [
        (short(2 * LANES).detach(), short().detach(), *statistics(), vector().detach(), vector().detach(),
         weight(gradient=False), 1e-5, 0.1, True)
    ] * WIDE,
    "moments": lambda: [(image(gradient=False),), (short(gradient=False),)],
    "normalisation": lambda: [(x, *statistics(), vector(), vector(), 1e-5, 0.0) for x in (image(), short())],
    "normalisation_backward": lambda: [
        (x, x, *statistics(), vector().detach(), vector().detach(), 1e-5, 0.0)
        for x in (image().detach(), short().detach())
    ],
    "pooling": lambda: [(image(),), (image(gradient=False),), (short(),)],
    "pooling_backward": lambda: [
        (image().detach()[:, :, :4, :7], places(), 9, 14)
    ],
}  # fmt: skip


def test_every_operator_is_checked():
    names = (name.split("::") for name in torch._C._dispatch_get_all_op_names())
    assert {name for namespace, name in names if namespace == "jcl"} == CALLS.keys()


@pytest.mark.parametrize("name", CALLS)
def test_schema_autograd_and_fake_tensors(name):
    """With fixed and with symbolic shapes, values and gradients of what is traced beside those of what is called."""
    for arguments in CALLS[name]():
        torch.library.opcheck(getattr(torch.ops.jcl, name).default, arguments)


def network() -> nn.Module:
    """A chain, a convolution with bias and activation, a normalisation by itself, pooling, and the columns' way."""
    torch.manual_seed(0)

    def conv(*, bias: bool = False) -> nn.Conv2d:
        return nn.Conv2d(LANES, LANES, 3, padding=1, bias=bias)

    chain = nn.Sequential(conv(), nn.BatchNorm2d(LANES), nn.ReLU(inplace=True), conv(), nn.BatchNorm2d(LANES))
    mixed = nn.Sequential(conv(bias=True), nn.LeakyReLU(0.1), nn.BatchNorm2d(LANES), nn.ReLU(), nn.MaxPool2d(2))
    return nn.Sequential(chain, mixed, nn.Conv2d(LANES, 3, 1))


@pytest.fixture
def unchecked():
    """No types are checked at run time, whose random samples are what cannot be compiled."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_a_network_is_compiled_as_one_graph(backend):
    fast = network()
    use_kernels(fast)
    other = copy.deepcopy(fast)
    x = torch.randn(2, LANES, 24, 24)
    y, compiled = fast(x), torch.compile(other, fullgraph=True, backend=backend)(x)
    assert torch.equal(compiled, y)
    for result in (y, compiled):
        result.square().mean().backward()
    for one, two in zip(other.parameters(), fast.parameters(), strict=True):
        assert torch.allclose(one.grad, two.grad, atol=1e-6)
    assert all(map(torch.equal, other.buffers(), fast.buffers()))


def test_a_network_is_exported_with_the_operators_in_it():
    fast = network().eval()
    use_kernels(fast)
    slices = torch.export.Dim("slices", min=2, max=64)
    x = torch.randn(3, LANES, 48, 48)
    exported = torch.export.export(fast, (x,), dynamic_shapes=({0: slices},))
    called = {str(node.target) for node in exported.graph.nodes}
    assert {"jcl.convolution.default", "jcl.pooling.default"} <= called
    for count in (2, 5):
        x = torch.randn(count, LANES, 48, 48)
        assert torch.equal(exported.module()(x), fast(x))


def test_a_second_derivative_is_refused():
    x = image()
    (gradient,) = torch.autograd.grad(convolve(x, weight()).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()
