"""What batches of notebooks leave, in small: two experiments, a notebook that failed, a table of results and a map."""

from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from ddpm_utils.system.files import write_json

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg=="
LOOK = {"alt": 'a "dot"', "width": 7}
EXPERIMENTS = ("beta0.001-T2000", "beta0.1-T200")
FIRST = r"""# Forward

A latent $x \sim \mathrm{Norm}[0, 1]$, with a mistake in $a_b_c$, and

$$\mathbb{E}_q[\log \Pr(x \mid z)] \;\le\; \big\|\sqrt{\alpha_t}\big\|^2 \tag{1}$$

\begin{align}a &= b < c\\ d &= e\end{align}

Next: [training](02_training.ipynb), [sampling](03_sampling.ipynb), the [guide](README.md), a
[paper](https://arxiv.org/abs/2006.11239)."""
RESULTS = """experiment,beta,T,network,seed,dataset,"FID N(0, I)","FID N(0, I) ±",RMSE
beta0.001-T2000,0.001,2000,cnn,0,mnist,12.345678901234567,0.125,0.3
beta0.1-T200,0.1,200,lean_unet,0,mnist,9.5,,
beta0.5-T20,0.5,20,cnn,0,mnist,,,0.25
"constant schedule, β = 0.001, T = 2000",0.001,2000,cnn,0,mnist,100,,0.2
"""


def first() -> nbformat.NotebookNode:
    """Equations, links, code, outputs of every kind, and a folded solution."""
    outputs = [
        new_output("stream", name="stdout", text="1 < 2\n"),
        new_output("display_data", {"image/png": PIXEL, "text/plain": ""}, metadata={"image/png": LOOK}),
        new_output("display_data", {"text/markdown": "| $t$ |\n|---|\n| 7 |", "text/plain": "object"}),
        new_output("display_data", {"image/gif": PIXEL, "text/plain": "object"}),
        new_output("display_data", {"application/vnd.jupyter.widget-view+json": {}, "text/plain": "Interactive panel"}),
        new_output("execute_result", {"text/plain": "'four'"}, execution_count=1),
    ]
    cells = [
        new_markdown_cell(FIRST),
        new_code_cell("print(1 < 2)", execution_count=1, outputs=outputs),
        new_markdown_cell("<details><summary>Solution</summary>\n\n```python\nhalf = 42\n```\n\nWhy.\n\n</details>"),
    ]
    return new_notebook(cells=cells)


def another(*outputs, count: int | None = 1) -> nbformat.NotebookNode:
    """One cell of code."""
    return new_notebook(cells=[new_code_cell("1 / 0", execution_count=count, outputs=list(outputs))])


def write_runs(folder: Path) -> Path:
    """Fill a folder, and return it."""
    error = new_output("error", ename="ZeroDivisionError", evalue="", traceback=["\x1b[31mZeroDivisionError\x1b[0m"])
    notebooks = {
        f"{EXPERIMENTS[0]}/01_forward_process": first(),
        f"{EXPERIMENTS[0]}/03_sampling": another(),
        f"{EXPERIMENTS[1]}/01_forward_process": first(),
        f"{EXPERIMENTS[1]}/02_training.failed": another(error),
        "student/01_forward_process": another(count=None),
        "a sweep/inner/01_forward_process": first(),
    }
    for name, notebook in notebooks.items():
        path = folder / f"{name}.ipynb"
        path.parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(notebook, path)
    results = {"results.csv": RESULTS, "map.png": PIXEL, "map.txt": "FID falls from left to right."}
    write_json(folder / "results.json", results)
    return folder
