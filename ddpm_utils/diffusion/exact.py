"""The best decoders of their kind, in closed form: what a network's loss and samples can be held against.

The simplest decoder is the identity, ε̂ = z_t. Each of these estimates ε from z_t as a trained decoder does, and can
take its place in losses and samplers:

    AffineDecoder  the best affine function of z_t: the posterior mean, were the images Gaussian
    ExactDecoder   the posterior mean over a finite set of images: on them, no decoder has a lower loss
    ImageMixture   a continuous density close to the images: its own posterior mean, samples and log density are exact

Losses are per pixel: ‖ε − ε̂‖²/d, with d = 784 pixels.
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ddpm_utils.data.checks import check_images
from ddpm_utils.diffusion.forward import posterior_tables
from ddpm_utils.diffusion.schedules import NoiseSchedule, signal_and_noise
from ddpm_utils.shapes import Images, Network


def identity_loss(images: Images, alpha: np.ndarray) -> np.ndarray:
    """E‖ε − z_t‖²/d = α·E[x²] + (1 − √(1−α))², of α's shape, float64."""
    return alpha * images.double().square().mean().item() + (1 - np.sqrt(1 - alpha)) ** 2


class AffineDecoder:
    """The affine function of z_t with the lowest loss (Wiener's filter): ε̂ = √(1−α)·(αΣ + (1−α)I)⁻¹(z_t − √α·μ).

    Args:
        images: to take their mean μ and covariance Σ from, in [−0.5, 0.5].
        schedule: the whole schedule, whose clock t/T the decoder is asked by.
    """

    def __init__(self, images: Images, schedule: NoiseSchedule):
        check_images(images, "images", overshoot=True)  # points of any Gaussian, too
        flat = images.flatten(1).double()
        eigenvalues, vectors = torch.linalg.eigh(torch.cov(flat.T, correction=0))
        self.schedule = schedule
        self.eigenvalues = eigenvalues.clamp(min=0)
        self.mean, self.vectors, self.scales = flat.mean(0).float(), vectors.float(), self.eigenvalues.float()

    def __call__(self, z: Images, time: Float[Tensor, " n"]) -> Images:
        """Estimate ε from z_t, t/T."""
        signal, noise = signal_and_noise(self.schedule, time, z.flatten(1))
        rotated = (z.flatten(1) - signal * self.mean) @ self.vectors
        shrunk = rotated * noise / (signal**2 * self.scales + noise**2)
        return (shrunk @ self.vectors.T).reshape(z.shape)

    def loss(self, alpha: np.ndarray) -> np.ndarray:
        """Its loss on the images, (1/d)·Σ_i αλ_i/(αλ_i + 1 − α), λ_i Σ's eigenvalues; α < 1, shape (k,), float64."""
        signal = alpha[:, None] * self.eigenvalues.numpy()
        return (signal / (signal + 1 - alpha[:, None])).mean(1)


class ExactDecoder:
    """The lowest loss on a finite set of images: ε̂ = (z_t − √α·E[x|z_t])/√(1−α) with
    E[x|z_t] = Σ_i w_i x_i, w = softmax_i(−‖z_t − √α·x_i‖²/2(1−α)) (Karras et al. 2022, appendix B.3).

    A decoder that reached it would have memorised the images: its samples are they and nothing else.

    Args:
        images: x_i, each with the same chance, in [−0.5, 0.5].
        schedule: the whole schedule, whose clock t/T the decoder is asked by.
    """

    def __init__(self, images: Images, schedule: NoiseSchedule):
        check_images(images, "images", overshoot=True)  # points of any Gaussian, too
        self.schedule = schedule
        flat = images.flatten(1)
        self.mean = flat.double().mean(0).float()  # taken off: smaller numbers, smaller rounding errors
        self.points = flat - self.mean
        self.halved_squares = self.points.square().sum(1) / 2

    def __call__(self, z: Images, time: Float[Tensor, " n"]) -> Images:
        """Estimate ε from z_t, t/T."""
        signal, noise = signal_and_noise(self.schedule, time, z)
        return (z - signal * self.posterior_mean(z, time)) / noise

    def posterior_mean(self, z: Images, time: Float[Tensor, " n"]) -> Images:
        """E[x|z_t]."""
        return (self.weights(z, time) @ self.points + self.mean).reshape(z.shape)

    def weights(self, z: Images, time: Float[Tensor, " n"]) -> Float[Tensor, "n points"]:
        """The chance of each image to be what z_t came from."""
        flat = z.flatten(1)
        signal, noise = signal_and_noise(self.schedule, time, flat)
        projected = (flat - signal * self.mean) * (signal / noise**2)
        return torch.addmm(self.halved_squares * -((signal / noise) ** 2), projected, self.points.T).softmax(1)


