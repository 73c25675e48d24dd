"""All notebooks on a folder of images: they run end to end, and hold nothing that was measured on MNIST."""

import json
from dataclasses import fields
from pathlib import Path

import pytest
import torch
from sklearn.datasets import load_sample_images

from ddpm_utils.batch.jobs import Job, execute
from ddpm_utils.training.experiments import Experiment
from ddpm_utils.training.restorations import RestorationExperiment

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
IDENTITY = {field.name for kind in (Experiment, RestorationExperiment) for field in fields(kind)}
OF_MNIST = {
    *("02_figure_1_loss_curves", "03_figure_2", "03_figure_3", "03_figure_4", "03_lean_unet", "03_quality_over_calls"),
    *("04_reconstruction", "04_bits"),
    *("05_decoder_losses", "05_information", "05_equal_information", "05_new"),
}
"""Figures of recorded measurements."""
FIGURE = {
    "01_forward_process": "01_data",
    "02_training": "02_this_run",
    "03_sampling": "03_trajectory",
    "04_evaluation": "04_metrics",
    "05_custom_degradation": "05_ways_back",
}
"""One of each notebook."""
EXPLAINED = {
    "02_training": ["No training is recorded for some_crops"],
    "03_sampling": ["No samples are recorded for some_crops"],
    "04_evaluation": ["Nothing is recorded for some_crops", "FID and KID are withheld", "| nearest"],
    "05_custom_degradation": ["Nothing is recorded for some_crops"],
}


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


def texts(notebook: Path) -> str:
    """All that an executed notebook printed."""
    content = json.loads(notebook.read_text(encoding="utf-8"))
    outputs = [out for cell in content["cells"] if cell["cell_type"] == "code" for out in cell["outputs"]]
    shown = [out.get("text") or out.get("data", {}).get("text/markdown") or "" for out in outputs]
    return "\n".join("".join(lines) for lines in shown)


@pytest.mark.parametrize("name", PARAMETERS)
def test_nothing_of_mnist_is_shown_and_what_is_left_out_is_explained(name, crops, output):
    """Each notebook by itself: 03 and 04 train for want of weights, with one step."""
    job = Job(name, PARAMETERS[name] | {"dataset": str(crops)}, output / "executed", output)
    event = execute(job, threads=1)
    assert event.state == "done", event.message
    lines = texts(job.target).splitlines()
    text = "\n".join(line for line in lines if "morph into" not in line)  # what digits morph into is Fashion-MNIST
    assert "200 images in " in text
    assert "mnist" not in text.lower().replace("some crops", "")
    assert "report, " not in text
    assert "recorded, " not in text
    assert [sentence for sentence in EXPLAINED.get(name, ()) if sentence not in text] == []

    values = {key: value for key, value in PARAMETERS[name].items() if key in IDENTITY}
    kind = RestorationExperiment if "degradation" in values else Experiment
    experiment = kind(**values, dataset=str(crops))
    assert [path.parent for path in (output / "data" / "runs").glob("*/figures")] == [experiment.figures_folder.parent]
    assert experiment.slug.endswith(experiment.data_label)
    figures = {path.stem for path in experiment.figures_folder.glob("*.png")}
    assert FIGURE[name] in figures
    assert not figures & OF_MNIST
    assert experiment.table_path.exists() == (name in ("04_evaluation", "05_custom_degradation"))
