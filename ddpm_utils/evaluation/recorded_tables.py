"""The README's and the notebooks' tables of what is recorded in data/checkpoints."""

import pandas as pd

from ddpm_utils.evaluation import recorded
from ddpm_utils.evaluation.recorded import LARGE_RESTORATION, RECORDED, load_record, load_recorded, load_results
from ddpm_utils.evaluation.restoration import GAUSSIAN
from ddpm_utils.evaluation.tables import footnotes, table_1, to_markdown
from ddpm_utils.training.experiments import Experiment
from ddpm_utils.training.restorations import RestorationExperiment

COURSEWORK = {  # 1,000 test images, U-Net, 50 epochs
    "blur": {"test loss": 0.0113, "RMSE": 0.231, "SSIM": 0.355, "PSNR": 13.22, "published FID": 304},
    "DDPM": {"test loss": 0.0271, "RMSE": 0.359, "SSIM": 0.080, "PSNR": 9.07, "published FID": 173},
}


def new_table() -> pd.DataFrame:
    """New digits by algorithm 2: one row for each recorded degradation and start; FID with its 95 % interval."""
    rows = []
    for entry in load_record("information")["shipped"]:
        for found in (new for new in entry["new"] if new["way"] == "algorithm 2"):
            low, high = found["FID interval"]
            row = {"degradation": entry["degradation"], "start": found["start"]}
            row |= {"FID (95 % interval)": f"{found['FID']:.3g} ({low:.3g} … {high:.3g})"}
            rows.append(row | {name: found[name] for name in ("precision", "recall")})
    return pd.DataFrame(rows)


def information_table() -> pd.DataFrame:
    """Shares of test digits that a classifier reads from z_T, exact and in 8 bits, and that algorithm 2 keeps."""
    record, rows = load_record("information"), []
    for entry in record["shipped"]:
        name, found = entry["degradation"], entry["restored"]
        row = {"degradation": name}
        for bits in ("exact", "8 bits"):
            row[f"read, {bits}"] = record["readers"][f"{name}, {bits}"]["accuracy"][-1]
            at = next(r for r in found if (r["t"], r["way"], r["bits"]) == (entry["T"], "algorithm 2", bits))
            row[f"class kept, {bits}"] = at["class kept"]
        rows.append(row)
    return pd.DataFrame(rows)


def published_pair() -> pd.DataFrame:
    """The blur and the DDPM, published and recorded; RMSE, SSIM and PSNR by the published protocol.

    New digits of the blur begin at a Gaussian mixture fitted to z_T.
    """
    blurs = _recorded([RestorationExperiment("blur"), LARGE_RESTORATION])
    rows: list[dict] = [
        {"model": "blur", "network": "U-Net", "way back": "published", "epochs": 50} | COURSEWORK["blur"]
    ]
    for experiment, results in blurs:
        new = {found["algorithm"]: found["FID"] for found in results["new"] if found["start"] == GAUSSIAN}
        for way in ("direct R", "algorithm 2"):
            restored = results["restored"][way]
            row: dict = {"model": "blur", "network": experiment.network, "way back": way}
            row |= {"calls": 1 if restored["algorithm"] == "direct" else results["calls"]}
            row |= {"epochs": results["weights"]["epochs"], "minutes": results["minutes"]}
            row |= {"test loss": results["test loss"]} | _scores(restored)
            rows.append(row | {"FID, new digits": new.get(restored["algorithm"])})
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
        "Share of test digits that a classifier reads from z_T, and that algorithm 2 keeps": information_table(),
        "New digits by algorithm 2 (morph: a held-out Fashion-MNIST image as context)": new_table(),
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
