"""Numbers of NumPy and torch, and integers written as floats, become Python's own; nothing else is changed."""

import json
import math

import numpy as np
import pytest
import torch

from ddpm_utils.scalars import plain, whole


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        *[(200, 200), (0.1, 0.1), (np.int64(200), 200), (np.uint8(7), 7), (np.float64(0.1), 0.1)],
        *[(np.float32(0.1), 0.1), (np.float16(0.1), 0.1), (np.longdouble(0.5), 0.5), (np.array(5), 5)],
        *[(torch.tensor(5), 5), (torch.tensor(0.1), 0.1), (torch.tensor(0.1, dtype=torch.float64), 0.1)],
        *[(torch.tensor(0.25, dtype=torch.bfloat16), 0.25), (torch.tensor(0.1, requires_grad=True), 0.1)],
        *[(np.float32(1e-9), 1e-9), (np.array(0.02, dtype=np.float32), 0.02), (np.float64("inf"), math.inf)],
        *[(np.bool_(True), True), (torch.tensor(False), False), (np.str_("cosine"), "cosine")],
    ],
    ids=repr,
)
def test_scalars_become_pythons_own(value, expected):
    found = plain(value)
    assert type(found) is type(expected)
    assert found == expected
    assert json.dumps(found) == json.dumps(expected)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        *[(200.0, 200), (-3.0, -3), (np.float32(20), 20), (torch.tensor(5.0), 5), (np.array(2.0), 2), (0.0, 0)],
        *[(200.5, 200.5), (math.inf, math.inf), (1e300, 1e300), ("200", "200"), (True, True), (None, None)],
    ],
)
def test_only_integers_become_integers(value, expected):
    found = whole(value)
    assert type(found) is type(expected)
    assert found == expected


@pytest.mark.parametrize("value", [[1.0], (2,), np.array([1.0]), torch.tensor([1.0]), {"a": 1.0}, object()])
def test_what_is_no_scalar_stays_as_it_is(value):
    assert whole(value) is value
