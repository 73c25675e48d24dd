"""The results of part 2: measured by command for what is shipped, read by notebook 05, printed in the README.

`record_restoration` writes data/checkpoints/<slug>/results.json for one restoration, see `restoration_evaluation`.
"""

from collections.abc import Callable
from pathlib import Path

from ddpm_utils import checkpoints, data
from ddpm_utils.evaluation.classifier import load_classifier
from ddpm_utils.evaluation.restoration import evaluate_restoration
from ddpm_utils.system.files import read_csv, write_json
from ddpm_utils.training.restorations import RestorationExperiment
from maintenance.records.shipping import check_sizes, has_run, ledger_for, minutes_alone, named_data, ship_weights

SIZES = {"images": 1000, "calls": 100, "calls_of_new": 25, "ablate": False}
"""How much `record_restoration` measures (see `evaluate_restoration`) where `usual_sizes` says nothing else."""


def usual_sizes(experiment: RestorationExperiment) -> dict[str, int]:
    """Fewer calls with a σ and for the large U-Net; the ablation of the start for the published blur alone."""
    if experiment.network == "unet":
        return SIZES | {"calls": 50, "calls_of_new": 10}
    if experiment.sigma:
        return SIZES | {"calls": 50}
    return SIZES | {"ablate": experiment.slug == RestorationExperiment("blur").slug}


def record_restoration(
    experiment: RestorationExperiment, *, on_progress: Callable[[str], None] = print, **sizes: int
) -> Path:
    """Ship the finished run of an experiment, if there is one, and measure what is shipped; 5 to 15 minutes.

    Parts that are done are kept in the run folder, so that the same command goes on after a stop.

    Args:
        sizes: in place of some of `usual_sizes`.

    Returns:
        the folder.

    Raises:
        ValueError: if a size is not an integer, or larger than the data set allows.
        DataError: if the data set cannot be had.
        CheckpointError: if the run is not finished, there are neither run nor shipped weights, or the experiment names
            a run that is not there.
    """
    check_sizes(sizes)
    trained = has_run(experiment)
    dataset = named_data(experiment)
    if experiment.degradation == "morph":
        data.load("fashion_mnist")  # else its partners would be others, offline
    folder = experiment.shipped_folder
    if trained:
        ship_weights(experiment)
    decoder = experiment.load_decoder("shipped")
    on_progress(decoder.source)
    sizes = usual_sizes(experiment) | sizes
    remember = ledger_for("measured", experiment, dataset, decoder, sizes, on_progress)
    results = {
        "experiment": experiment.identity,
        "weights": decoder.description | {"sha256": checkpoints.digest(decoder.network.state_dict())},
        "minutes": minutes_alone(read_csv(folder / "losses.csv").seconds),
        **evaluate_restoration(experiment, dataset, decoder.network, **sizes, remember=remember),
        "data sha256": dataset.sha256,
        "classifier sha256": load_classifier()[1]["sha256"],
    }
    write_json(folder / "results.json", results)
    return folder
