"""All notebooks on a folder of images: they run end to end, and hold nothing that was measured on MNIST."""

import json

import pytest
import torch
from sklearn.datasets import load_sample_images

from ddpm_utils.batch.jobs import Job, execute
from ddpm_utils.training.experiments import Experiment, RestorationExperiment

SMALL = {"beta": 0.1, "T": 20, "network": "lean_unet", "epochs": 1, "batch_size": 64}
PARAMETERS = {
    "01_forward_process": {"beta": 0.1, "T": 20},
    "02_training": SMALL,
    "03_sampling": SMALL | {"weights": "run", "calls": 5, "shown": 4},
    "04_evaluation": SMALL | {"weights": "run", "calls": 5, "samples": 20, "images": 8},
    "05_custom_degradation": {
        **{"degradation": "heat", "T": 5, "severity": 4.0, "norm": 1, "sigma": 0.05, "algorithm": "direct"},
        **{"weights": "run", "calls": 5, "shown": 4},
    },
}
OF_MNIST = {
    *("02_figure_1_loss_curves", "03_figure_2", "03_figure_3", "03_figure_4", "03_lean_unet", "03_quality_over_calls"),
    *("04_reconstruction", "04_loss_by_decoder", "04_bits_per_dimension", "04_generalisation_gap", "04_starts"),
    *("04_layer_norm_sight", "04_reverse_steps", "04_traps", "04_off_by_one", "04_memorisation", "04_neighbours"),
    *("05_decoders", "05_decoder_losses", "05_sigma", "05_errors", "05_starts", "05_new"),
}
"""Figures of recorded measurements."""


@pytest.fixture(scope="module")
def crops(tmp_path_factory):
    """200 crops of two photographs, in colour and of other sizes."""
    import PIL.Image

    folder = tmp_path_factory.mktemp("some crops")
    generator = torch.Generator().manual_seed(0)
    for number in range(200):
        photograph = PIL.Image.fromarray(load_sample_images().images[number % 2])
        x, y, width, height = torch.randint(40, 200, (4,), generator=generator).tolist()
        photograph.crop((x, y, x + width, y + height)).save(folder / f"{number}.jpg")
    return folder


@pytest.fixture(scope="module")
def executed(crops, tmp_path_factory):
    """The text that each notebook printed, by name, and the folder of all output."""
    output = tmp_path_factory.mktemp("output")
    texts = {}
    for name, parameters in PARAMETERS.items():
        event = execute(Job(name, parameters | {"dataset": str(crops)}, output / "executed", output), threads=1)
        assert event.state == "done", event.message
        content = json.loads((output / "executed" / f"{name}.ipynb").read_text(encoding="utf-8"))
        outputs = [out for cell in content["cells"] if cell["cell_type"] == "code" for out in cell["outputs"]]
        shown = [out.get("text") or out.get("data", {}).get("text/markdown") or "" for out in outputs]
        texts[name] = "\n".join("".join(lines) for lines in shown)
    return texts, output


@pytest.mark.parametrize("name", PARAMETERS)
def test_nothing_of_mnist_is_shown(name, executed):
    lines = executed[0][name].splitlines()
    text = "\n".join(line for line in lines if "morph into" not in line)  # what digits morph into is Fashion-MNIST
    assert "200 images in " in text
    assert "mnist" not in text.lower().replace("some crops", "")
    assert "report, " not in text
    assert "recorded, " not in text


def test_what_is_left_out_is_explained(executed):
    texts, _ = executed
    assert "No training is recorded for some_crops" in texts["02_training"]
    assert "No samples are recorded for some_crops" in texts["03_sampling"]
    assert "Nothing is recorded for some_crops" in texts["04_evaluation"]
    assert "FID and KID are withheld" in texts["04_evaluation"]
    assert "| nearest" in texts["04_evaluation"]
    assert "Nothing is recorded for some_crops" in texts["05_custom_degradation"]


def test_figures_and_tables_are_in_folders_of_their_own(crops, executed):
    _, output = executed
    label = Experiment(dataset=str(crops)).data_label
    written = {path.parents[1].name: path.parent for path in (output / "data" / "runs").glob("*/figures/*.png")}
    assert all(name.endswith(label) for name in written)
    assert len(written) == 3  # 01 has the report's network, 02 to 04 the lean one, 05 its own
    figures = {path.stem for folder in written.values() for path in folder.glob("*.png")}
    assert figures >= {"01_data", "02_this_run", "03_trajectory", "04_metrics", "05_ways_back"}
    assert not figures & OF_MNIST
    restoration = RestorationExperiment(degradation="heat", T=5, severity=4.0, norm=1, sigma=0.05, dataset=str(crops))
    assert (output / "data" / "runs" / restoration.slug / "table.json").exists()
