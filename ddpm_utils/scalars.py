"""Numbers that users give, as Python's own: NumPy's, torch's, and integers that are written as floats."""

from typing import Any, TypeGuard

import numpy as np
import torch

EXACT = 2**53  # from here on floats leave out integers


def plain(value: Any) -> Any:
    """Return a scalar of NumPy or torch as Python's own; whatever is no scalar as it is.

    A float of few bits becomes the shortest decimal that it stands for: np.float32(0.1) becomes 0.1, as it is printed,
    so that names and hashes made of it are those of 0.1.

    Args:
        value: anything; an array or tensor is a scalar if it has no axis.
    """
    if isinstance(value, torch.Tensor) and value.ndim == 0:
        few_bits = value.dtype in (torch.float16, torch.float32)
        value = value.detach().cpu().numpy()[()] if few_bits else value.item()
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value[()]
    if isinstance(value, np.floating):
        return float(str(value)) if isinstance(value, np.float16 | np.float32) else float(value)
    return value.item() if isinstance(value, np.generic) else value


def whole(value: Any) -> Any:
    """Return an integer that is written as a float, such as 200.0, as an integer; see `plain` for the rest."""
    value = plain(value)
    is_whole = isinstance(value, float) and value.is_integer() and abs(value) < EXACT
    return int(value) if is_whole else value


def integers(values: Any, device: str | None = None) -> torch.Tensor:
    """Return one t or several as a tensor of integers; floats must be whole, as in torch.tensor([1.0, 20.0]).

    Raises:
        ValueError: if they are not.
    """
    tensor = torch.as_tensor(values, device=device)
    if tensor.is_floating_point() and not torch.equal(tensor, tensor.round()):
        raise ValueError(f"t must hold integers, not {tensor.tolist()}.")
    return tensor.long()


def is_integer(value: Any) -> TypeGuard[int]:
    """Whether a value is an integer of Python's, not true or false."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: Any) -> TypeGuard[int | float]:
    """Whether a value is a number of Python's, not true or false."""
    return isinstance(value, int | float) and not isinstance(value, bool)
