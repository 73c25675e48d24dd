"""The executed notebooks as a static web site, which needs no server and no network.

Equations become MathML, figures are part of their pages, and a policy in each page forbids every request.
"""

import html
import io
import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import jinja2
import pandas as pd
from latex2mathml.converter import convert
from nbconvert import HTMLExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath

from ddpm_utils.batch.notebooks import COPIED
from ddpm_utils.evaluation.tables import SPREAD, to_text
from ddpm_utils.system.files import read_json, read_notebook, write_bytes
from ddpm_utils.training.experiments import PUBLISHED, Experiment

TEMPLATES = Path(__file__).with_name("share") / "site"
FAILED, UNFINISHED = ".failed", ".unfinished"  # end the stem of a notebook that stopped at an error, or still runs
SHOWN = ["image/png", "image/gif", "image/jpeg", "text/markdown", "text/html", "text/plain"]  # the first that is there
AS_IN_LATEX = {  # patterns, and what latex2mathml sets as LaTeX sets the original
    r"\\sim\b": r"\\thicksim",
    r"\\Pr\b": r"\\text{Pr}",
    r"\\mathrm\b": r"\\text",  # a word, not letters
    r"\\(log|sin|cos) (?=[\\\w])": r"\\\1\\,",
    r"big\\\|": "big‖",
    r"\\tag\b": r"\\qquad\\tag",
}


class Page(NamedTuple):
    """An executed notebook and its page."""

    notebook: Path

    @property
    def name(self) -> str:
        """The page's file."""
        return f"{self.notebook.stem}.html"

    @property
    def title(self) -> str:
        """What links to it say."""
        failed = " (failed)" if self.notebook.stem.endswith(FAILED) else ""
        return self.notebook.stem.removesuffix(FAILED).replace("_", " ") + failed


class Cell(NamedTuple):
    """A cell of the table of results: what it shows, and all its digits if it is a number."""

    text: str
    full: str = ""


def build_site(folder: Path, target: Path) -> Path:
    """Write an index and one page for each notebook `<experiment>/NN_name.ipynb` of a folder, all or nothing.

    The index shows the table and the map of the folder's results.json, if there is one (see `sweep.write_table`).

    Args:
        target: the site's folder; replaced as a whole.

    Returns:
        the index.

    Raises:
        ValueError: if there are no executed notebooks, or the target is something else than a site.
        CheckpointError: if a notebook or the results are damaged, or a page cannot be written.
    """
    experiments = executed(folder)
    if not experiments:
        makers = "`ddpm run` makes those of data/runs, `ddpm sweep` those of data/runs/<grid>"
        raise ValueError(f"{folder} holds no executed notebooks: {makers}.")
    if target.exists() and not (target / "index.html").exists():
        raise ValueError(f"{target} is not a site: move it away first.")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".site-") as temporary:
        site = Path(temporary) / "site"
        for experiment, pages in experiments.items():
            for page in pages:
                write_bytes(site / experiment / page.name, notebook_page(page, pages, experiment).encode())
        write_bytes(site / "index.html", index_page(folder, experiments).encode())
        old = Path(temporary) / "old"
        if target.exists():
            os.replace(target, old)  # as a whole: half a site would be taken for something else
        try:
            os.replace(site, target)
        except OSError:
            if old.exists():
                os.replace(old, target)
            raise
    return target / "index.html"


def executed(folder: Path) -> dict[str, list[Page]]:
    """The executed notebooks of each experiment; one that failed counts, one without results or a copy does not."""
    experiments: dict[str, list[Page]] = {}
    for path in sorted(folder.glob("*/[0-9][0-9]_*.ipynb")):
        if path.stem.endswith(UNFINISHED) or (path.parent / COPIED).exists():
            continue
        cells = read_notebook(path)[0].get("cells", ())
        if path.stem.endswith(FAILED) or any(cell.get("execution_count") for cell in cells):
            experiments.setdefault(path.parent.name, []).append(Page(path))
    return experiments


