"""Degradations without noise, z_t = D(x, t), for cold diffusion (Bansal et al. 2022)."""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from ddpm_utils.networks import SIZE


class GaussianBlur:
    """t blurs of one variance each, with reflected borders, as one linear map per t.

    A blur that is separable acts on rows and columns alike: D(x, t) = Aᵗ·x·(Aᵗ)ᵀ with A of shape (28, 28), so all
    powers Aᵗ are computed once and a batch of different t costs two small matrix products per image.

    Args:
        T: the number of blurs at t = T.
        variance: of each blur, in pixels².
        kernel: its width in pixels, odd.

    Raises:
        ValueError: if one of them is out of range.
    """

    def __init__(self, T: int = 100, variance: float = 1.0, kernel: int = 11):
        if not isinstance(T, int) or T < 1:
            raise ValueError(f"T must be an integer of at least 1, not {T!r}.")
        if not isinstance(variance, int | float) or not variance > 0:
            raise ValueError(f"variance must be a positive number, not {variance!r}.")
        if not isinstance(kernel, int) or kernel not in range(1, 2 * SIZE, 2):
            raise ValueError(f"kernel must be an odd integer from 1 to {2 * SIZE - 1}, not {kernel!r}.")
        self.T = T
        offset = torch.arange(kernel, dtype=torch.float64) - kernel // 2
        weights = torch.exp(-offset.square() / (2 * variance))
        weights = (weights / weights.sum()).reshape(1, 1, -1)
        padded = F.pad(torch.eye(SIZE, dtype=torch.float64)[:, None], 2 * [kernel // 2], mode="reflect")
        blur = F.conv1d(padded, weights)[:, 0].T  # blurring the unit vectors gives A's columns
        powers = [torch.eye(SIZE, dtype=torch.float64)]
        for _ in range(T):
            powers.append(blur @ powers[-1])
        self.powers = torch.stack(powers).float()

    def __call__(
        self, x: Float[Tensor, "batch 1 28 28"], t: int | Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch 1 28 28"]:
        """D(x, t): one t for the whole batch, or one for each image, in 0…T; D(x, 0) = x."""
        t = torch.as_tensor(t)
        if t.min() < 0 or t.max() > self.T:
            raise ValueError(f"t must lie in 0…{self.T}, not {t.min().item()}…{t.max().item()}.")
        power = self.powers.to(x)[t.to(x.device)].reshape(-1, 1, SIZE, SIZE)
        return power @ x @ power.mT