class ImageMixture:
    """A continuous density close to a set of images: a Gaussian mixture in the plane of the principal components.

        x = m + U·y,  y ~ Σ_k w_k·N(μ_k, C_k)

    All x lie in a plane of p dimensions, since a residual variance outside would be visible noise. Unlike the points of
    `ExactDecoder`, x has a density there, which a chain with too long steps misses. z_t is a mixture, too. In the plane
    its covariances are S_k = αC_k + (1−α)I, and outside z_t is N(0, (1−α)I). So

        E[y|z_t] = Σ_k w_k(z_t)·[μ_k + √α·C_k·S_k⁻¹(Uᵀ(z_t − √α·m) − √α·μ_k)],  w_k(z_t) ∝ w_k·q(z_t|k)

    Args:
        center, basis, weights, means, covariances: m, U with orthonormal columns, w_k, μ_k and C_k.
        shape: of one image, with d pixels.
    """

    def __init__(
        self,
        center: Float[Tensor, " d"],
        basis: Float[Tensor, "d p"],
        weights: Float[Tensor, " K"],
        means: Float[Tensor, "K p"],
        covariances: Float[Tensor, "K p p"],
        shape: Sequence[int] = (1, 28, 28),
    ):
        self.center, self.basis, self.weights, self.means = (part.double() for part in (center, basis, weights, means))
        self.eigenvalues, self.vectors = torch.linalg.eigh(covariances.double())
        self.shape, self.upper = tuple(shape), torch.triu_indices(basis.shape[1], basis.shape[1])

    @classmethod
    def fit(cls, images: Images, *, dimensions: int = 40, components: int = 50, seed: int = 0) -> "ImageMixture":
        """Fit p dimensions and K components to images in [−0.5, 0.5]: PCA, then expectation maximisation (sklearn)."""
        from sklearn.decomposition import PCA  # here, since these imports take a second
        from sklearn.mixture import GaussianMixture

        check_images(images, "images")
        flat = images.flatten(1).double().numpy()
        plane = PCA(dimensions, svd_solver="covariance_eigh").fit(flat)
        mixture = GaussianMixture(components, reg_covar=1e-4, tol=0.01, random_state=seed).fit(plane.transform(flat))
        center, basis = torch.tensor(plane.mean_), torch.tensor(plane.components_.T)
        weights, means, covariances = map(torch.tensor, (mixture.weights_, mixture.means_, mixture.covariances_))
        return cls(center, basis, weights, means, covariances, images.shape[1:])

    @property
    def mean(self) -> Float[Tensor, " d"]:
        """E x, float64."""
        return self.center + self.basis @ (self.weights @ self.means)

    @property
    def covariance(self) -> Float[Tensor, "d d"]:
        """Cov x, within the components and between them, float64."""
        apart = self.means - self.weights @ self.means
        within = torch.einsum("k,kpq->pq", self.weights, self._matrices(self.eigenvalues))
        return self.basis @ (within + apart.T * self.weights @ apart) @ self.basis.T

    def sample(self, count: int, generator: torch.Generator) -> Images:
        """Draw x; float32, not clamped to [−0.5, 0.5]."""
        k = torch.multinomial(self.weights, count, replacement=True, generator=generator)
        white = torch.randn(count, self.basis.shape[1], generator=generator, dtype=torch.float64)
        y = self.means[k] + (self.vectors[k] @ (self.eigenvalues[k].sqrt() * white)[..., None]).squeeze(-1)
        return (self.center + y @ self.basis.T).float().reshape(count, *self.shape)

    def log_density(self, z: Images, alpha: float = 1.0) -> Float[Tensor, " n"]:
        """log q(z_t) in nats, float64. At α = 1 it is the density in the plane, and what z holds outside is ignored."""
        inside = self._inside(z, alpha)
        density = self._log_joint(inside, alpha).logsumexp(1)
        if alpha == 1:
            return density
        (d, p), away = self.basis.shape, z.flatten(1).double() - alpha**0.5 * self.center
        outside = (away.square().sum(1) - inside.square().sum(1)) / (1 - alpha)
        return density - (outside + (d - p) * np.log(2 * np.pi * (1 - alpha))) / 2

    def shares(self, z: Images, alpha: float = 1.0) -> Float[Tensor, "n K"]:
        """w_k(z_t), the chance of each component given z_t, float64."""
        return self._log_joint(self._inside(z, alpha), alpha).softmax(1)

    def posterior_mean(self, z: Images, alpha: float) -> Float[Tensor, "n d"]:
        """E[x|z_t], float64."""
        inside, shares, (offsets, gains, _) = self._inside(z, alpha), self.shares(z, alpha), self._posteriors(alpha)
        y = shares @ offsets
        for k, share in enumerate(shares.T):  # a few components share z_t at little noise
            of = share > 1e-12
            y[of] += share[of, None] * (inside[of] @ gains[k])
        return self.center + y @ self.basis.T

    def posterior_covariance(self, z: Images, alpha: float) -> Float[Tensor, "n p p"]:
        """Cov[y|z_t], float64; Cov[x|z_t] is U·Cov[y|z_t]·Uᵀ."""
        shares, (offsets, gains, covariances) = self.shares(z, alpha), self._posteriors(alpha)
        means = offsets + torch.einsum("np,kpq->nkq", self._inside(z, alpha), gains)
        apart = means - (shares[:, None] @ means)
        within = (shares @ covariances.flatten(1)).unflatten(1, covariances.shape[1:])
        return within + (shares[..., None] * apart).mT @ apart

    def decoder(self, schedule: NoiseSchedule) -> Network:
        """E[ε|z_t] as a function of z_t and t/T, by the clock of the whole schedule."""

        def best(z: Images, time: Float[Tensor, " n"]) -> Images:
            t, x = (time.double() * schedule.T).round().long(), torch.empty_like(z)
            for step in t.unique().tolist():
                x[t == step] = self.posterior_mean(z[t == step], schedule.alpha[step]).to(z).reshape(-1, *z.shape[1:])
            signal, noise = signal_and_noise(schedule, time, z)
            return (z - signal * x) / noise

        return best

    def _inside(self, z: Images, alpha: float) -> Float[Tensor, "n p"]:
        """Uᵀ(z_t − √α·m)."""
        return (z.flatten(1).double() - alpha**0.5 * self.center) @ self.basis

    def _matrices(self, eigenvalues: Float[Tensor, "K p"]) -> Float[Tensor, "K p p"]:
        """The matrices with the eigenvectors of C_k and these eigenvalues."""
        return (self.vectors * eigenvalues[:, None]) @ self.vectors.mT

    def _posteriors(self, alpha: float) -> tuple[Tensor, Tensor, Tensor]:
        """q(y|z_t, k) = N(offset + gain·Uᵀ(z_t − √α·m), covariance)."""
        variances = alpha * self.eigenvalues + 1 - alpha
        offsets = (self._matrices((1 - alpha) / variances) @ self.means[..., None]).squeeze(-1)
        gains = self._matrices(alpha**0.5 * self.eigenvalues / variances)
        return offsets, gains, self._matrices((1 - alpha) * self.eigenvalues / variances)

    def _log_joint(self, inside: Float[Tensor, "n p"], alpha: float) -> Float[Tensor, "n K"]:
        """log w_k·q(z_t|k) in the plane: quadratic in z_t, so one product of matrices serves all components."""
        variances, (i, j) = alpha * self.eigenvalues + 1 - alpha, self.upper
        precisions, p = self._matrices(1 / variances), inside.shape[1]
        towards = alpha**0.5 * (precisions @ self.means[..., None]).squeeze(-1)
        products = torch.cat([inside[:, q:] * inside[:, q : q + 1] for q in range(p)], 1)
        squares = products @ (precisions[:, i, j] * torch.where(i == j, 1.0, 2.0)).T
        constants = alpha**0.5 * (towards * self.means).sum(1) + (2 * np.pi * variances).log().sum(1)
        return self.weights.log() - (squares - 2 * inside @ towards.T + constants) / 2


def optimal_variance(loss: np.ndarray, schedule: NoiseSchedule) -> np.ndarray:
    """The reverse variance that fits a decoder best, given its loss at each step (Bao et al. 2022).

    σ*² = β_t(1−α_{t−1})/(1−α_t) + (√α_{t−1}·β_t/(1−α_t))²·E‖x − x̂‖²/d, and E‖x − x̂‖²/d = loss·(1−α_t)/α_t. For
    the exact decoder the latter is E tr Cov[x|z_t]/d.

    Args:
        loss: shape (T+1,), the decoder's mean squared error of ε at t; entry 0 is not used.

    Returns:
        σ*² over t = 0…T, with 0 at t = 0.
    """
    _, x_weight, posterior = posterior_tables(schedule)
    return posterior + x_weight**2 * loss * (1 - schedule.alpha) / schedule.alpha