def index_page(folder: Path, experiments: Mapping[str, Sequence[Page]]) -> str:
    """The first page: the map, the table, and links to all others."""
    path = folder / "results.json"
    found = read_json(path, "`ddpm run` and `ddpm sweep` write it again") if path.exists() else {}
    columns, rows, shared = results(found.get("results.csv", ""))
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True)
    titles = {Experiment(**published).title: Experiment(**published).slug for published in PUBLISHED.values()}
    anchors = {title: name for title, name in titles.items() if name in experiments}
    return environment.get_template("index.html.j2").render(
        experiments=experiments,
        anchors=anchors | {name: name for name in experiments},
        columns=columns,
        rows=rows,
        shared=shared,
        map=found.get("map.png"),
        map_text=found.get("map.txt"),
    )


def results(text: str) -> tuple[list[str], list[list[Cell]], dict[str, Cell]]:
    """The columns and rows of a table in CSV, spreads beside their values; and what is the same in all rows.

    All three are empty if the table is.
    """
    if not text.strip():
        return [], [], {}
    table = pd.read_csv(io.StringIO(text))
    spreads = {column + SPREAD for column in table}
    columns = [column for column in table if column not in spreads]
    same = [column for column in columns[1:] if len(table) > 1 and table[column].nunique(dropna=False) == 1]
    shown = [column for column in columns if column not in same]
    rows = [[_cell(row, column) for column in shown] for _, row in table.iterrows()]
    return shown, rows, {column: _cell(table.iloc[0], column) for column in same}


def _cell(row: pd.Series, column: str) -> Cell:
    value, spread = row[column], row.get(column + SPREAD)
    if isinstance(value, str) or pd.isna(value):
        return Cell(to_text(value))
    if pd.isna(spread):
        return Cell(to_text(value), str(value))
    return Cell(f"{to_text(value)} ± {to_text(spread)}", f"{value} ± {spread}")


def notebook_page(page: Page, pages: Sequence[Page], experiment: str) -> str:
    """One notebook as HTML, with links to the others of its experiment."""
    exporter = NotebookExporter(template_file=str(TEMPLATES / "notebook.html.j2"))
    resources = {"page": page, "pages": pages, "experiment": experiment}
    return exporter.from_filename(str(page.notebook), resources)[0]


class NotebookExporter(HTMLExporter):
    """nbconvert's, for our template: outputs that need no kernel, and Markdown by `Renderer`."""

    @property
    def default_config(self):
        """Which form of an output is shown, and colours of code that are dark enough on grey."""
        config = super().default_config
        config.NbConvertBase.display_data_priority = SHOWN
        config.CSSHTMLHeaderPreprocessor.style = "vs"
        return config

    @jinja2.pass_context
    def markdown2html(self, context, source: str) -> str:
        """Markdown as HTML; the template calls it."""
        return MarkdownWithMath(Renderer(context["resources"]["pages"])).render(source)


class Renderer(IPythonRenderer):
    """Markdown whose equations are MathML and whose links lead to pages."""

    def __init__(self, pages: Sequence[Page]):
        super().__init__(escape=False)
        self.pages = {page.notebook.name: page.name for page in pages}

    def inline_math(self, body: str) -> str:
        """An equation in a line of text."""
        return mathml(body, "inline")

    def block_math(self, body: str) -> str:
        """An equation by itself."""
        return f'<span class="equation">{mathml(body, "block")}</span>'

    def latex_environment(self, name: str, body: str) -> str:
        """Such as align."""
        return self.block_math(rf"\begin{{{name}}}{body}\end{{{name}}}")

    def link(self, text: str, url: str, title: str | None = None) -> str:
        """A link; its text alone if what it leads to is not part of the site."""
        parts = urlsplit(url)
        if parts.scheme or not parts.path:
            return super().link(text, url, title)
        return super().link(text, self.pages[parts.path], title) if parts.path in self.pages else text


def mathml(equation: str, display: str) -> str:
    """LaTeX as MathML, or as it is if it has a mistake."""
    latex = equation
    for pattern, replacement in AS_IN_LATEX.items():
        latex = re.sub(pattern, replacement, latex)
    try:
        return convert(latex, display=display)
    except Exception:  # latex2mathml's errors have no base in common
        return f"<code>{html.escape(equation)}</code>"
