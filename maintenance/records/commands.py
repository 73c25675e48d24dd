"""What `python -m maintenance records …` does; imports that take seconds wait until they are needed."""

import argparse

from ddpm_utils.__main__ import add_command
from ddpm_utils.commands import relative, train_experiment
from ddpm_utils.system.files import write_bytes
from ddpm_utils.system.places import PROJECT

PARAMETERS = "parameters of the experiment"


def add_commands(commands: argparse._SubParsersAction) -> None:
    """Add the subcommands of `records`."""
    add_command(commands, "measure", measure, "evaluate a trained run at full size and ship it", PARAMETERS)
    add_command(commands, "ship", ship, "ship the weights of a finished run", PARAMETERS)
    add_command(commands, "samplers", samplers, "FID over network calls, for every sampler", PARAMETERS)
    add_command(commands, "explain", explain, "measure what explains Table 1, for shipped weights", PARAMETERS)
    add_command(commands, "decoders", decoders, "compare the decoders of part 2's prelude")
    seeds = add_command(commands, "seeds", train_seeds, "train the networks of the verdicts with three seeds each")
    seeds.add_argument("--workers", type=int, default=1, metavar="N", help="trainings at a time on one GPU")
    add_command(commands, "decomposition", decomposition, "sample and measure the causes of β = 0.1, cell by cell")
    add_command(commands, "information", information, "restore from equal information, hot and cold")
    add_command(commands, "parameterisation", parameterisation, "compare targets and weightings")
    add_command(commands, "gaussian-step", gaussian_step, "test the Gaussian reverse step on a known density")
    add_command(commands, "classifier", classifier, "train the digit classifier again")
    add_command(commands, "tables", tables, "put the recorded tables into the README")
    add_command(commands, "map", quality_map, "copy the map of the sweep beta_T to the gallery")
    add_command(commands, "reproduce", reproduce, "train and measure everything that is shipped (days; resumable)")


def _experiment(values: dict):
    from ddpm_utils.batch.grid import make_experiment

    return make_experiment({"dataset": "mnist"} | values)


def measure(values: dict) -> None:
    """Evaluate a trained run at full size and write data/checkpoints/<slug>/.

    Other sizes may be given as samples=, reconstructions=, calls=, full= and repeats=; for a degradation as images=,
    calls=, calls_of_new= and ablate=.
    """
    from maintenance.records import restorations, table_1

    if "degradation" in values:
        write, known = restorations.record_restoration, restorations.SIZES
    else:
        write, known = table_1.record, table_1.SIZES
    sizes = {name: value for name, value in values.items() if name in known}
    others = {name: value for name, value in values.items() if name not in known}
    print(relative(write(_experiment(others), **sizes)))


def ship(values: dict) -> None:
    """Copy the weights of a finished run, rounded to 8 bits, to data/checkpoints/<slug>/."""
    from maintenance.records.shipping import ship_weights

    print(relative(ship_weights(_experiment(values))))


def samplers(values: dict) -> None:
    """Compare all samplers with the shipped weights: spacings on validation digits, then calls on test digits."""
    from maintenance.records.samplers import record_comparison

    experiment = _experiment(values)
    for choice in ("spacings", "calls"):
        print(relative(record_comparison(experiment, choice, samples=1000 if choice == "spacings" else 2000)))


def explain(values: dict) -> None:
    """Measure what explains Table 1 for shipped weights and write data/checkpoints/<slug>/explained.json."""
    from maintenance.records.table_1 import record_explanations

    print(relative(record_explanations(_experiment(values))))


def decoders() -> None:
    """Measure the trained decoders of part 2's prelude beside each other: data/checkpoints/decoders.json."""
    from maintenance.records.decoders import record_decoders

    print(relative(record_decoders()))


def train_seeds(workers: int) -> None:
    """Train the networks that the verdicts of notebooks 04 and 05 depend on; resumable. It needs the full MNIST.

    On two cores it takes days. On a GPU several trainings run at a time.
    """
    from maintenance.records import seeds

    seeds.train_all(workers=workers)
    print(*seeds.names(), sep="\n")


def decomposition() -> None:
    """Sample the cells between the published row and our best one, and measure them: decomposition.json.

    Networks that are not trained yet are left out (see `records seeds`).
    """
    from maintenance.records.decomposition_results import record_decomposition

    print(relative(record_decomposition()))


def information() -> None:
    """Measure what latents tell and how they are restored, hot and cold, and receptive fields: information.json.

    Networks that are not trained yet are left out (see `records seeds`).
    """
    from maintenance.records.information_results import record_information

    print(relative(record_information()))


def parameterisation() -> None:
    """Compare targets and weightings: parameterisation.json.

    Networks that are not trained yet are left out (see `records seeds`).
    """
    from maintenance.records.parameterised import record_parameterisation

    print(relative(record_parameterisation()))


def gaussian_step() -> None:
    """Sample a known density with the exact decoder, for many β: gaussian_step.json."""
    from maintenance.records.gaussian_step import record_gaussian_step

    print(relative(record_gaussian_step()))


def classifier() -> None:
    """Train the digit classifier on MNIST's 48,000 training images and write data/checkpoints/classifier/."""
    from ddpm_utils import data
    from maintenance.records.shipping import ship_classifier

    dataset = data.load("mnist")
    print(dataset.source)
    print(f"test accuracy {ship_classifier(dataset)['test_accuracy']:.4f}")


def tables() -> None:
    """Put the recorded tables of data/checkpoints between the README's markers.

    Raises:
        ValueError: if the README has no such places.
    """
    from ddpm_utils.evaluation.recorded_tables import readme_tables, recorded_table
    from maintenance.report import fill_readme

    found = {"results": recorded_table(), "restorations": readme_tables()}
    fill_readme(found)
    print(*found.values(), sep="\n\n")


def quality_map() -> None:
    """Copy the map that `ddpm sweep grids/beta_T.yaml` drew to the gallery: figures/beta_T/map.png.

    Raises:
        CheckpointError: if the sweep's results are missing or damaged.
        ValueError: if they hold no map.
    """
    import base64

    from ddpm_utils.system.files import read_json
    from ddpm_utils.system.places import output

    results = output() / "data" / "runs" / "beta_T" / "results.json"
    picture = read_json(results, "`ddpm sweep grids/beta_T.yaml` writes it")["map.png"]
    if not picture:
        raise ValueError(f"{relative(results)} holds no map: finish the sweep first.")
    path = PROJECT / "figures" / "beta_T" / "map.png"
    write_bytes(path, base64.b64decode(picture))
    print(relative(path))


def reproduce() -> None:
    """Train and measure both published runs, the lean decoder, part 2, and the networks with three seeds.

    Then fill the README. It replaces what data/checkpoints holds, needs the full MNIST and takes days on two cores.
    Ctrl-C loses nothing: the same command goes on.
    """
    from maintenance.records import reproduce as steps

    for line in steps.reproduce(steps.plan(train_experiment)):
        print(line, flush=True)
    tables()
