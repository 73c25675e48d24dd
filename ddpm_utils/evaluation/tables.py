"""Table 1: what was measured, beside what the report published."""

import json
from collections.abc import Mapping

import pandas as pd

from ddpm_utils.evaluation import metrics, recorded
from ddpm_utils.evaluation.recorded import LARGE_RESTORATION, RECORDED, TRAINED, load_recorded, load_results
from ddpm_utils.files import write_json
from ddpm_utils.training.base import TrainingSetup
from ddpm_utils.training.experiments import Experiment, RestorationExperiment

REPORT = {  # the report's Table 1, by (schedule, beta, T)
    ("constant", 0.001, 2000): {"test loss": 0.0245, "RMSE": 0.306, "SSIM": 0.164, "PSNR": 10.5, "published FID": 233},
    ("constant", 0.1, 200): {"test loss": 0.00275, "RMSE": 0.402, "SSIM": 0.0336, "PSNR": 7.94, "published FID": 432},
}
LABELS = {"standard": "N(0, I)", "matched": "matched"}  # the starts, in the table's head
LIVE = "this run"  # the source of what was measured here and now
SPREAD = " ±"  # ends the name of a column that holds another's spread


def table_1(experiment: Experiment, recorded: dict | None, live: dict | None = None) -> pd.DataFrame:
    """Table 1 for one experiment: the report's row, the recorded ones and the live ones, by both protocols.

    Args:
        recorded, live: what `decoder.evaluate` returned; the recorded one also describes its weights.
    """
    name = experiment.title
    rows = []
    report = REPORT.get((experiment.schedule, experiment.beta, experiment.T))
    if report and experiment.network == "cnn":
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
    """FID and KID from each start, with their spread if there is one."""
    row = {}
    for start, found in distribution.items():
        for metric in ("FID", "KID"):
            row[f"{metric} {LABELS[start]}"] = found[metric]
            if f"{metric} spread" in found:
                row[f"{metric} {LABELS[start]}{SPREAD}"] = found[f"{metric} spread"]
        row |= {"FID floor": found["FID floor"], "samples": found["samples"]}
    return row


def save_results(experiment: TrainingSetup, table: pd.DataFrame, samples: Mapping[str, str]) -> None:
    """Keep what a notebook measured, for the batch, which collects it.

    Args:
        samples: images by a name such as their start, as `files.to_text` keeps them.
    """
    content = {"rows": json.loads(table.to_json(orient="records")), "samples": samples}
    write_json(experiment.table_path, content)


