"""Hot against cold at equal information, with three seeds: data/checkpoints/information.json.

What is trained so far is measured. Parts that are done are kept beside the runs, so that the same command goes on.
"""

from collections.abc import Callable
from pathlib import Path

from ddpm_utils import data
from ddpm_utils.cold.mixtures import DEGRADATIONS
from ddpm_utils.evaluation.recorded import TRAINED
from ddpm_utils.system.files import Ledger, write_json
from ddpm_utils.system.places import RESOURCES, output
from ddpm_utils.training.base import TrainingSetup
from maintenance.records import seeds
from maintenance.records.device import OnDevice, device_name
from maintenance.records.information import CALLS, IMAGES, measure_ddpm, measure_reader, measure_restoration
from maintenance.records.shipping import ledger_for, named_data, rounded

PATH = RESOURCES / "data" / "checkpoints" / "information.json"
BITS = ("exact", "8 bits")


def record_information(say: Callable[[str], None] = print) -> Path:
    """Measure how well the digit can be read from latents, and how well each trained network restores them.

    Returns:
        the file.
    """
    dataset = data.load("mnist")
    readers = Ledger(output() / "data" / "runs" / f"readers-{dataset.sha256[:8]}.json")
    read = {}
    for experiment in TRAINED:
        name = experiment.degradation
        for bits in BITS:
            D = DEGRADATIONS[name][0](T=experiment.T, severity=1.0)
            read[f"{name}, {bits}"] = readers(f"{name}, {bits}", lambda D=D, b=bits: measure_reader(D, dataset, b))
            say(f"reader of {name}, {bits}")
    groups = {"cold": seeds.COLD, "hot": seeds.HOT, "rounded": seeds.ROUNDED, "fine-tuned": seeds.FINE_TUNED}
    found = {name: [_measured(e, say) for e in filter(seeds.is_trained, group)] for name, group in groups.items()}
    write_json(PATH, rounded({"readers": read, **found, "device": device_name()}))
    return PATH


def _measured(experiment: TrainingSetup, say: Callable[[str], None]) -> dict:
    """Return the measurements of one network, with what it is."""
    dataset, decoder = named_data(experiment), seeds.load(experiment)
    remember = ledger_for("information", experiment, dataset, decoder, {"images": IMAGES, "calls": CALLS}, say)
    measure = measure_restoration if hasattr(experiment, "degradation") else measure_ddpm
    about = {"network": experiment.slug, "seed": experiment.seed, "epochs": experiment.epochs}
    return about | measure(experiment, dataset, OnDevice(decoder.network), remember)
