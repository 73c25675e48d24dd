"""The degradations of cold diffusion, z_t = D(x, t, context), behind one small interface (Bansal et al. 2022).

Whatever D needs beside the image and t is its *context*: the noise ε, the image to morph into, the place of a mask.
It is drawn once per trajectory, and D is deterministic given it. Here are the interface and the degradations that are
linear maps of rows and columns; those that mix x with something else are in `mixtures`.
"""

import math
from abc import ABC, abstractmethod
from itertools import accumulate

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from ddpm_utils.scalars import integers, is_integer, is_number, plain, whole
from ddpm_utils.shapes import SIZE, Images, Step

Context = Float[Tensor, "n ..."]
Operators = Float[Tensor, "steps 28 28"]
LARGEST_T = 10_000  # steps, so that matrices for each of them fit any memory
SMALLEST_SEVERITY, LARGEST_SEVERITY = 1e-6, 1e6


class Degradation(ABC):
    """D(x, t, context) with D(x, 0, context) = x, for one t for the whole batch or one for each image.

    A new D needs `T` and `__call__`; one with a context also `draw_context`. What only samplers ask for has defaults.
    """

    T: int  # the number of steps; t is in 0…T

    @abstractmethod
    def __call__(self, x: Images, t: Step, context: Context | None = None) -> Images:
        """z_t.

        Args:
            x: in [−0.5, 0.5].
            context: what `draw_context` gave, one for each image.

        Raises:
            ValueError: if a t is outside 0…T.
        """

    def draw_context(self, count: int, generator: torch.Generator, held_out: bool = False) -> Context:
        """The contexts of so many trajectories; empty, of shape (count, 0), for a D that needs none.

        Args:
            held_out: draw from what training never saw, where contexts are data.
        """
        return torch.empty(count, 0)

    def estimate_context(self, z: Images, x_hat: Images, t: int) -> Context:
        """The context with which D(x̂, t, context) = z_t, for a D that can be solved for it.

        Raises:
            ValueError: if this D cannot.
        """
        raise ValueError(f"{type(self).__name__} cannot tell its context from z_t and x̂.")


class Separable(Degradation):
    """D(x, t) = L_t·x·R_tᵀ: rows and columns are mapped by one matrix each, computed once for every t.

    A batch of different t costs two small matrix products per image, and no loop over t.

    Args:
        columns: L_t, which acts on each column, over t = 0…T; L_0 = I.
        rows: R_t, which acts on each row; by default as `columns`.

    Raises:
        ValueError: if the operators are not the identity at t = 0.
    """

    def __init__(self, columns: Operators, rows: Operators | None = None):
        rows = columns if rows is None else rows
        identity = torch.eye(SIZE, dtype=columns.dtype)
        if not (torch.equal(columns[0], identity) and torch.equal(rows[0], identity)):
            raise ValueError("the operators at t = 0 must be the identity.")
        self.T = len(columns) - 1
        self.columns, self.rows = columns, rows  # in double precision, for double images
        self._single = columns.float(), rows.float()

    def __call__(self, x: Images, t: Step, context: Context | None = None) -> Images:
        """See `Degradation`."""
        index = steps(t, self.T, x)
        stored = (self.columns, self.rows) if x.dtype == torch.float64 else self._single
        left, right = (operators.to(x)[index].unsqueeze(1) for operators in stored)
        return left @ x @ right.mT


