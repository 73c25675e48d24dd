"""The cells that take β = 0.1 apart: which steps each visits, at which clock, and how its samples are kept."""

from itertools import pairwise

import numpy as np
import pytest
import torch

import ddpm_utils as ddpm
from ddpm_utils.diffusion.samplers import Latent
from ddpm_utils.randomness import Noise
from ddpm_utils.training.experiments import PUBLISHED
from maintenance.records import seeds
from maintenance.records.decomposition import CELLS, COARSE, OWN, cells_of, chain_of, from_bytes, to_bytes, walk


def test_each_cell_belongs_to_one_network_of_each_seed():
    drawn = [name for experiment in seeds.DECOMPOSED if experiment.seed == 0 for name in cells_of(experiment)]
    assert sorted(drawn) == sorted(CELLS)
    assert len(CELLS) <= 12


def test_neighbours_differ_in_few_factors():
    """The walk from the published row to the best one changes one factor at a time, and the start with the grid."""
    for one, other in pairwise(list(CELLS)[:6]):
        changed = {k for k in CELLS[one]._fields if getattr(CELLS[one], k) != getattr(CELLS[other], k)}
        assert len(changed) == 1 or changed == {"grid", "start"}, (one, other, changed)


@pytest.mark.parametrize("name", CELLS)
def test_chains_begin_where_their_name_says(name):
    cell = CELLS[name]
    schedule = seeds.decoder_of(cell.network, cell.trained_on, 0).noise_schedule
    chain = chain_of(cell, schedule)
    assert chain.alpha[-1] == pytest.approx(schedule.alpha[-1] if cell.grid == OWN else 0.135, rel=0.01)
    assert len(chain.alpha) == 1 + (19 if cell.grid == COARSE else 200)


def test_the_schedule_off_by_one_is_the_published_one():
    """α_t = 0.9^(t+1), as `cumprod` gives it without a 1 in front, read at t from 1 on."""
    schedule = seeds.decoder_of("cnn", "high β, off by one", 0).noise_schedule
    assert np.allclose(schedule.alpha[1:], np.cumprod(np.full(201, 0.9))[1:])


def test_the_published_chain_asks_at_its_own_clock_and_ends_one_step_short():
    """Published step t = 200 … 1, with α_t = 0.9^(t+1) and β = 0.1 in algorithm 2."""
    cell, seen = CELLS["published"], []
    schedule = seeds.decoder_of("cnn", "high β, off by one", 0).noise_schedule

    def network(z: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        seen.append(time[0].item())
        return z * (0.9 + 0.1 * time.reshape(-1, 1, 1, 1))

    sampler, decoder, chain = walk(cell, network, schedule)
    z = torch.randn((2, 1, 28, 28), generator=torch.Generator().manual_seed(0))
    *_, last = sampler(decoder, chain, z, Noise([1, 2]))
    assert isinstance(last, Latent)
    assert np.allclose(seen, np.arange(200, 0, -1) / 200)
    noise, expected, alpha = Noise([1, 2]), z, 0.9 ** np.arange(1, 202)
    for t in range(200, 0, -1):
        g = network(expected, torch.full((2,), t / 200))
        expected = (expected - 0.1 / (1 - alpha[t]) ** 0.5 * g) / 0.9**0.5
        expected = expected + 0.1**0.5 * noise() if t > 1 else expected
    assert torch.allclose(last.z, expected, atol=1e-4)


def test_images_survive_as_bytes():
    images = ddpm.load("mnist_5k").test.images[:5]
    assert torch.allclose(from_bytes(to_bytes(images)), images, atol=1e-6)


def test_the_published_schedules_are_among_the_trained_ones():
    assert not set(PUBLISHED) - set(seeds.TRAINED_ON)
    folders = [experiment.run_folder for experiment in seeds.ALL]
    assert len(folders) == len(set(folders))
