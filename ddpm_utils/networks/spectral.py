"""Convolution as a product of spectra: the report's 7×7 layers with a fifth of the multiplications, in float32.

A k×k convolution costs k² multiplications for each pixel and pair of channels. The Fourier transform turns it into
one complex multiplication for each frequency and pair of channels, whatever k:

    y = F⁻¹[ Σ_c F[x_c]·F[w_c] ]                                  (the convolution theorem)

Three remarks make that pay on a CPU (Zlateski et al. 2019 compare it with direct and Winograd convolution):

1. The transform is periodic: what leaves an image at one border comes back at the other. An image of 28 pixels and a
   kernel that reaches 3 pixels to each side do not notice on a circle of 28 + 3: 31 × 31 frequencies are enough.
2. At this size no *fast* transform is needed: the DFT is a small matrix, and a CPU multiplies matrices at nearly
   its peak. Real images need only 16 of the 31 frequencies along one axis, the others being their conjugates.
3. Matrix products read a transposed operand at no cost. So the first leaves the frequency of the horizontal axis in
   front, the second that of both axes, and what remains is one small product (batch × channels) per frequency; no
   pass over memory only moves numbers.

Multiplications for one image and a 32→32 layer: direct 28²·7²·32² = 39 million; here 64 planes × 81,000 for the
transforms + 496 frequencies × 4 × 32² = 7.2 million, and the transform of the kernels once per call, 50 million. The
result is that of `nn.Conv2d` up to rounding.
"""

import math
from functools import cache
from typing import NamedTuple, TypeGuard

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

LEAST_BATCH = 8  # images; for fewer, the transform of the kernels costs more than it saves
LEAST_FROZEN = 4  # images, for weights that need no gradient: their transform is kept
FORMS = ("direct", "spectral")
Spectrum = tuple[Float[Tensor, "frequencies _ _"], Float[Tensor, "frequencies _ _"]]
"""Real and imaginary part of one matrix per frequency; frequencies: (horizontal 0…⌊P/2⌋) × (vertical 0…P−1)."""


class _Tables(NamedTuple):
    """Cosines and sines of one image size and kernel, P frequencies a side, V = ⌊P/2⌋ + 1 horizontally."""

    horizontal: Tensor  # (2V, size): x's columns → real, imaginary parts
    back: Tensor  # (2V, size): the inverse, each conjugate pair counted, over P²
    cos: Tensor  # (V, P, size), the vertical transform, the same for each horizontal frequency
    sin: Tensor
    kernel_cos: Tensor  # (V·P, k²): the kernel's, which is shifted so that its middle is pixel 0
    kernel_sin: Tensor
    weight: Tensor  # (V·P, 1): what a frequency counts for in a sum over all P², over P²


@cache
def _tables(size: int, kernel: int) -> _Tables:
    reach = kernel // 2
    P = size + reach
    V = P // 2 + 1
    pixel, tap, vertical, horizontal = (torch.arange(count, dtype=torch.float64) for count in (size, kernel, P, V))
    angle = 2 * math.pi / P
    down, across = angle * vertical[:, None] * pixel, angle * horizontal[:, None] * pixel
    taps_down, taps_across = (angle * f[:, None] * (tap - reach) for f in (vertical, horizontal))
    phase = taps_across[:, None, None, :] + taps_down[:, :, None]
    pairs = torch.full((V, 1), 2.0, dtype=torch.float64)
    pairs[0] = 1  # this frequency is its own conjugate,
    pairs[V - 1] = 2 if P % 2 else 1  # and so is the last one of an even number
    tables = (
        torch.cat([across.cos(), -across.sin()]),
        torch.cat([pairs * across.cos(), -pairs * across.sin()]) / P**2,
        down.cos().expand(V, P, size),
        down.sin().expand(V, P, size),
        phase.cos().reshape(V * P, -1),
        phase.sin().reshape(V * P, -1),
        pairs.repeat_interleave(P, 0) / P**2,
    )
    return _Tables(*(table.float() for table in tables))


