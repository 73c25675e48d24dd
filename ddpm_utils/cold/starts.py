"""Where unconditional cold samples begin: ways to draw z_T without an image.

A start is a function (count, generator) → (z_T, context). D and R are deterministic, so that all variety of the samples
comes from here. Which start is right depends on what D leaves of x in z_T:

    Forgotten   nothing: z_T is D of any image, with a new context (noise, flow, morph, fade)
    Grey        one grey level: drawn from the fitted intensities of z_T (down-sampling, averaging; the published blur)
    Fitted      more than that: a Gaussian mixture fitted to z_T (the blurs)
"""

from collections.abc import Callable

import torch
from torch import Tensor

from ddpm_utils.cold.degradations import Degradation
from ddpm_utils.data.checks import check_images
from ddpm_utils.shapes import Images

Start = Callable[[int, torch.Generator], tuple[Tensor, Tensor]]


class Forgotten:
    """z_T = D(mean image, T, context), with a held-out context.

    Args:
        degradation: D.
        images: clean ones, for their mean, in [−0.5, 0.5].
    """

    def __init__(self, degradation: Degradation, images: Images):
        check_images(images, "images")
        self.degradation, self.mean = degradation, images.mean(0)

    def __call__(self, count: int, generator: torch.Generator) -> tuple[Images, Tensor]:
        """z_T and its contexts."""
        context = self.degradation.draw_context(count, generator, held_out=True)
        return self.degradation(self.mean.expand(count, -1, -1, -1), self.degradation.T, context), context


class Grey:
    """A uniform grey whose level follows the fitted distribution of z_T's mean intensity, and a little jitter.

    The levels are drawn from a normal distribution with the mean and deviation of those of z_T.

    Args:
        degradation: D.
        images: clean ones, in [−0.5, 0.5].
        spread: factor on the levels' deviation; 0 makes all samples begin at the mean level.
        jitter: deviation of the white noise that is added, in the units of pixels.
    """

    def __init__(self, degradation: Degradation, images: Images, *, spread: float = 1.0, jitter: float = 0.0):
        self.degradation, self.jitter = degradation, jitter
        z, _ = degraded(degradation, images)
        levels = z.mean((1, 2, 3))
        self.level, self.deviation = levels.mean().item(), spread * levels.std().item()

    def __call__(self, count: int, generator: torch.Generator) -> tuple[Images, Tensor]:
        """z_T and its contexts."""
        levels = self.level + self.deviation * torch.randn(count, 1, 1, 1, generator=generator)
        jitter = self.jitter * torch.randn(count, 1, 28, 28, generator=generator)
        return levels + jitter, self.degradation.draw_context(count, generator, held_out=True)


class Fitted:
    """A Gaussian mixture fitted to z_T's leading principal components.

    After Bansal et al. (2022), who fit one to the uniform colours that their blur ends in.

    Args:
        degradation: D.
        images: clean ones, in [−0.5, 0.5].
        components: Gaussians in the mixture; 1 is a single Gaussian.
        dimensions: principal components; the rest of z_T is left at its mean.
        seed: of the fit.
    """

    def __init__(
        self, degradation: Degradation, images: Images, *, components: int = 10, dimensions: int = 20, seed: int = 0
    ):
        from sklearn.decomposition import PCA  # here, since these imports take seconds
        from sklearn.mixture import GaussianMixture

        self.degradation = degradation
        flat = degraded(degradation, images)[0].flatten(1).double().numpy()
        self.pca = PCA(dimensions, random_state=seed).fit(flat)
        mixture = GaussianMixture(components, random_state=seed).fit(self.pca.transform(flat))
        self.weights, self.means = torch.tensor(mixture.weights_), torch.tensor(mixture.means_)
        self.roots = torch.linalg.cholesky(torch.tensor(mixture.covariances_))

    def __call__(self, count: int, generator: torch.Generator) -> tuple[Images, Tensor]:
        """z_T and its contexts."""
        which = torch.multinomial(self.weights, count, replacement=True, generator=generator)
        white = torch.randn(count, self.means.shape[1], 1, generator=generator, dtype=torch.float64)
        scores = self.means[which] + (self.roots[which] @ white).squeeze(2)
        z = torch.from_numpy(self.pca.inverse_transform(scores.numpy())).float().reshape(-1, 1, 28, 28)
        return z, self.degradation.draw_context(count, generator, held_out=True)


def degraded(degradation: Degradation, images: Images, seed: int = 0) -> tuple[Images, Tensor]:
    """z_T of images, with contexts of their own, and these."""
    check_images(images, "images")
    context = degradation.draw_context(len(images), torch.Generator().manual_seed(seed))
    return degradation(images, degradation.T, context), context
