"""A schedule of one's own in a sweep: it is recognised, and its row in the table is short."""

import json

import nbformat

from ddpm_utils.batch.grid import read_grid
from ddpm_utils.batch.sweep import plan, prospects, results
from ddpm_utils.evaluation.tables import to_markdown
from ddpm_utils.system.files import METADATA, seal_notebook, write_json
from ddpm_utils.training.experiments import Experiment

BETAS = [0.001 * t for t in range(1, 101)]
OTHER = [*BETAS[:-1], 0.11]


def write(folder, *schedules) -> list:
    """The experiments of a grid."""
    lists = json.dumps([list(betas) for betas in schedules])
    path = folder / "grid.yaml"
    path.write_text(
        f"experiments:\n  - {{schedule: custom, betas: {lists}, T: 7}}\n  - {{beta: 0.1, T: 20}}\n"
        "notebooks:\n  04_evaluation: {weights: run}\n",
        encoding="utf-8",
    )
    return read_grid(path)


def test_a_custom_schedule_is_recognised_and_has_a_short_row(tmp_path, output):
    entries = write(tmp_path, BETAS, OTHER)
    chains = plan(entries, output)
    for entry, (job,) in zip(entries, chains, strict=True):
        notebook = nbformat.v4.new_notebook()
        notebook.metadata = {METADATA: {"made_of": job.made_of}, "papermill": {"duration": 7.0}}
        job.folder.mkdir(parents=True)
        (job.folder / "executed.ipynb").write_text(nbformat.writes(notebook), encoding="utf-8")
        seal_notebook(job.folder / "executed.ipynb", job.target)
        table = job.output / "data" / "runs" / entry.experiment.slug / "table.json"
        write_json(table, {"rows": [{"test loss": 0.5}], "samples": {}})
    assert all(": done" in line for line in prospects(plan(write(tmp_path, BETAS, OTHER), output)))
    assert sum(": done" in line for line in prospects(plan(write(tmp_path, OTHER[:-1], OTHER), output))) == 2
    table, _ = results(entries, chains)
    first = Experiment("custom", betas=BETAS)
    assert table.loc[0, "betas"] == first.identity["betas"] != table.loc[1, "betas"]
    assert table["T"].tolist() == [100, 100, 20]
    assert table["experiment"].tolist()[0] == first.slug
    assert len(set(table["experiment"])) == 3
    assert max(len(line) for line in to_markdown(table).splitlines()) < 200
