"""Table 1: what was measured, beside what the report published."""

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import pandas as pd

from ddpm_utils.data.datasets import is_mnist
from ddpm_utils.evaluation import metrics
from ddpm_utils.system.files import write_json
from ddpm_utils.training.base import TrainingSetup
from ddpm_utils.training.experiments import Experiment

REPORT = {  # the report's Table 1, by (schedule, beta, T)
    ("constant", 0.001, 2000): {"test loss": 0.0245, "RMSE": 0.306, "SSIM": 0.164, "PSNR": 10.5, "published FID": 233},
    ("constant", 0.1, 200): {"test loss": 0.00275, "RMSE": 0.402, "SSIM": 0.0336, "PSNR": 7.94, "published FID": 432},
}
LABELS = {"standard": "N(0, I)", "matched": "matched"}  # the starts, in the table's head
LIVE = "this run"  # the source of what was measured here and now
NEIGHBOURS = (
    "In their place, *nearest* is the median distance of samples to their nearest training image (root mean squared "
    "difference of pixels), beside the same for test images; *copies* is the share of samples that are three times as "
    "near to one training image as to any other."
)
SPREAD = " ±"  # ends the name of a column that holds another's spread


def table_1(experiment: Experiment, recorded: dict | None, live: dict | None = None) -> pd.DataFrame:
    """Table 1 for one experiment: the report's row, the recorded ones and the live ones, by both protocols.

    Args:
        recorded, live: what `decoder.evaluate` returned; the recorded one also describes its weights.
    """
    name = experiment.title
    rows = []
    report = REPORT.get((experiment.schedule, experiment.beta, experiment.T))
    if report and experiment.network == "cnn" and is_mnist(experiment.dataset):
        rows.append({"experiment": name, "source": "report, 50 epochs", "protocol": "published"} | report)
    sources = {f"recorded, {recorded['weights']['epoch']} epochs": recorded} if recorded else {}
    sources |= {LIVE: live} if live else {}
    for source, results in sources.items():
        kinds = [kind for kind in ("all steps", "few calls") if kind in results["reconstruction"]]
        for kind, protocol in ((kind, protocol) for kind in kinds for protocol in metrics.PROTOCOLS):
            found = results["reconstruction"][kind]
            row = {"experiment": name, "source": source, "protocol": protocol, "test loss": results["test loss"]}
            row |= {"calls": found["calls"], "images": found["images"]} | found[protocol]
            if kind == "few calls":
                row |= _distances(results["distribution"])
            rows.append(row)
    table = pd.DataFrame(rows)
    first = ["experiment", "source", "protocol", "test loss", "calls", "images", "RMSE", "SSIM", "PSNR"]
    columns = [*first, *sorted(set(table) - {*first, "samples", "published FID"}), "samples", "published FID"]
    return table[[column for column in columns if column in table]]


def _distances(distribution: Mapping[str, dict]) -> dict[str, float]:
    """FID and KID from each start, with their spread if there is one; or what takes their place (see `evaluate`)."""
    row = {}
    for start, found in distribution.items():
        metrics_here = [metric for metric in ("FID", "KID", "nearest", "copies") if metric in found]
        for metric in metrics_here:
            row[f"{metric} {LABELS[start]}"] = found[metric]
            if f"{metric} spread" in found:
                row[f"{metric} {LABELS[start]}{SPREAD}"] = found[f"{metric} spread"]
        references = ("FID floor", "nearest, test images", "samples")
        row |= {name: found[name] for name in references if name in found}
    return row


def save_results(experiment: TrainingSetup, table: pd.DataFrame, samples: Mapping[str, str]) -> None:
    """Keep what a notebook measured, for the batch, which collects it.

    Args:
        samples: images by a name such as their start, as `files.to_text` keeps them.
    """
    content = {"rows": json.loads(table.to_json(orient="records")), "samples": samples}
    write_json(experiment.table_path, content)


def to_markdown(table: pd.DataFrame, best: Mapping[str, Callable[[Iterable], Any]] | None = None) -> str:
    """A table in Markdown: three significant digits, spreads beside their values, a dash where there is nothing.

    Args:
        best: column → `min` or `max`; the best number of the column is bold.
    """
    text = table.copy().astype(object)
    for column in table.columns:
        text[column] = [to_text(value) for value in table[column]]
    for column, choose in (best or {}).items():
        place = list(table[column]).index(choose(table[column].dropna()))
        text.iloc[place, list(table.columns).index(column)] = f"**{text[column].iloc[place]}**"
    for column in [column for column in table.columns if column + SPREAD in table]:
        spreads = text.pop(column + SPREAD)
        text[column] = [v if s == "–" else f"{v} ± {s}" for v, s in zip(text[column], spreads, strict=True)]
    return text.to_markdown(index=False, disable_numparse=True)


def to_text(value) -> str:
    """A cell: text as it is, three significant digits of a number, a dash where there is nothing."""
    if isinstance(value, str):
        return value
    if pd.isna(value):
        return "–"
    return f"{value:.0f}" if float(value).is_integer() else f"{value:.3g}"


def footnotes(recorded: dict | None, live: dict | None = None) -> str:
    """What stands under every table: what it was measured with, and the hashes of data and weights."""
    lines = []
    for source, results in {"recorded": recorded, LIVE: live}.items():
        if results is None:
            continue
        features = results["features"]
        weights = f", weights {results['weights']['sha256'][:12]}" if "weights" in results else ""
        head = f"- **{source}**: {results['sampler']}; test loss on {results['test images']} images; "
        about_data = f"data sha256 {results['data sha256'][:12]}{weights}. Inception: {_inception(results)}."
        if isinstance(features, str):
            lines += [f"{head}{about_data}", f"  {features} {NEIGHBOURS}"]
        else:
            lines.append(
                f"{head}FID and KID on the "
                f"{features['width']} features of the {features['network']} ({features['layer']}; "
                f"{features['test accuracy']:.2%} test accuracy; sha256 {features['sha256'][:12]}); {about_data}"
            )
        sets = len(results["distribution"]["standard"].get("FIDs", ()))
        if sets:
            lines.append(
                f"  ± is the standard deviation over {sets} sets of samples, with other seeds, of this one network."
            )
        difference = results["reconstruction"].get("few − all")
        if difference:
            values, errors = difference["corrected"], difference["corrected, standard error"]
            pairs = ", ".join(f"{name} {values[name]:+.3f} ± {errors[name]:.3f}" for name in values)
            lines.append(
                f"  Few calls minus all steps, on the same {difference['images']} images (corrected): {pairs}."
            )
    return "\n".join(lines)


def _inception(results: dict) -> str:
    found = {s: v["inception"] for s, v in results["distribution"].items() if "inception" in v}
    if not found:
        return results["inception"]
    return ", ".join(
        f"FID {sum(v['FID'] for v in values) / len(values):.0f} from the {LABELS[s]} start"
        for s, values in found.items()
    )
