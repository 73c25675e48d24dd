"""The map of sample quality over β and T."""

import matplotlib.pyplot as plt
import pandas as pd
import pytest
import torch

from ddpm_utils.plots.quality_map import in_words, is_map, quality_map
from ddpm_utils.system.files import to_text


@pytest.fixture
def table() -> pd.DataFrame:
    """Four experiments; the one with the most noise has no matched start of its own."""
    cells = [(beta, T) for beta in (0.01, 0.1) for T in (20, 50)]
    return pd.DataFrame(
        {
            "experiment": [f"beta{beta}-T{T}" for beta, T in cells],
            "schedule": "constant",
            "beta": [beta for beta, _ in cells],
            "T": [T for _, T in cells],
            "network": "lean_unet",
            "alpha_T": [(1 - beta) ** T for beta, T in cells],
            "FID N(0, I)": [40.0, 20.0, 10.0, 5.0],
            "FID matched": [8.0, 7.0, 6.0, None],
        }
    )


@pytest.fixture
def samples(table) -> dict:
    """Images of one grey each, which tells the experiment."""
    greys = {name: torch.full((16, 1, 28, 28), k / 8 - 0.25) for k, name in enumerate(table["experiment"])}
    return {name: {"standard": to_text(x), "matched": to_text(x + 0.2)} for name, x in greys.items()}


def test_each_tile_is_where_its_beta_and_T_are(table, samples):
    figure = quality_map(table, samples)
    tiles = [ax for ax in figure.axes if ax.images]
    assert len(tiles) == 8
    shown = [round(float(ax.images[0].get_array().mean()), 1) for ax in tiles[:4]]
    assert shown == [-0.1, 0.1, -0.2, 0.0]  # T = 50 above T = 20; β = 0.01 left of β = 0.1
    scores = [float(ax.get_title().split()[0]) for ax in tiles]
    assert scores == [20, 5, 40, 10, 7, 5, 8, 6]  # where the starts are the same, the matched FID is the standard one
    plt.close(figure)


def test_the_same_score_has_the_same_colour_on_both_maps_and_better_ones_are_brighter(table, samples):
    figure = quality_map(table, samples)
    colours = {float(ax.get_title().split()[0]): ax.spines["left"].get_edgecolor() for ax in figure.axes if ax.images}
    brightness = [sum(colours[score][:3]) for score in sorted(colours)]
    assert brightness == sorted(brightness, reverse=True)
    plt.close(figure)


def test_a_cell_that_is_not_there_yet_is_empty(table, samples):
    figure = quality_map(table.iloc[1:], samples)
    assert sum(bool(ax.images) for ax in figure.axes) == 6
    plt.close(figure)


def test_seeds_are_averaged(table, samples):
    again = table.assign(experiment=table["experiment"] + "-seed1", **{"FID N(0, I)": table["FID N(0, I)"] + 2})
    more = samples | {f"{name}-seed1": found for name, found in samples.items()}
    figure = quality_map(pd.concat([table, again], ignore_index=True), more)
    assert [float(ax.get_title().split()[0]) for ax in figure.axes if ax.images][:4] == [21, 6, 41, 11]
    plt.close(figure)


def test_it_is_a_map_if_beta_and_T_vary_and_nothing_else(table):
    parameters = ("schedule", "beta", "T", "network", "seed", "batch_size")
    assert is_map(table, parameters)
    assert is_map(table.assign(seed=[0, 1, 0, 1]), parameters)
    assert not is_map(table[table["T"] == 20], parameters)
    assert not is_map(table.assign(network=["cnn", "lean_unet"] * 2), parameters)
    assert not is_map(table.assign(batch_size=[64, 64, 64, 128]), parameters)
    assert not is_map(table.assign(schedule="linear"), parameters)
    assert not is_map(table.drop(columns="beta"), parameters)


def test_words_name_the_best(table):
    assert in_words(table) == (
        "Samples and their FID for 2 β times 2 T: from N(0, I) the FID is best, 5, at β = 0.1, T = 50; "
        "from the matched start the FID is best, 5, at β = 0.1, T = 50."
    )
