"""What the subcommands of `ddpm` do that make what the project ships: weights, records, tables, notebooks."""

import re

from ddpm_utils.checkpoints import write_bytes
from ddpm_utils.commands import relative, train_experiment
from ddpm_utils.data import PROJECT


def record(values: dict) -> None:
    """Evaluate a trained run at full size and write data/checkpoints/<slug>/.

    Other sizes may be given as samples=, reconstructions=, calls=, full= and repeats=; for a degradation as images=,
    calls=, calls_of_new= and ablate=.
    """
    from ddpm_utils import recording, restoration_recording
    from ddpm_utils.grid import make_experiment

    if "degradation" in values:
        write, known = restoration_recording.record_restoration, restoration_recording.SIZES
    else:
        write, known = recording.record, recording.SIZES
    sizes = {name: value for name, value in values.items() if name in known}
    others = {name: value for name, value in values.items() if name not in known}
    print(relative(write(make_experiment({"dataset": "mnist"} | others), **sizes)))


def ship(values: dict) -> None:
    """Copy the weights of a finished run, rounded to 8 bits, to data/checkpoints/<slug>/."""
    from ddpm_utils.grid import make_experiment
    from ddpm_utils.shipping import ship_weights

    print(relative(ship_weights(make_experiment({"dataset": "mnist"} | values))))


def compare(values: dict) -> None:
    """Compare all samplers with the shipped weights: spacings on validation digits, then calls on test digits."""
    from ddpm_utils.comparison import record_comparison
    from ddpm_utils.grid import make_experiment

    experiment = make_experiment({"dataset": "mnist"} | values)
    for choice in ("spacings", "calls"):
        print(relative(record_comparison(experiment, choice, samples=1000 if choice == "spacings" else 2000)))


def decoders() -> None:
    """Measure the trained decoders of part 2's prelude beside each other: data/checkpoints/decoders.json."""
    from ddpm_utils.decoder_comparison import record_decoders

    print(relative(record_decoders()))


def explain(values: dict) -> None:
    """Measure what explains Table 1 for shipped weights and write data/checkpoints/<slug>/explained.json."""
    from ddpm_utils.grid import make_experiment
    from ddpm_utils.recording import record_explanations

    print(relative(record_explanations(make_experiment({"dataset": "mnist"} | values))))


def norms() -> None:
    """Compare the CNN's LayerNorm options after three epochs, trained if need be: data/checkpoints/norms.json."""
    from ddpm_utils.norms import record_norms

    print(relative(record_norms()))


def reproduce() -> None:
    """Train and measure both published runs, the lean decoder, the LayerNorm options, and part 2; then fill the README.

    It replaces what data/checkpoints holds, needs the full MNIST and takes a night. Ctrl-C loses nothing: the same
    command goes on.
    """
    from ddpm_utils import reproduction

    for line in reproduction.reproduce(reproduction.plan(train_experiment)):
        print(line, flush=True)
    table()


def table() -> None:
    """Put the recorded tables of data/checkpoints between the README's markers.

    Raises:
        ValueError: if the README has no such places.
    """
    from ddpm_utils.recording import recorded_table
    from ddpm_utils.restoration_tables import readme_tables

    readme = PROJECT / "README.md"
    text = readme.read_text(encoding="utf-8")
    for name, tables in {"results": recorded_table(), "restorations": readme_tables()}.items():
        marked = re.compile(rf"(<!-- {name} -->\n).*(<!-- end of {name} -->)", re.DOTALL)
        text, places = marked.subn(lambda found, tables=tables: f"{found[1]}{tables}\n{found[2]}", text)
        if places == 0:
            raise ValueError(f"{relative(readme)} must hold the lines '<!-- {name} -->' and '<!-- end of {name} -->'.")
        print(tables)
    write_bytes(readme, text.encode())


def classifier() -> None:
    """Train the digit classifier on MNIST's 48,000 training images and write data/checkpoints/classifier/."""
    from ddpm_utils import data
    from ddpm_utils.classifier import ship_classifier

    dataset = data.load("mnist")
    print(dataset.source)
    print(f"test accuracy {ship_classifier(dataset)['test_accuracy']:.4f}")


def notebooks() -> None:
    """Execute the committed notebooks from top to bottom at their default parameters, and strip them."""
    from ddpm_utils.notebooks import refresh

    refresh()
