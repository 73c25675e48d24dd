"""Types that many functions share, each named once; the tests check the shapes (jaxtyping)."""

from collections.abc import Callable

from jaxtyping import Float, Int
from torch import Tensor

SIZE = 28  # MNIST's images are 28 × 28

Images = Float[Tensor, "n 1 height width"]
"""Grey images: x in [−0.5, 0.5], latents z_t without bounds. All `Images` of one call have one shape."""

Step = int | Int[Tensor, " n"]
"""t in 0…T: one for the whole batch, or one for each image."""

Network = Callable[[Tensor, Tensor], Tensor]
"""(z, t/T) → an estimate of z's shape: g(z_t, t/T) of the noise, or R(z_t, t/T) of the clean image."""