def to_markdown(table: pd.DataFrame) -> str:
    """A table in Markdown: three significant digits, spreads beside their values, a dash where there is nothing."""
    text = table.copy().astype(object)
    for column in table.columns:
        text[column] = [to_text(value) for value in table[column]]
    for column in [column for column in table.columns if column.endswith(SPREAD)]:
        spreads = text.pop(column)
        value = column.removesuffix(SPREAD)
        text[value] = [v if s == "–" else f"{v} ± {s}" for v, s in zip(text[value], spreads, strict=True)]
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
        lines.append(
            f"- **{source}**: {results['sampler']}; test loss on {results['test images']} images; FID and KID on the "
            f"{features['width']} features of the {features['network']} ({features['layer']}; "
            f"{features['test accuracy']:.2%} test accuracy; sha256 {features['sha256'][:12]}); "
            f"data sha256 {results['data sha256'][:12]}{weights}. Inception: {_inception(results)}."
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


COURSEWORK = {  # 1,000 test images, U-Net, 50 epochs
    "blur": {"test loss": 0.0113, "RMSE": 0.231, "SSIM": 0.355, "PSNR": 13.22, "published FID": 304},
    "DDPM": {"test loss": 0.0271, "RMSE": 0.359, "SSIM": 0.080, "PSNR": 9.07, "published FID": 173},
}


def restored_table(protocol: str = "corrected") -> pd.DataFrame:
    """Test digits degraded, and restored in each way: one row for each recorded degradation and way.

    Args:
        protocol: of RMSE, SSIM and PSNR, see `metrics.image_quality`.
    """
    rows = []
    for experiment, results in _recorded(TRAINED):
        for way, found in results["restored"].items():
            row = {"degradation": experiment.degradation, "T": experiment.T, "way back": way} | found[protocol]
            rows.append(row | {name: found[name] for name in ("FID", "KID", "class kept")})
    return pd.DataFrame(rows)


def new_table() -> pd.DataFrame:
    """FID and KID of new images: one row for each recorded degradation, start and algorithm."""
    rows = []
    for experiment, results in _recorded(TRAINED):
        for name, found in results["new"].items():
            start, algorithm = name.rsplit(", algorithm ", 1)
            row = {"degradation": experiment.degradation, "start": start, "algorithm": algorithm}
            rows.append(row | {key: found[key] for key in ("calls", "FID", "KID", "FID floor")})
    return pd.DataFrame(rows)


def starts_table() -> pd.DataFrame:
    """FID of new images: one row for each degradation and start, one column for each algorithm."""
    table = new_table().pivot_table("FID", ["degradation", "start"], "algorithm", sort=False).reset_index()
    return table.rename(columns={"1": "FID, algorithm 1", "2": "FID, algorithm 2"})


def published_pair() -> pd.DataFrame:
    """The blur and the DDPM, published and recorded; RMSE, SSIM and PSNR by the published protocol.

    New digits of the blur begin at a Gaussian mixture fitted to z_T.
    """
    blurs = _recorded([RestorationExperiment("blur"), LARGE_RESTORATION])
    rows = [{"model": "blur", "network": "U-Net", "way back": "published", "epochs": 50} | COURSEWORK["blur"]]
    for experiment, results in blurs:
        for way in ("direct R", "algorithm 2"):
            row = {"model": "blur", "network": experiment.network, "way back": way}
            row |= {"calls": 1 if way == "direct R" else results["calls"]}
            row |= {"epochs": results["weights"]["epochs"], "minutes": results["minutes"]}
            row |= {"test loss": results["test loss"]} | _scores(results["restored"][way])
            new = results["new"].get(f"Gaussian mixture, {way}")
            rows.append(row | ({"FID, new digits": new["FID"]} if new else {}))
    rows.append({"model": "DDPM", "network": "U-Net", "way back": "published", "epochs": 50} | COURSEWORK["DDPM"])
    for entry in recorded.load_decoders()["published pair"]:
        row = {"model": "DDPM", "network": entry["network"], "way back": "ancestral"}
        row |= {name: entry[name] for name in ("calls", "epochs", "minutes", "test loss")}
        rows.append(row | _scores(entry["restored"]) | {"FID, new digits": entry["new"]["FID"]})
    last = ["FID", "class kept", "FID, new digits", "published FID"]
    first = ["model", "network", "way back", "calls", "epochs", "minutes", "test loss", "RMSE", "SSIM", "PSNR"]
    return pd.DataFrame(rows)[[*first, *last]]


def readme_tables() -> str:
    """What the README shows of part 2, in Markdown."""
    titles = {
        "Restored from z_T (1,000 test digits)": restored_table(),
        "New digits, FID by start (the morph's new context: a held-out Fashion-MNIST image)": starts_table(),
        "The published pair": published_pair(),
    }
    return "\n\n".join(f"**{title}**\n\n{to_markdown(table)}" for title, table in titles.items())


def _recorded(experiments: list[RestorationExperiment]) -> list[tuple[RestorationExperiment, dict]]:
    found = [(experiment, load_results(experiment)) for experiment in experiments]
    return [(experiment, results) for experiment, results in found if results]


def _scores(found: dict) -> dict[str, float]:
    return found["published"] | {"FID": found["FID"], "class kept": found["class kept"]}


def recorded_table() -> str:
    """Table 1 of what is recorded, in Markdown with its footnotes: the README's table."""
    experiments = [Experiment(**values) for values in RECORDED]
    found = [(experiment, load_recorded(experiment)) for experiment in experiments]
    results = [(experiment, recorded.results) for experiment, recorded in found if recorded]
    table = pd.concat([table_1(experiment, recorded) for experiment, recorded in results])
    notes = [f"{experiment.title}\n{footnotes(recorded)}" for experiment, recorded in results]
    return "\n\n".join([to_markdown(table), *notes])


def decoder_table(entries: list[dict]) -> pd.DataFrame:
    """One row for each of a group's decoders."""
    columns = ["network", "parameters", "epochs", "minutes", "ms per image", "test loss"]
    rows = [{c: e[c] for c in columns} | {name: e["new"][name] for name in ("FID", "KID")} for e in entries]
    return pd.DataFrame(rows)
