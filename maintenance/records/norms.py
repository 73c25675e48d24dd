"""The CNN's three LayerNorm options beside each other: what each sees of t and of the image's mean, what it costs.

Three epochs each on the low-β schedule, where the chain's start differs from N(0, I) most.
"""

from collections.abc import Callable
from pathlib import Path

from ddpm_utils import checkpoints
from ddpm_utils.evaluation.recorded import NORMS
from ddpm_utils.evaluation.sight import sight, starts
from ddpm_utils.plots.explanations import LAYER_NORMS
from ddpm_utils.system.files import read_csv, write_json
from ddpm_utils.training.experiments import PUBLISHED, Experiment
from ddpm_utils.training.run import read_history
from maintenance.records.shipping import named_data, ship_weights

EPOCHS = 3
RUN_NAME = "three-epochs"
EXPERIMENTS = [
    Experiment(**PUBLISHED["low β"], network=network, dataset="mnist", epochs=EPOCHS, run_name=RUN_NAME)
    for network in LAYER_NORMS
]


def record_norms(on_progress: Callable[[str], None] = print) -> Path:
    """Measure all three options after three epochs, and the shipped CNN; trains what is missing; a quarter of an hour.

    Ships the weights of the two options that the report does not use.

    Returns:
        the file.
    """
    entries = {}
    finished = Experiment(**PUBLISHED["low β"], dataset="mnist")
    for experiment in [*EXPERIMENTS, finished]:
        dataset = named_data(experiment)
        if experiment is not finished:
            for _ in experiment.train(experiment.open_run(dataset), dataset):  # none if it is trained
                pass
        if experiment.network != "cnn":
            ship_weights(experiment, bits=16, history=False)
        decoder = experiment.load_decoder("run" if experiment is EXPERIMENTS[0] else "shipped")
        epochs = decoder.description["epoch"]
        on_progress(f"{LAYER_NORMS[experiment.network]}, {epochs} epochs: {decoder.source}")
        shipped = experiment.shipped_folder / "losses.csv"
        history = read_csv(shipped).itertuples() if experiment is finished else read_history(experiment.run_folder)
        entries[f"{LAYER_NORMS[experiment.network]}, {epochs} epochs"] = {
            "network": experiment.network,
            "weights": decoder.description | {"sha256": checkpoints.digest(decoder.network.state_dict())},
            "data sha256": dataset.sha256,
            "losses": [record.validation_loss for record in history][:epochs],
            "sight": sight(experiment, dataset, decoder),
            "starts": starts(experiment, dataset, decoder),
        }
    write_json(NORMS, entries)
    return NORMS
