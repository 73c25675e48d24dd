"""Noise schedules: how much noise each step adds, and how much signal is left.

Arrays over time are indexed by t itself, 0…T. Entry 0 is the identity: β_0 = 0 and α_0 = 1 exactly.
α_t is the *cumulative* product ∏_{s≤t}(1−β_s), which diffusers calls `alphas_cumprod` and others ᾱ_t.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import ArrayLike
from torch import Tensor

from ddpm_utils import names
from ddpm_utils.diffusion.betas import LARGEST_T as LARGEST_T
from ddpm_utils.diffusion.betas import check_beta, check_T, read_betas, what_falls
from ddpm_utils.scalars import integers, is_integer, whole

SPACINGS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "even": lambda t, snr: t,
    "quadratic": lambda t, snr: np.sqrt(t),
    "log_snr": lambda t, snr: -np.log(snr),
    "karras": lambda t, snr: snr ** (-1 / 14),
}
"""What steps are spread evenly in, as a function of t and SNR."""
SMALLEST_ALPHA = 1e-60  # below, 1/√α_t no longer fits float32 images
LARGEST_BETA = 1 - 1e-12  # between two steps of a subset


def _read_only(values: ArrayLike) -> np.ndarray:
    array = np.array(values.detach().cpu().numpy() if isinstance(values, Tensor) else values, dtype=np.float64)
    array.setflags(write=False)
    return array


@dataclass(frozen=True, eq=False, init=False)
class NoiseSchedule:
    """β_t, α_t = ∏_{s≤t}(1−β_s) and the network's clock t/T, for t = 0…T (equation 2).

    Args:
        beta: shape (T+1,), β_0 = 0 and every other β_t in (0, 1).
        time: shape (T+1,), what the decoder is told at step t, in [0, 1]; t/T unless the schedule is a
            subset of a longer one (see `subset`).
        alpha: shape (T+1,), α_t = ∏_{s≤t}(1−β_s) where it is known better than as this product; a subset keeps
            the values of the longer schedule.

    All three arrays are float64 and read-only.

    Raises:
        ValueError: if a β_t is outside (0, 1), or α_T is below 1e-60.
    """

    beta: np.ndarray
    time: np.ndarray
    alpha: np.ndarray

    def __init__(self, beta: ArrayLike, time: ArrayLike | None = None, alpha: ArrayLike | None = None):
        beta = _read_only(beta)
        if beta.ndim != 1 or len(beta) < 2:
            what = "a 1-D array over t = 0…T with beta[0] = 0 and T ≥ 1"
            raise ValueError(f"beta must be {what}, not an array of shape {beta.shape}.")
        if hint := what_falls(beta):
            raise ValueError(f"beta must hold β_0 = 0, β_1, …, β_T, but {hint}")
        if beta[0] != 0:
            raise ValueError(
                f"beta must begin with beta[0] = 0, not {beta[0]:g}: prepend 0, or use schedules.from_betas, "
                "which takes β_1 … β_T."
            )
        if not np.all((beta[1:] > 0) & (beta[1:] < 1)):
            raise ValueError("every beta must lie strictly between 0 and 1.")
        time = _read_only(np.linspace(0, 1, len(beta)) if time is None else time)
        if time.shape != beta.shape:
            raise ValueError(f"time must have the shape of beta, {beta.shape}, not {time.shape}.")
        alpha = _read_only(np.cumprod(1 - beta) if alpha is None else alpha)
        if alpha.shape != beta.shape or not np.allclose(alpha[1:], alpha[:-1] * (1 - beta[1:]), rtol=1e-3, atol=0):
            raise ValueError("alpha must be the cumulative product of 1 − beta.")
        if alpha[-1] < SMALLEST_ALPHA:
            raise ValueError(
                f"alpha at T = {len(beta) - 1} is {alpha[-1]:.0e}, below {SMALLEST_ALPHA:.0e}: "
                "take a smaller beta or T."
            )
        for name, value in {"beta": beta, "time": time, "alpha": alpha}.items():
            object.__setattr__(self, name, value)

    @property
    def T(self) -> int:
        """The number of steps."""
        return len(self.beta) - 1

    @property
    def snr(self) -> np.ndarray:
        """Signal-to-noise ratio α_t/(1−α_t), shape (T+1,); infinite at t = 0."""
        with np.errstate(divide="ignore"):
            return self.alpha / (1 - self.alpha)

    def subset(self, steps: int | Sequence[int], spacing: str = "even") -> "NoiseSchedule":
        """The schedule of a chain that visits only some steps of this one (Nichol & Dhariwal 2021, §4).

        α and the clock keep their values at the visited steps; β is recomputed from consecutive α.

        Args:
            steps: the visited t's, increasing, in 1…T; or their number, the last of which is T.
            spacing: how a number of steps is spread. "even": evenly in t, from T/steps; otherwise from 1, evenly in
                √t, "quadratic" (Song et al. 2021, DDIM), in log SNR, "log_snr" (Lu et al. 2022), or in the seventh
                root of the noise per signal, √(1/SNR), "karras" (Karras et al. 2022, eq. 5).

        Raises:
            ValueError: if a step is outside 1…T, they do not increase, two are so far apart that nothing is left
                of the signal between them, or the spacing is unknown.
        """
        spacing, steps = names.choose("spacing", spacing, SPACINGS), whole(steps)
        if is_integer(steps):
            if not 1 <= steps <= self.T:
                raise ValueError(f"the number of steps must be in 1…{self.T}, not {steps}.")
            visited = np.append(0, self._spread(steps, spacing))
        else:
            given = np.asarray(steps.detach().cpu() if isinstance(steps, Tensor) else steps)
            if given.ndim != 1 or given.dtype.kind not in "iuf" or np.any(given != given.round()):
                raise ValueError(f"steps must be an integer, or a list of integers, not {steps!r}.")
            visited = np.append(0, given.astype(int))
        if len(visited) < 2 or visited[-1] > self.T or np.any(np.diff(visited) <= 0):
            raise ValueError(f"steps must increase and lie in 1…{self.T}.")
        beta = self._beta_between(visited)
        if beta.max() > LARGEST_BETA:
            raise ValueError("take more steps: between two of these no signal is left.")
        return NoiseSchedule(beta, self.time[visited], self.alpha[visited])

    def has_subset(self, steps: int, spacing: str = "even") -> bool:
        """Whether there is a subset of so many steps: at most T, with signal left between any two of them.

        Raises:
            ValueError: if the spacing is unknown.
        """
        spacing, steps = names.choose("spacing", spacing, SPACINGS), whole(steps)
        if not 1 <= steps <= self.T:
            return False
        return bool(self._beta_between(np.append(0, self._spread(steps, spacing))).max() <= LARGEST_BETA)

    def _beta_between(self, visited: np.ndarray) -> np.ndarray:
        """β of the chain that visits these steps, the first of which is 0."""
        alpha = self.alpha[visited]
        return np.concatenate([[0.0], 1 - alpha[1:] / alpha[:-1]])

    def _spread(self, count: int, spacing: str) -> np.ndarray:
        """`count` different steps, increasing up to T."""
        t = np.arange(1, self.T + 1)
        position = SPACINGS[spacing](t, self.snr[1:])  # increases with t
        first = position[-1] / count if spacing == "even" else position[0]
        # Counted down from T, so that a single step is T.
        wanted = np.interp(np.linspace(position[-1], first, count)[::-1], position, t).round().astype(int)
        # Where rounding made two steps one, the later ones move up, or if there is no room, all down.
        index = np.arange(count)
        return np.minimum(np.maximum.accumulate(wanted - index) + index, self.T - count + 1 + index)


def constant(*, beta: float, T: int) -> NoiseSchedule:
    """β_t = β at every step: the report's two runs are (0.001, 2000) and (0.1, 200).

    Raises:
        ValueError: if β is not in [1e-9, 1 − 1e-9], T is not an integer in 1…1,000,000, or α_T is below 1e-60.
    """
    T, beta = check_T(T), check_beta("beta", beta)
    return _from_parameters(np.full(T, beta), beta=beta, T=T)


def linear(*, beta_min: float = 1e-4, beta_max: float = 0.02, T: int = 1000) -> NoiseSchedule:
    """β_t = (t/T)(β_max − β_min) + β_min (equation 3; Ho et al. 2020).

    Raises:
        ValueError: if β_min or β_max is not in [1e-9, 1 − 1e-9], β_min > β_max, T is not an integer in 1…1,000,000, or
            α_T is below 1e-60.
    """
    T, beta_min, beta_max = check_T(T), check_beta("beta_min", beta_min), check_beta("beta_max", beta_max)
    if beta_min > beta_max:
        raise ValueError(f"beta_min = {beta_min:g} must not be larger than beta_max = {beta_max:g}.")
    t = np.arange(1, T + 1)
    return _from_parameters(t / T * (beta_max - beta_min) + beta_min, beta_min=beta_min, beta_max=beta_max, T=T)


def cosine(*, T: int = 1000, offset: float = 0.008, beta_clip: float = 0.999) -> NoiseSchedule:
    """ᾱ(t) = f(t)/f(0), f(t) = cos²(π/2·(t/T + s)/(1 + s)), with β_t ≤ 0.999 (Nichol & Dhariwal 2021, eq. 17).

    α is recomputed from the clipped β, so that the two agree at every t.

    Raises:
        ValueError: if T is not an integer in 1…1,000,000.
    """
    T = check_T(T)
    f = np.cos(math.pi / 2 * (np.arange(T + 1) / T + offset) / (1 + offset)) ** 2
    return NoiseSchedule(np.concatenate([[0.0], np.minimum(1 - f[1:] / f[:-1], beta_clip)]))


def from_betas(betas: Sequence[float] | np.ndarray | Tensor) -> NoiseSchedule:
    """The schedule of these β_1 … β_T, such as those that diffusers calls `betas`.

    Args:
        betas: a list, tuple, NumPy array or 1-D tensor.

    Raises:
        ValueError: if there are none, or more than 1,000,000, a β is not in [1e-9, 1 − 1e-9], or α_T is below 1e-60.
    """
    values = read_betas(betas)
    if not values:
        raise ValueError("betas must hold β_1 … β_T, and not be empty.")
    return _from_parameters(np.array(values), betas=f"[{values[0]:g} … {values[-1]:g}]")


def gather(table: np.ndarray, t: int | Int[Tensor, " batch"], like: Float[Tensor, "batch ..."]) -> Tensor:
    """table[t] as a tensor that broadcasts over `like`, in its dtype and on its device.

    Args:
        table: shape (T+1,), a function of time in float64.
        t: one step for the whole batch, or one for each of its members, in 0…T.

    Raises:
        ValueError: if a t is outside 0…T.
    """
    t = integers(t, device="cpu")
    if t.min() < 0 or t.max() >= len(table):
        raise ValueError(f"t must lie in 0…{len(table) - 1}, not {t.min().item()}…{t.max().item()}.")
    values = torch.from_numpy(np.asarray(table)[t.numpy()].reshape(-1))
    return values.to(like).reshape(-1, *[1] * (like.ndim - 1))


def signal_and_noise(
    schedule: NoiseSchedule, time: Float[Tensor, " batch"], like: Float[Tensor, "batch ..."]
) -> tuple[Tensor, Tensor]:
    """√α_t and √(1−α_t) from the clock t/T, to broadcast over `like`."""
    t = (time.double() * schedule.T).round().long()
    return gather(np.sqrt(schedule.alpha), t, like), gather(np.sqrt(1 - schedule.alpha), t, like)


def _from_parameters(beta: np.ndarray, /, **parameters: float | str) -> NoiseSchedule:
    """The schedule with β_1 … β_T; if there is none, the sentence names the parameters."""
    try:
        return NoiseSchedule(np.append(0.0, beta))
    except ValueError as error:
        names = ", ".join(f"{name} = {value}" for name, value in parameters.items())
        raise ValueError(f"{names}: {error}") from error
