"""Hot against cold at equal information: data/checkpoints/information.json.

What is trained so far is measured. Parts that are done are kept beside the runs, so that the same command goes on.
"""

from collections.abc import Callable
from pathlib import Path

from ddpm_utils import data
from ddpm_utils.cold.mixtures import DEGRADATIONS
from ddpm_utils.diffusion.exact import identity_loss
from ddpm_utils.evaluation.losses import loss_profile, steps_by_signal
from ddpm_utils.evaluation.recorded import FINE_TUNED, TRAINED
from ddpm_utils.system.files import Ledger, write_json
from ddpm_utils.system.places import RESOURCES, output
from ddpm_utils.training.experiments import Experiment
from ddpm_utils.training.objectives import NoisePrediction, mean_loss
from ddpm_utils.training.restorations import RestorationExperiment
from maintenance.records import seeds
from maintenance.records.device import OnDevice, device_name
from maintenance.records.information import SIZES, level_steps, measure_reader, measure_restoration
from maintenance.records.shipping import ledger_for, named_data, rounded

PATH = RESOURCES / "data" / "checkpoints" / "information.json"
BITS = ("exact", "8 bits")


def record_information(say: Callable[[str], None] = print) -> Path:
    """Measure how well the digit can be read from latents, and how well each trained network restores them.

    Returns:
        the file.
    """
    at_levels = {"shipped": TRAINED, "seeds": seeds.HOT_AND_COLD}
    at_the_end = {"rounded": seeds.ROUNDED, "with noise": [seeds.MORE_EPOCHS, *FINE_TUNED]}
    groups = {name: [(e, level_steps(e.T)) for e in some] for name, some in at_levels.items()}
    groups |= {name: [(e, [e.T]) for e in some] for name, some in at_the_end.items()}
    found = {
        name: [_measured(e, levels, say) for e, levels in group if seeds.is_trained(e)]
        for name, group in groups.items()
    }
    for new in (new for name in groups.keys() - {"shipped"} for entry in found[name] for new in entry["new"]):
        del new["pictures"]  # the notebook shows those of shipped networks
    found["receptive field"] = [_losses(e, say) for e in seeds.RECEPTIVE if seeds.is_trained(e)]
    readers = {f"{name}, {bits}": _read(name, bits, say) for name in DEGRADATIONS for bits in BITS}
    for name in DEGRADATIONS:  # what can be read from rounded latents can be read from exact ones
        exact, rounded_too = (readers[f"{name}, {bits}"]["accuracy"] for bits in BITS)
        readers[f"{name}, exact"] |= {"accuracy": [max(pair) for pair in zip(exact, rounded_too, strict=True)]}
    write_json(PATH, rounded({"readers": readers, **found, "device": device_name()}))
    return PATH


def _read(name: str, bits: str, say: Callable[[str], None]) -> dict:
    """Return the accuracies of the readers of one degradation; see `measure_reader`."""
    dataset = data.load("mnist")
    ledger = Ledger(output() / "data" / "runs" / f"readers-{dataset.sha256[:8]}-{name}.json")
    D = DEGRADATIONS[name][0](T=DEGRADATIONS[name][1], severity=1.0)
    say(f"reader of {name}, {bits}")
    return ledger(bits, lambda: measure_reader(D, dataset, bits))


def _losses(experiment: Experiment, say: Callable[[str], None]) -> dict:
    """Return the test loss of a decoder, and its loss at some steps beside the loss of ε̂ = z_t there."""
    dataset, decoder = named_data(experiment), seeds.load(experiment)
    schedule = experiment.noise_schedule
    steps, images = steps_by_signal(schedule, 12), dataset.test.images[:1000]
    remember = ledger_for("receptive", experiment, dataset, decoder, {"images": len(images), "steps": steps}, say)
    objective, network = NoisePrediction(schedule), decoder.network
    return {
        "network": experiment.network.split(":")[-1],
        "seed": experiment.seed,
        "epochs": experiment.epochs,
        "test loss": remember("loss", lambda: mean_loss(network, objective, dataset.test.images, seed=0)[0]),
        "alpha": schedule.alpha[steps].tolist(),
        "loss": remember("profile", lambda: loss_profile(network, schedule, images, steps).mean(1).tolist()),
        "identity": identity_loss(images, schedule.alpha[steps]).tolist(),
    }


def _measured(experiment: RestorationExperiment, levels: list[int], say: Callable[[str], None]) -> dict:
    """Return the measurements of one network, with what it is."""
    dataset, decoder = named_data(experiment), seeds.load(experiment)
    sizes = SIZES | {"levels": levels}
    remember = ledger_for("information", experiment, dataset, decoder, sizes, say)
    about = {"degradation": experiment.degradation, "T": experiment.T, "sigma": experiment.sigma}
    about |= {"seed": experiment.seed, "epochs": decoder.description["epochs"]}
    return about | measure_restoration(experiment, dataset, OnDevice(decoder.network), remember, levels=levels)