def _product(a: Spectrum, b: Spectrum) -> Spectrum:
    """a·b at each frequency: a product of complex matrices, made of four real ones."""
    return torch.bmm(a[0], b[0]).baddbmm_(a[1], b[1], alpha=-1), torch.bmm(a[0], b[1]).baddbmm_(a[1], b[0])


def _product_adjoint(a: Spectrum, b: Spectrum) -> Spectrum:
    """a·b* at each frequency, b* being transposed and conjugate."""
    c, d = b[0].mT, b[1].mT
    return torch.bmm(a[0], c).baddbmm_(a[1], d), torch.bmm(a[1], c).baddbmm_(a[0], d, alpha=-1)


def _filters(weight: Float[Tensor, "after before kernel kernel"], tables: _Tables) -> Spectrum:
    """F[w], one matrix (before × after) per frequency."""
    after, before, *_ = weight.shape
    taps = weight.permute(2, 3, 1, 0).reshape(-1, before * after)
    cos, sin = tables.kernel_cos @ taps, tables.kernel_sin @ taps
    return cos.view(-1, before, after), sin.view(-1, before, after)


def _transform(x: Float[Tensor, "batch channels size size"], tables: _Tables) -> Spectrum:
    """F[x], zeros being appended to P × P."""
    batch, channels, size, _ = x.shape
    V, P, _ = tables.cos.shape
    real, imaginary = (tables.horizontal @ x.reshape(-1, size).T).view(2, V, batch * channels, size).mT
    down_real = torch.bmm(tables.cos, real).baddbmm_(tables.sin, imaginary)
    down_imaginary = torch.bmm(tables.cos, imaginary).baddbmm_(tables.sin, real, alpha=-1)
    return down_real.view(V * P, batch, channels), down_imaginary.view(V * P, batch, channels)


def _inverse(z: Spectrum, tables: _Tables) -> Float[Tensor, "batch channels size size"]:
    """The first size × size pixels of F⁻¹[z]."""
    _, batch, channels = z[0].shape
    V, P, size = tables.cos.shape
    real, imaginary = (part.view(V, P, batch * channels).mT for part in z)
    up = z[0].new_empty(2, V, batch * channels, size)
    torch.bmm(real, tables.cos, out=up[0]).baddbmm_(imaginary, tables.sin, alpha=-1)
    torch.bmm(imaginary, tables.cos, out=up[1]).baddbmm_(real, tables.sin)
    return (up.view(2 * V, -1).T @ tables.back).view(batch, channels, size, size)


class _Convolution(torch.autograd.Function):
    """y = F⁻¹[F[x]·F[w]] + b. The gradients are two more such products, with F[y's gradient] in place of one factor."""

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor, filters: Spectrum | None = None) -> Tensor:
        tables = _tables(x.shape[-1], weight.shape[-1])
        filters = filters or _filters(weight, tables)
        spectrum = _transform(x, tables)
        result = _product(spectrum, filters)
        result[0][0] += bias * tables.cos.shape[1] ** 2  # frequency 0 is the sum over P² pixels
        ctx.save_for_backward(*spectrum, *filters)
        ctx.tables = tables
        return _inverse(result, tables)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor):
        of_x, filters = ctx.saved_tensors[:2], ctx.saved_tensors[2:]
        tables = ctx.tables
        of_gradient = _transform(gradient, tables)
        to_x = None
        if ctx.needs_input_grad[0]:
            to_x = _inverse(_product_adjoint(of_gradient, filters), tables)
        if not ctx.needs_input_grad[1]:
            return to_x, None, None, None
        transposed = of_gradient[0].mT, of_gradient[1].mT
        real, imaginary = _product_adjoint(transposed, (of_x[0].mT, of_x[1].mT))
        _, after, before = real.shape
        to_weight = (tables.weight * tables.kernel_cos).T @ real.flatten(1)
        to_weight += (tables.weight * tables.kernel_sin).T @ imaginary.flatten(1)
        kernel = math.isqrt(len(to_weight))
        to_bias = of_gradient[0][0].sum(0)  # frequency 0 again
        return to_x, to_weight.view(kernel, kernel, after, before).permute(2, 3, 0, 1), to_bias, None