class GaussianBlur(Separable):
    """t blurs of one variance each with a truncated kernel and reflected borders, as published.

    A blur is separable and linear, so that t of them are one matrix power: D(x, t) = Aᵗ·x·(Aᵗ)ᵀ.

    Args:
        T: the number of blurs at t = T.
        severity: the variance of each blur, in pixels².
        kernel: its width in pixels, odd.

    Raises:
        ValueError: if one of them is out of range.
    """

    def __init__(self, T: int = 100, severity: float = 1.0, kernel: int = 11):
        T, severity = check(T, severity)
        kernel = whole(kernel)
        if not is_integer(kernel) or kernel not in range(1, 2 * SIZE, 2):
            raise ValueError(f"kernel must be an odd integer from 1 to {2 * SIZE - 1}, not {kernel!r}.")
        offset = torch.arange(kernel, dtype=torch.float64) - kernel // 2
        weights = torch.exp(-offset.square() / (2 * severity))
        weights = (weights / weights.sum()).reshape(1, 1, -1)
        padded = F.pad(torch.eye(SIZE, dtype=torch.float64)[:, None], 2 * [kernel // 2], mode="reflect")
        blur = F.conv1d(padded, weights)[:, 0].T  # blurring the unit vectors gives A's columns
        super().__init__(torch.stack(list(accumulate([blur] * T, torch.matmul, initial=torch.eye(SIZE).double()))))


class HeatBlur(Separable):
    """The exact Gaussian blur with insulated borders: each cosine of frequency k decays by exp(−v·t·(πk/28)²/2).

    It solves the heat equation for the time v·t/2 (Rissanen et al. 2023), so that blurs compose exactly:
    D(D(x, s), t) = D(x, s + t), and the singular values of D_T are known in closed form (see `decay`).

    Args:
        T: the number of blurs at t = T.
        severity: v, the variance of each blur, in pixels².

    Raises:
        ValueError: if one of them is out of range.
    """

    def __init__(self, T: int = 100, severity: float = 1.0):
        T, severity = check(T, severity)
        k = torch.arange(SIZE, dtype=torch.float64)
        cosines = torch.cos(math.pi * (k + 0.5) * k[:, None] / SIZE) * math.sqrt(2 / SIZE)  # DCT-II, orthonormal
        cosines[0] /= math.sqrt(2)
        t = torch.arange(T + 1, dtype=torch.float64)
        self.decay = torch.exp(-severity * t[:, None] * (math.pi * k / SIZE).square() / 2)  # (T+1, 28)
        operators = cosines.T @ (self.decay[:, :, None] * cosines)
        operators[0] = torch.eye(SIZE)
        super().__init__(operators)


class DownSampling(Separable):
    """Averages over n × n equal boxes, drawn at full size again, with n from 28 down to 1.

    Boxes that cut through a pixel take their share of it, so that the mean intensity is kept at every t.

    Args:
        T: the number of steps, over which n falls evenly.
        severity: in (0, 1]: at t = T n = 28 − 27·severity, rounded; 1 leaves one grey level.

    Raises:
        ValueError: if one of them is out of range.
    """

    def __init__(self, T: int = 27, severity: float = 1.0):
        T, severity = check(T, severity, most=1)
        n = [SIZE - round((SIZE - 1) * severity * t / T) for t in range(T + 1)]
        super().__init__(torch.stack([_box_average(size) for size in n]))


class RowColumnAveraging(Separable):
    """Each row fades to its mean, then each column: D = L_t·x·R_tᵀ with matrices (1−s)·I + s·J, J the mean.

    Over the first half of the steps s rises from 0 to `severity` for the rows, over the second for the columns. As
    long as s < 1 nothing is lost: the smallest singular value is 1 − s.

    Args:
        T: the number of steps.
        severity: in (0, 1]: s at the end; 1 leaves one grey level.

    Raises:
        ValueError: if one of them is out of range.
    """

    def __init__(self, T: int = 50, severity: float = 1.0):
        T, severity = check(T, severity, most=1)
        s = severity * torch.linspace(0, 2, T + 1, dtype=torch.float64)
        identity, mean = torch.eye(SIZE).double(), torch.full((SIZE, SIZE), 1 / SIZE, dtype=torch.float64)

        def operators(s: Tensor) -> Operators:
            return (1 - s)[:, None, None] * identity + s[:, None, None] * mean

        super().__init__(operators((s - severity).clamp(min=0)), operators(s.clamp(max=severity)))


def _box_average(size: int) -> Float[Tensor, "28 28"]:
    """28 pixels averaged over `size` equal boxes, and each pixel made of the boxes it lies in; rows sum to 1."""
    if size == SIZE:
        return torch.eye(SIZE, dtype=torch.float64)
    edges = torch.arange(SIZE + 1, dtype=torch.float64)
    borders = torch.arange(size + 1, dtype=torch.float64) * SIZE / size
    low = torch.maximum(edges[:-1], borders[:-1, None])
    overlap = (torch.minimum(edges[1:], borders[1:, None]) - low).clamp(min=0)  # (size, 28), of pixel and box
    return overlap.T @ overlap * size / SIZE


def steps(t: Step, T: int, x: Images) -> Int[Tensor, "..."]:
    """t as a tensor of shape (1,) or (batch,) on x's device.

    Raises:
        ValueError: if a t is outside 0…T.
    """
    t = integers(t)
    if t.min() < 0 or t.max() > T:
        raise ValueError(f"t must lie in 0…{T}, not {t.min().item()}…{t.max().item()}.")
    return t.to(x.device).reshape(-1)


def required(context: Context | None, degradation: Degradation) -> Context:
    """The context of a D that needs one.

    Raises:
        ValueError: if there is none.
    """
    if context is None:
        raise ValueError(f"context must be given, since {type(degradation).__name__} needs one (see draw_context).")
    return context


def check(T: int, severity: float, *, most: float = LARGEST_SEVERITY) -> tuple[int, float]:
    """Refuse a T or a severity that no degradation can have; return both as Python's numbers.

    Raises:
        ValueError: if T is not an integer in 1…10,000, or the severity is not in [1e-6, most].
    """
    T, severity = whole(T), plain(severity)
    if not is_integer(T) or not 1 <= T <= LARGEST_T:
        raise ValueError(f"T must be an integer from 1 to {LARGEST_T}, not {T!r}.")
    if not is_number(severity) or not SMALLEST_SEVERITY <= severity <= most:
        raise ValueError(f"severity must be a number from {SMALLEST_SEVERITY:g} to {most:g}, not {severity!r}.")
    return T, severity
