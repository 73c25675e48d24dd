"""β as users give it: read, checked, and with advice for what is given instead."""

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from ddpm_utils.scalars import is_integer, is_number, plain, whole

LARGEST_T = 1_000_000
SMALLEST_BETA = 1e-9  # so much noise, or signal, each step must leave: less is lost in rounding


def check_T(T: int) -> int:
    """Refuse a number of steps that no schedule can have; return it as Python's integer.

    Raises:
        ValueError: if T is not an integer in 1…1,000,000.
    """
    T = whole(T)
    if not is_integer(T):
        raise ValueError(f"T must be an integer, not {T!r}.")
    if not 1 <= T <= LARGEST_T:
        raise ValueError(f"T must be in 1…{LARGEST_T}, not {T}.")
    return T


def check_beta(name: str, value: float) -> float:
    """Refuse a β that no schedule can have; return it as Python's number.

    Raises:
        ValueError: if it is not a number in [1e-9, 1 − 1e-9].
    """
    value = plain(value)
    if not is_number(value):
        raise ValueError(f"{name} must be a number, not {value!r}.{advice(name, value)}")
    if not 0 < value < 1:
        raise ValueError(f"{name} must lie strictly between 0 and 1, not {value!r}.")
    if not SMALLEST_BETA <= value <= 1 - SMALLEST_BETA:
        raise ValueError(f"{name} must be at least 1e-9 from 0 and from 1, or rounding loses it; not {value!r}.")
    return value


def advice(name: str, value: Any) -> str:
    """Return what to do with several numbers that are given for one β, as a sentence; "" for anything else."""
    several = isinstance(value, Sequence | np.ndarray | torch.Tensor) and not isinstance(value, str | bytes)
    if not (several and name.startswith("beta")):
        return ""
    return ' For a β of its own at each step take schedule="custom" and betas=[β_1, …, β_T].'


def read_betas(betas: Any) -> tuple[float, ...]:
    """Return β_1 … β_T as Python's floats (see `scalars.plain`).

    Args:
        betas: a list, tuple, NumPy array or 1-D tensor; it may be empty.

    Raises:
        ValueError: if it is none of these, or a β is not in [1e-9, 1 − 1e-9].
    """
    betas = plain(betas)
    if isinstance(betas, torch.Tensor):
        betas = (betas.float() if betas.dtype == torch.bfloat16 else betas).detach().cpu().numpy()
    if hasattr(betas, "__array__"):
        array = np.asarray(betas)
        if array.ndim != 1:
            raise ValueError(f"betas must be a list of numbers, β_1 … β_T, not an array of shape {array.shape}.")
        betas = list(array)
    if not isinstance(betas, Sequence) or isinstance(betas, str | bytes):
        what = " For the same β at each step take beta." if is_number(betas) else ""
        raise ValueError(f"betas must be a list of numbers, β_1 … β_T, not {betas!r}.{what}")
    values = tuple(plain(value) for value in betas)
    if len(values) > LARGEST_T:
        raise ValueError(f"betas must hold at most {LARGEST_T} numbers, not {len(values)}.")
    for t, value in enumerate(values, start=1):
        if not is_number(value):
            raise ValueError(f"betas must be a list of numbers, β_1 … β_T, and β_{t} is {value!r}.")
    if len(values) > 1 and values[0] == 0:
        raise ValueError("betas must begin with β_1, not with β_0 = 0: leave out the 0.")
    if hint := what_falls(np.array(values)):
        raise ValueError(f"betas must hold β_1 … β_T, but {hint}")
    for t, value in enumerate(values, start=1):
        check_beta(f"betas[{t - 1}] = β_{t}", value)
    return tuple(map(float, values))


def what_falls(values: np.ndarray) -> str:
    """Say what values are that fall from next to 1 on, as signal does and noise does not; "" of others."""
    if len(values) < 2 or not 0.9 < values[0] <= 1 or not (np.all(np.diff(values) <= 0) and values[-1] < values[0]):
        return ""
    return (
        f"these values fall from {values[0]:g} to {values[-1]:g}, as ᾱ_t or 1 − β_t do (alphas_cumprod and alphas of "
        "diffusers): take its betas, or β_t = 1 − ᾱ_t/ᾱ_{t−1} with ᾱ_0 = 1."
    )


def digest(betas: Sequence[float]) -> str:
    """Return eight hexadecimal digits that name β_1 … β_T, the same for float32 and float64."""
    return hashlib.sha256(np.array(betas, dtype="<f4").tobytes()).hexdigest()[:8]
