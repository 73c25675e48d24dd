"""Schedules of the user's own: β_1 … β_T in any form, and advice where something else is given."""

import struct
from hashlib import sha256

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler

from ddpm_utils.diffusion.betas import digest, read_betas
from ddpm_utils.diffusion.schedules import NoiseSchedule, constant, cosine, from_betas, linear

pytestmark = pytest.mark.usefixtures("unchecked")
BETAS = [0.1, 0.2, 0.4]
SIGNAL = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))
FORMS = {
    "list": BETAS,
    "tuple": tuple(BETAS),
    "float64": np.array(BETAS),
    "float32": np.array(BETAS, dtype=np.float32),
    "tensor": torch.tensor(BETAS),
    "double tensor": torch.tensor(BETAS, dtype=torch.float64),
    "tensor with a gradient": torch.tensor(BETAS, requires_grad=True),
    "scalars": [np.float32(0.1), torch.tensor(0.2), 0.4],
    "every second one": np.array([0.1, 9, 0.2, 9, 0.4])[::2],
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_the_same_schedule(form):
    assert read_betas(FORMS[form]) == tuple(BETAS)
    np.testing.assert_array_equal(from_betas(FORMS[form]).beta, [0, *BETAS])


@pytest.mark.parametrize("schedule", [constant(beta=0.1, T=20), linear(), cosine()])
def test_a_schedule_is_made_of_its_own_betas(schedule):
    again = from_betas(schedule.beta[1:])
    np.testing.assert_array_equal(again.beta, schedule.beta)
    np.testing.assert_array_equal(again.alpha, schedule.alpha)


@pytest.mark.parametrize("name", ["linear", "scaled_linear", "squaredcos_cap_v2"])
def test_the_betas_of_diffusers_are_taken(name):
    scheduler = DDPMScheduler(100, beta_schedule=name)
    np.testing.assert_allclose(from_betas(scheduler.betas).alpha[1:], scheduler.alphas_cumprod, rtol=1e-4)


def test_digests_tell_betas_apart_and_know_float32_again():
    other = torch.linspace(1e-4, 0.02, 30)
    assert digest(read_betas(other)) == digest(other.tolist()) == digest(read_betas(other.numpy()))
    assert (
        digest(BETAS) == digest(np.array(BETAS, dtype=np.float32)) == sha256(struct.pack("<3f", *BETAS)).hexdigest()[:8]
    )
    assert len({digest(BETAS), digest(BETAS[::-1]), digest(BETAS[:2]), digest([*BETAS, 0.4]), digest([])}) == 5


@pytest.mark.parametrize(
    ("betas", "sentence"),
    [
        ([], "betas must hold β_1 … β_T, and not be empty."),
        ([0, 0.1], "betas must begin with β_1, not with β_0 = 0: leave out the 0."),
        ([0.1, float("nan")], "betas[1] = β_2 must lie strictly between 0 and 1, not nan."),
        (torch.tensor([0.1, 0.2, 1.0]), "betas[2] = β_3 must lie strictly between 0 and 1, not 1.0."),
        (np.array([-0.1]), "betas[0] = β_1 must lie strictly between 0 and 1, not -0.1."),
        ([0.1, 1e-12], "betas[1] = β_2 must be at least 1e-9 from 0 and from 1, or rounding loses it; not 1e-12."),
        ([0.1, "0.2"], "betas must be a list of numbers, β_1 … β_T, and β_2 is '0.2'."),
        ([True], "betas must be a list of numbers, β_1 … β_T, and β_1 is True."),
        ([[0.1, 0.2]], "betas must be a list of numbers, β_1 … β_T, and β_1 is [0.1, 0.2]."),
        (np.full((2, 3), 0.1), "betas must be a list of numbers, β_1 … β_T, not an array of shape (2, 3)."),
        (torch.full((1, 4, 1), 0.1), "betas must be a list of numbers, β_1 … β_T, not an array of shape (1, 4, 1)."),
        (0.1, "betas must be a list of numbers, β_1 … β_T, not 0.1. For the same β at each step take beta."),
        (
            np.float32(0.1),
            "betas must be a list of numbers, β_1 … β_T, not 0.1. For the same β at each step take beta.",
        ),
        ("cosine", "betas must be a list of numbers, β_1 … β_T, not 'cosine'."),
        ({0.1}, "betas must be a list of numbers, β_1 … β_T, not {0.1}."),
        (None, "betas must be a list of numbers, β_1 … β_T, not None."),
        (1_000_001 * [0.1], "betas must hold at most 1000000 numbers, not 1000001."),
        (400 * [0.5], "betas = [0.5 … 0.5]: alpha at T = 400 is 4e-121, below 1e-60: take a smaller beta or T."),
    ],
    ids=lambda value: str(value)[:30],
)
def test_anything_else_is_refused(betas, sentence):
    with pytest.raises(ValueError, match=r"^betas") as found:
        from_betas(betas)
    assert str(found.value) == sentence


@pytest.mark.parametrize(
    "values",
    [
        SIGNAL,
        torch.tensor(SIGNAL).float(),
        np.append(1, SIGNAL),
        1 - linear().beta[1:],
        cosine().alpha[1:],
        [0.95, 0.9],
    ],
    ids=["alphas_cumprod", "float32", "with 1", "alphas", "cosine", "short"],
)
def test_signal_that_is_taken_for_noise_has_its_advice(values):
    for make, name in ((from_betas, "betas"), (NoiseSchedule, "beta")):
        with pytest.raises(
            ValueError, match=rf"^{name} must hold .* but these values fall from .* take its betas, or β"
        ):
            make(values)


def test_harsh_first_steps_are_no_signal():
    assert from_betas([0.8, 0.5, 0.1]).T == 3
    assert from_betas([0.95, 0.95]).T == 2
    assert from_betas([0.99]).T == 1


@pytest.mark.parametrize(
    ("beta", "sentence"),
    [
        (
            torch.linspace(1e-4, 0.02, 1000),
            r"beta must begin with beta\[0\] = 0, not 0.0001: prepend 0, or use schedules",
        ),
        (BETAS, r"not 0\.1: prepend 0, or use schedules\.from_betas, which takes β_1 … β_T\.$"),
        (np.array([np.nan, 0.1]), r"beta must begin with beta\[0\] = 0, not nan"),
        (np.zeros((2, 2)), r"beta must be a 1-D array over t = 0…T .*, not an array of shape \(2, 2\)\."),
        (0.1, r"beta must be a 1-D array over t = 0…T .*, not an array of shape \(\)\."),
    ],
)
def test_a_schedule_says_what_to_do_with_betas(beta, sentence):
    with pytest.raises(ValueError, match=sentence):
        NoiseSchedule(beta)


def test_a_schedule_takes_tensors():
    beta = torch.tensor([0, *BETAS], dtype=torch.float64, requires_grad=True)
    np.testing.assert_array_equal(NoiseSchedule(beta).beta, [0, *BETAS])
