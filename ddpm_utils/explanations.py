"""Why Table 1 says what it says: all measurements of notebook 04 for one trained decoder."""

from collections.abc import Callable
from functools import partial
from typing import Any

from ddpm_utils.analysis import Sizes
from ddpm_utils.data import Dataset
from ddpm_utils.experiment import Experiment
from ddpm_utils.ledger import compute_always
from ddpm_utils.loss_explanations import bits, gap, losses
from ddpm_utils.sample_explanations import off_by_one_table, reconstruction, reverse_steps, samples, switches
from ddpm_utils.training_setup import Decoder


def explain(
    experiment: Experiment,
    dataset: Dataset,
    decoder: Decoder,
    sizes: Sizes,
    remember: Callable[[str, Callable[[], Any]], Any] = compute_always,
) -> dict:
    """All measurements, by name. `remember` (see `Ledger`) keeps each as soon as it is known."""
    of_schedule = experiment.noise_schedule, dataset, decoder, sizes
    of_experiment = experiment, dataset, decoder, sizes
    parts = {
        "losses": partial(losses, *of_schedule),
        "bits": partial(bits, *of_schedule),
        "gap": partial(gap, *of_schedule),
        "reconstruction": partial(reconstruction, *of_experiment),
        "samples": partial(samples, *of_experiment),
        "reverse steps": partial(reverse_steps, *of_schedule),
        "switches": partial(switches, *of_schedule),
        "reconstruction, α off by one": partial(off_by_one_table, *of_experiment),
    }
    return {name: remember(name, compute) for name, compute in parts.items()}
