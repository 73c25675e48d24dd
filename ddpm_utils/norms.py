"""The CNN's three LayerNorm options beside each other: what each sees of t and of the image's mean, what it costs.

Three epochs each on the low-β schedule, where the chain's start differs from N(0, I) most.
"""

from collections.abc import Callable
from pathlib import Path

import torch

from ddpm_utils import analysis, checkpoints, metrics
from ddpm_utils.classifier import load_classifier
from ddpm_utils.data import PROJECT, Dataset
from ddpm_utils.evaluation import STARTS, generate
from ddpm_utils.exact import AffineDecoder
from ddpm_utils.experiment import PUBLISHED, Experiment
from ddpm_utils.forward import diffuse
from ddpm_utils.ledger import to_text
from ddpm_utils.runs import read_history
from ddpm_utils.sealed import read_csv, read_json, write_json
from ddpm_utils.shipping import named_data
from ddpm_utils.training import generator_for
from ddpm_utils.training_setup import NETWORKS, Decoder

OPTIONS = {"cnn": "(C, 28, 28)", "cnn_plane_norm": "(28, 28)", "cnn_no_norm": "none"}
EPOCHS = 3
RUN_NAME = "three-epochs"
SHIPPED = PROJECT / "data" / "checkpoints" / "norms.json"
EXPERIMENTS = [
    Experiment(**PUBLISHED["low β"], network=network, dataset="mnist", epochs=EPOCHS, run_name=RUN_NAME)
    for network in OPTIONS
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
            best, label = checkpoints.load(experiment.run_folder / "best.safetensors")
            halved = {name: tensor.half() for name, tensor in best.items()}
            checkpoints.save(experiment.shipped_folder / "weights.safetensors", halved, label)
        decoder = experiment.load_decoder("run" if experiment is EXPERIMENTS[0] else "shipped")
        epochs = decoder.description["epoch"]
        on_progress(f"{OPTIONS[experiment.network]}, {epochs} epochs: {decoder.source}")
        shipped = experiment.shipped_folder / "losses.csv"
        history = read_csv(shipped).itertuples() if experiment is finished else read_history(experiment.run_folder)
        entries[f"{OPTIONS[experiment.network]}, {epochs} epochs"] = {
            "network": experiment.network,
            "weights": decoder.description | {"sha256": checkpoints.digest(decoder.network.state_dict())},
            "data sha256": dataset.sha256,
            "losses": [record.validation_loss for record in history][:epochs],
            "sight": sight(experiment, dataset, decoder),
            "starts": starts(experiment, dataset, decoder),
        }
    write_json(SHIPPED, entries)
    return SHIPPED


def load_norms() -> dict[str, dict]:
    """What `record_norms` wrote, by LayerNorm option and epochs.

    Raises:
        CheckpointError: if the file is damaged.
    """
    return read_json(SHIPPED)


def sight(experiment: Experiment, dataset: Dataset, decoder: Decoder, *, images: int = 256) -> dict:
    """What a CNN sees of the clock and of the image's mean, with its zero padding and with circular padding.

    Returns:
        clock: the change of its output when only the clock does (`analysis.clock_response`), at α = ½.
        steps, alpha: a few t's; at each of them
        shift: d mean(ε̂)/dc for z + c (`analysis.shift_response`), and mean error: the part of the noise's mean that
            its estimate misses (`analysis.mean_error`), also of the best affine decoder.
    """
    schedule = experiment.noise_schedule
    plain = NETWORKS[experiment.network]()
    plain.load_state_dict(decoder.network.state_dict())
    plain.requires_grad_(False).eval()
    networks = {"zero padding": plain, "circular padding": analysis.with_circular_padding(plain)}
    x = dataset.test.images[:images]
    noise = torch.randn(x.shape, generator=generator_for(0, "sight"))
    half = int((abs(schedule.alpha - 0.5)).argmin())
    z = diffuse(x, half, noise, schedule)
    steps = sorted({max(1, schedule.T * k // 20) for k in (0, 1, 2, 5, 10, 15, 20)})
    affine = AffineDecoder(dataset.train.images, schedule)
    decoders = networks | {"affine": affine}
    latents = [diffuse(x, t, noise, schedule) for t in steps]
    return {
        "clock": {name: analysis.clock_response(network, z[:64]) for name, network in networks.items()},
        "steps": steps,
        "alpha": schedule.alpha[steps].tolist(),
        "shift": {
            name: [analysis.shift_response(d, z[:64], t / schedule.T) for z, t in zip(latents, steps, strict=True)]
            for name, d in decoders.items()
        },
        "mean error": {name: [analysis.mean_error(d, schedule, x, t) for t in steps] for name, d in decoders.items()},
    }


def starts(experiment: Experiment, dataset: Dataset, decoder: Decoder, *, samples: int = 2000, calls: int = 30) -> dict:
    """What starting from N(0, I) costs: z_T's true mean and deviation, and grey levels and FID from both starts."""
    classifier, _ = load_classifier()
    schedule = experiment.noise_schedule
    real = torch.cat([dataset.test.images, dataset.validation.images])[: 2 * samples]
    features = metrics.features(classifier.embed, real)
    result = {"z_T": analysis.start_mismatch(dataset.train.images, schedule), "from": {}}
    result["real"] = _greys(real[:samples])
    for start in STARTS:
        images = generate(experiment, dataset, decoder, samples, calls=calls, start=start)
        found = metrics.fid_quality(metrics.features(classifier.embed, images), features)
        result["from"][start] = found | _greys(images) | {"pictures": to_text(images[:10])}
    return result


def _greys(images: torch.Tensor) -> dict[str, float]:
    """Mean grey in [0, 1], over all pixels and of the background, of clamped images."""
    unit = metrics.to_unit(images)
    return {"mean grey": unit.mean().item(), "background": analysis.background(unit).mean().item()}
