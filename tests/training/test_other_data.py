"""A data set is part of an experiment: weights, folders, tables, published rows and features follow from it."""

import shutil

import numpy as np
import PIL.Image
import pytest

from ddpm_utils import data
from ddpm_utils.batch.sweep import main_job
from ddpm_utils.evaluation import evaluate, load_recorded, tables
from ddpm_utils.evaluation.recorded import load_results
from ddpm_utils.system.errors import CheckpointError
from ddpm_utils.training.experiments import PUBLISHED, Experiment
from ddpm_utils.training.restorations import RestorationExperiment

OTHERS = ["fashion_mnist", "kmnist", "emnist", "qmnist", "usps"]
KINDS = [Experiment, RestorationExperiment]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """200 images of blobs."""
    root = tmp_path_factory.mktemp("blobs")
    noise = np.random.default_rng(0).integers(0, 256, (200, 4, 4), dtype=np.uint8)
    for number, image in enumerate(noise):
        PIL.Image.fromarray(image).resize((28, 28)).save(root / f"{number}.png")
    return root


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dataset", OTHERS)
def test_nothing_of_mnist_is_shared(kind, dataset):
    mnist, other = kind(dataset="mnist"), kind(dataset=dataset)
    assert other.slug == f"{mnist.slug}-{dataset}"
    assert other.identity == mnist.identity | {"dataset": dataset}
    assert dataset in other.title
    for path in ("run_folder", "figures_folder", "table_path", "shipped_folder"):
        assert getattr(mnist, path) != getattr(other, path)
    assert mnist.shipped_folder.exists()
    assert not other.shipped_folder.exists()


@pytest.mark.parametrize("kind", KINDS)
def test_mnist_keeps_its_names(kind):
    assert kind(dataset="mnist").slug == kind(dataset="mnist_5k").slug == kind(dataset="MNIST").slug
    assert "mnist" not in kind(dataset="mnist").slug


@pytest.mark.parametrize("kind", KINDS)
def test_a_folder_is_part_of_the_identity(kind, folder):
    other, label = kind(dataset=str(folder)), data.label(str(folder))
    assert other.slug == f"{kind().slug}-{label}"
    assert other.run_folder.name == f"{label}-seed0"
    assert str(folder.parent) not in str(other.identity)


@pytest.mark.parametrize("dataset", OTHERS)
@pytest.mark.parametrize("published", PUBLISHED.values(), ids=PUBLISHED)
def test_no_recorded_result_and_no_published_row(dataset, published):
    experiment = Experiment(**published, dataset=dataset)
    assert load_recorded(experiment) is None
    assert load_results(RestorationExperiment(dataset=dataset)) is None
    live = load_recorded(Experiment(**published)).results
    assert "report, 50 epochs" in set(tables.table_1(Experiment(**published, dataset="mnist"), None, live)["source"])
    assert set(tables.table_1(experiment, None, live)["source"]) == {tables.LIVE}


@pytest.mark.parametrize("weights", ["auto", "shipped"])
def test_the_digits_weights_are_not_for_others(weights, folder, output):
    experiment = Experiment(beta=0.1, T=200, dataset=str(folder), epochs=1)
    decoder = experiment.load_decoder(weights)
    assert decoder.description["dataset"] == data.label(str(folder))
    assert "trained here" in decoder.source
    assert "mnist" not in decoder.source


def test_weights_of_another_data_set_are_refused(folder, few):
    tiny = {"beta": 0.3, "T": 4, "network": "lean_unet", "epochs": 1, "batch_size": 64}
    blobs = Experiment(**tiny, dataset=str(folder))
    blobs.load_decoder("run")
    digits = Experiment(**tiny)
    digits.load_decoder("run")
    shutil.copyfile(digits.run_folder / "best.safetensors", blobs.run_folder / "best.safetensors")
    with pytest.raises(CheckpointError, match=r"has dataset = 'mnist_5k', but 'blobs.*' was asked for"):
        blobs.load_decoder("run")


def test_metrics_of_digits_are_withheld(folder, output):
    experiment = Experiment(beta=0.3, T=4, network="lean_unet", dataset=str(folder), epochs=1)
    dataset = experiment.load_data()
    live = evaluate(experiment, dataset, experiment.load_decoder("run"), samples=20, reconstructions=5, calls=4)
    row = tables.table_1(experiment, None, live)
    assert not [column for column in row if "FID" in column or "KID" in column]
    assert {"nearest N(0, I)", "copies N(0, I)", "nearest, test images"} <= set(row)
    notes = tables.footnotes(None, live)
    assert (
        f"FID and KID are withheld: they compare features of a digit classifier, which do not fit {dataset.name}"
        in notes
    )


def test_the_main_job_uses_what_it_trains_on_other_data(folder, output):
    first, last = main_job([Experiment(**PUBLISHED["high β"], dataset=str(folder))], output / "runs", {"epochs": 1})
    assert [job.parameters["dataset"] for job in (*first, *last)] == [str(folder)] * 5
    assert [job.parameters.get("weights") for job in (*first, *last)] == [None, None, "run", "run", "run"]
    assert first[3].parameters["samples"] == len(data.load(str(folder)).validation)
    assert first[0].folder.name == Experiment(**PUBLISHED["high β"], dataset=str(folder)).slug
    assert "mnist" not in str(last[0].folder)
