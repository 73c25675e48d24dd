"""What README's threat note says: only this machine, behind a token; nothing that is read is executed."""

import ast
import json
import re
import socket
import subprocess
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from ddpm_utils.__main__ import main
from ddpm_utils.batch.notebooks import numbered
from ddpm_utils.commands import lab_server
from ddpm_utils.system.places import PROJECT
from tests.patience import PATIENCE, listens, wait_until

SOURCES = sorted(path for name in ("ddpm_utils", "maintenance") for path in (PROJECT / name).rglob("*.py"))
EXECUTES = {
    "eval",
    "exec",
    "torch.load",
    "pickle.load",
    "pickle.loads",
    "pandas.read_pickle",
    "pd.read_pickle",
    "os.system",
}


def calls(tree: ast.AST) -> list[ast.Call]:
    return [node for node in ast.walk(tree) if isinstance(node, ast.Call)]


def unsafe(source: str) -> list[str]:
    """The calls in a source that could execute what they read: by name, without safe arguments, or through a shell."""
    found = []
    for call in calls(ast.parse(source)):
        name, given = ast.unparse(call.func), {k.arg: ast.unparse(k.value) for k in call.keywords}
        if name in EXECUTES and given.get("weights_only") != "True":
            found.append(name)
        if given.get("allow_pickle") == "True" or given.get("shell") == "True":
            found.append(ast.unparse(call))
        if name == "YAML" and given.get("typ") != "'safe'":
            found.append(name)
    return found


def test_unsafe_calls_are_found():
    assert unsafe("torch.load(path)\ntorch.load(path, weights_only=True)\nYAML()\nYAML(typ='safe')") == [
        "torch.load",
        "YAML",
    ]
    assert unsafe("np.load(path, allow_pickle=True)\nsubprocess.run(line, shell=True)\neval(text)") == [
        "np.load(path, allow_pickle=True)",
        "subprocess.run(line, shell=True)",
        "eval",
    ]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PROJECT)))
def test_nothing_that_is_read_is_executed(path):
    assert unsafe(path.read_text(encoding="utf-8")) == []


FETCHES = re.compile(r"""src\s*=\s*["']?(https?:)?//|<script|<link|@import|url\(|!\[[^]]*\]\((https?:)?//""")


@pytest.mark.parametrize("text", ['<img src="https://a.b/c.png">', "<script>", "![x](http://a.b/c.png)", "url(//a.b)"])
def test_requests_are_found(text):
    assert FETCHES.search(text)


@pytest.mark.parametrize("path", [*numbered(), PROJECT / "notebooks" / "app.ipynb"], ids=lambda path: path.stem)
def test_what_notebooks_show_is_fetched_from_nowhere(path):
    """Neither text nor outputs; links, which someone must follow, may lead anywhere."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    shown = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown"]
    for output in [output for cell in cells for output in cell.get("outputs", [])]:
        shown += ["".join(text) for kind, text in output.get("data", {}).items() if kind.startswith("text/")]
    assert shown
    assert not any(FETCHES.search(text) for text in shown)


@pytest.fixture
def lab(tmp_path, monkeypatch):
    """JupyterLab as `make lab` starts it, without a browser: its port, and what it wrote down of itself."""
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "runtime"))
    monkeypatch.delenv("JUPYTER_TOKEN", raising=False)
    (tmp_path / "notebooks").mkdir()
    command = [*lab_server(tmp_path / "notebooks"), "--no-browser", "--allow-root", "--ServerApp.port=0"]
    with open(tmp_path / "log", "wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:

        def written() -> str:
            assert process.poll() is None, (tmp_path / "log").read_text()
            text = "".join(path.read_text(encoding="utf-8") for path in (tmp_path / "runtime").glob("jpserver-*.json"))
            return text if text.rstrip().endswith("}") else ""  # the end may not be written yet

        wait_until(written, "JupyterLab's start")
        server = json.loads(written())
        wait_until(lambda: listens(server["port"]), "JupyterLab's answer")
        yield server
    finally:
        process.terminate()
        process.wait(PATIENCE)


def status(server: dict, path: str, token: str = "") -> int:
    request = urllib.request.Request(f"http://127.0.0.1:{server['port']}{path}")
    if token:
        request.add_header("Authorization", f"token {token}")
    try:
        return urllib.request.urlopen(request, timeout=PATIENCE).status
    except urllib.error.HTTPError as error:
        return error.code


def test_jupyterlab_is_on_loopback_behind_a_token(lab):
    assert len(lab["token"]) >= 40
    assert status(lab, "/api/contents") == 403
    assert status(lab, "/api/contents", "0" * 48) == 403
    assert status(lab, "/api/contents", lab["token"]) == 200
    own = {found[4][0] for found in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)}
    for address in (own | {"127.0.0.2"}) - {"127.0.0.1"}:
        with socket.socket() as probe:
            probe.settimeout(PATIENCE)
            assert probe.connect_ex((address, lab["port"])) != 0


@pytest.mark.parametrize("name", ["...yaml", "..yaml", "-rf.yaml"])
def test_a_grids_name_cannot_lead_out_of_the_runs(name, tmp_path, output, capsys):
    grid = Path(tmp_path / name)
    grid.write_text((PROJECT / "grids" / "beta_T.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    assert main(["sweep", str(grid)]) == 1
    assert "must begin with a letter or digit" in capsys.readouterr().err
    assert list(output.iterdir()) == [grid]