class SpectralConv2d(nn.Conv2d):
    """`nn.Conv2d` with "same" padding by zeros, computed in frequency space; same weights, same result.

    Args:
        before, after: channels.
        kernel: its width in pixels, odd.

    Attributes:
        form: "spectral", or "direct" to compute it as `nn.Conv2d` does; see `use_convolution`.

    Raises:
        ValueError: if the kernel is even.
    """

    def __init__(self, before: int, after: int, kernel: int):
        if kernel % 2 == 0:
            raise ValueError(f"the kernel must be odd, not {kernel}.")
        super().__init__(before, after, kernel, padding=kernel // 2)
        self.form = "spectral"
        self._kept: tuple[tuple[int, ...], Spectrum] | None = None

    def forward(self, x: Float[Tensor, "batch before size size"]) -> Float[Tensor, "batch after size size"]:
        """The convolution; direct for a few images, on another device, under autocast, and for other than float32."""
        least = LEAST_BATCH if self.weight.requires_grad else LEAST_FROZEN
        float32 = x.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
        if self.form == "direct" or len(x) < least or x.device.type != "cpu" or not float32:
            return super().forward(x)
        return _Convolution.apply(x, self.weight, self.bias, self._frozen_filters(x.shape[-1]))

    def _frozen_filters(self, size: int) -> Spectrum | None:
        """F[w] of weights that need no gradient, computed once instead of in every call; None while they train."""
        if self.weight.requires_grad or self.weight.is_inference():
            return None
        state = size, self.weight.data_ptr(), self.weight._version
        if self._kept is None or self._kept[0] != state:
            with torch.inference_mode(False), torch.no_grad():
                self._kept = state, _filters(self.weight, _tables(size, self.kernel_size[0]))
        return self._kept[1]


def with_spectral_convolutions(network: nn.Module, least_channels: int = 16) -> nn.Module:
    """Replace, in place, each 7×7 convolution between at least so many channels; weights and names stay.

    Below about 16 channels the transforms cost more than they save.

    Returns:
        the network.
    """
    for module in list(network.modules()):
        for name, child in list(module.named_children()):
            if is_same_convolution(child, 7) and child.in_channels >= least_channels:
                with torch.device("meta"):  # the weights are the child's: none are drawn
                    replacement = SpectralConv2d(child.in_channels, child.out_channels, 7)
                replacement.weight, replacement.bias = child.weight, child.bias
                setattr(module, name, replacement)
    return network


def use_convolution(network: nn.Module, form: str) -> None:
    """Set the form of all of a network's `SpectralConv2d`; the weights stay, and the answers, up to rounding.

    Args:
        form: "direct" or "spectral".

    Raises:
        ValueError: if the form is neither.
    """
    if form not in FORMS:
        raise ValueError(f"the convolution must be one of {', '.join(FORMS)}, not {form!r}.")
    for layer in spectral_layers(network):
        layer.form = form


def spectral_layers(network: nn.Module) -> list[SpectralConv2d]:
    """All `SpectralConv2d` of a network."""
    return [module for module in network.modules() if isinstance(module, SpectralConv2d)]


def is_same_convolution(layer: nn.Module, kernel: int) -> TypeGuard[nn.Conv2d]:
    """Tell whether a layer is what `SpectralConv2d` computes: a plain convolution, padded with zeros to the same size.

    Args:
        kernel: the width in pixels that the layer must have, odd.
    """
    return (
        type(layer) is nn.Conv2d
        and layer.kernel_size == (kernel, kernel)
        and layer.padding == (kernel // 2, kernel // 2)
        and layer.padding_mode == "zeros"
        and layer.stride == layer.dilation == (1, 1)
        and layer.groups == 1
        and layer.bias is not None
    )
