"""Losses over t, the generalisation gap, copies and classes of samples: each where the answer is known."""

import numpy as np
import pytest
import torch

from ddpm_utils.data.datasets import Dataset, Part
from ddpm_utils.diffusion.exact import identity_loss
from ddpm_utils.diffusion.schedules import constant
from ddpm_utils.evaluation import losses, samples
from ddpm_utils.evaluation.losses import steps_by_signal
from ddpm_utils.evaluation.neighbours import nearest, neighbours

SCHEDULE = constant(beta=0.05, T=40)


def identity(z, time):
    return z


def test_steps_by_signal_are_even_in_log_snr_and_reach_both_ends():
    schedule = constant(beta=0.001, T=2000)
    steps = steps_by_signal(schedule, 12)
    assert (steps[0], steps[-1], len(steps)) == (1, 2000, 12)
    gaps = np.diff(np.log(schedule.snr[steps]))
    assert gaps[3:].std() < 0.05 * abs(gaps.mean())
    assert steps_by_signal(constant(beta=0.5, T=3), 10) == [1, 2, 3]


def test_loss_by_step_gives_the_identitys_closed_form(digits):
    images = digits.test.images[:400]
    mean, error = losses.loss_by_step(identity, SCHEDULE, images, rounds=20)
    expected = identity_loss(images, SCHEDULE.alpha)
    assert mean[0] == error[0] == 0
    assert (abs(mean - expected)[1:] < 5 * error[1:]).all()
    assert abs(mean[1:].mean() - expected[1:].mean()) < 3 * np.sqrt((error**2).sum()) / 40


def test_loss_by_step_wants_two_losses_for_each_step(digits):
    with pytest.raises(ValueError, match="1 rounds of 79 images are too few for 40 steps: take 2 rounds"):
        losses.loss_by_step(identity, SCHEDULE, digits.test.images[:79])


def test_profiles_share_their_noise(digits):
    images = digits.test.images[:8]
    profiles = [losses.loss_profile(identity, SCHEDULE, images, [1, 40], seed=seed) for seed in (0, 0, 1)]
    assert torch.equal(profiles[0], profiles[1])
    assert not torch.equal(profiles[0], profiles[2])
    assert profiles[0].shape == (2, 8)


def test_the_gap_is_nought_between_the_same_images_and_not_between_others(digits):
    seen = digits.train.images[:200]
    t, same = losses.generalisation_gap(identity, SCHEDULE, seen, seen)
    assert same.abs().max() == 0
    assert torch.bincount(t).tolist() == [0] + [5] * 40
    _, grey = losses.generalisation_gap(identity, SCHEDULE, seen, torch.zeros_like(seen))
    assert grey.mean() < 0  # the identity loses α·E[x²] less on grey images


def test_copies_are_told_from_new_digits(digits):
    seen = digits.train.images
    twice = Dataset("twice", "", Part(digits.train.pixels[:50].repeat(2, 1, 1), digits.train.labels[:50].repeat(2)),
                    digits.validation, digits.test)  # fmt: skip
    assert neighbours(seen[:40], digits) == {"nearest": pytest.approx(0, abs=1e-3), "copies": 1}
    assert neighbours((seen[:40] + 0.01).clamp(-0.5, 0.5), digits)["copies"] == 1
    assert neighbours(seen[:40], twice)["copies"] == 1  # of an image that is there twice
    assert neighbours(digits.test.images[:200], digits)["copies"] == 0
    half = torch.cat([seen[:20], digits.test.images[:20]])
    assert neighbours(half, digits)["copies"] == 0.5


def test_nearest_finds_copies(digits):
    among = digits.train.images[:300]
    distance, index = nearest(among[[7, 200]] + 0.01, among)
    assert index.tolist() == [7, 200]
    torch.testing.assert_close(distance, torch.full((2,), 0.01), rtol=1e-2, atol=1e-4)


def test_classes_are_the_classifiers(digits):
    from ddpm_utils.evaluation.classifier import load_classifier

    found = samples.classes(load_classifier()[0], digits.test.images[:300])
    assert (found == digits.test.labels[:300]).float().mean() > 0.98
