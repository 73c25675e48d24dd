"""A real browser, and the two servers that it visits: on loopback, behind a token, stopped whatever happens."""

import contextlib
import json
import os
import re
import secrets
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import nbformat
import pytest
from nbconvert.preprocessors import ClearOutputPreprocessor

from ddpm_utils.batch.notebooks import numbered
from ddpm_utils.commands import app_server, lab_server
from ddpm_utils.system.places import output as project_output
from tests.needed_cells import cells_for, without_own_degradation
from tests.patience import PATIENCE, free_port, listens, wait_until

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
LISTENS = re.compile(r"http://(?:127\.0\.0\.1|localhost):(\d+)/")
"""Where a server says that it listens: at another port than it was told to, if that one is taken."""
SLOW = "[anywidget] Failed to initialize model."
"""What anywidget says of a module that did not load within two seconds, on a machine with other work to do. It is shown
all the same; if it were not, the test would find no panel."""
SETTINGS = {
    "notebook-extension/tracker": {"windowingMode": "none"},  # all cells in the page, not only those in view
    "apputils-extension/notification": {"fetchNews": "false"},
}
INSIDE = re.compile(r"(https?|wss?)://127\.0\.0\.1:\d+/|data:|blob:|file:")


class Server(NamedTuple):
    """Where a running server is."""

    url: str
    token: str
    output: Path  # what its kernels write below


@pytest.fixture(scope="session")
def chromium():
    """The browser, without a window."""
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if not path:
        pytest.skip("no Chromium here: `apt-get install chromium` (Debian) and try again")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(chromium) -> Iterator:
    """A page; an error on its console, or a request to another machine, fails the test."""
    page = chromium.new_page(viewport={"width": 1280, "height": 1100})
    page.set_default_timeout(PATIENCE * 1000)
    complaints = []

    def on_console(message) -> None:
        if message.type == "error" and SLOW not in message.text:
            complaints.append(f"{message.text} ({message.location.get('url')})")

    def on_request(asked) -> None:
        if not INSIDE.match(asked.url):
            complaints.append(f"it asked for {asked.url}")

    page.on("console", on_console)
    page.on("pageerror", lambda error: None if SLOW in str(error) else complaints.append(str(error)))
    page.on("request", on_request)
    yield page
    page.close()
    assert not complaints, "\n".join(complaints)


@contextmanager
def serving(command: list[str], token: str, environment: dict, output: Path) -> Iterator[Server]:
    """Run a server on a free port until the block ends; its whole process group is stopped then."""
    environment = environment | {"DDPM_OUTPUT": str(output), "OMP_NUM_THREADS": "1"}
    log = output / "server.log"
    with log.open("w") as stream:
        process = subprocess.Popen(
            [*command, f"--port={free_port()}", "--no-browser"],
            env=environment, stdout=stream, stderr=stream, start_new_session=True,
        )  # fmt: skip
        try:
            yield Server(f"http://127.0.0.1:{port_of(process, log)}", token, output)
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(PATIENCE)
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)


def port_of(process: subprocess.Popen, log: Path) -> int:
    """Wait until a server says where it listens, and does."""

    def found() -> re.Match | None:
        text = log.read_text(encoding="utf-8", errors="replace")
        assert process.poll() is None, f"the server did not start: {text[-2000:]}"
        return LISTENS.search(text)

    wait_until(found, "the server's start")
    port = int(found()[1])
    wait_until(lambda: listens(port), "the server's answer")
    return port


@pytest.fixture(scope="session")
def lab(chromium, tmp_path_factory) -> Iterator[Server]:
    """JupyterLab on a copy of the notebooks, since it saves what it opens; without outputs, whose widgets are gone.

    Of the cells, only those that show a panel are there, and the cells that they need: nbval executes all cells.
    """
    folder, token = tmp_path_factory.mktemp("lab"), secrets.token_hex(16)
    (folder / "notebooks").mkdir()
    for path in numbered():
        notebook = nbformat.read(path, as_version=4)
        if path.stem == "05_custom_degradation":
            notebook.cells = without_own_degradation(notebook.cells)
        notebook.cells = cells_for(notebook.cells, lambda i, cells=notebook.cells: "panels." in cells[i].source)
        notebook, _ = ClearOutputPreprocessor().preprocess(notebook, {})
        nbformat.write(notebook, folder / "notebooks" / path.name)
    for name, values in SETTINGS.items():
        path = folder / "config" / "lab" / "user-settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(values))
    options = [f"--IdentityProvider.token={token}", "--LabApp.expose_app_in_browser=True", "--allow-root"]
    environment = os.environ | {"JUPYTER_CONFIG_DIR": str(folder / "config")}  # nobody's own settings and tabs
    with serving([*lab_server(folder / "notebooks"), *options], token, environment, folder) as server:
        yield server


@pytest.fixture(scope="session")
def voila(chromium, tmp_path_factory) -> Iterator[Server]:
    """The stand-alone page."""
    folder, token = tmp_path_factory.mktemp("voila"), secrets.token_hex(16)
    command, environment = app_server()
    with serving([*command, f"--token={token}"], token, environment, folder) as server:
        yield server


@pytest.fixture(scope="session")
def screenshots() -> Path:
    """Where the pictures of the panels are kept, to be looked at."""
    folder = project_output() / "data" / "runs" / "browser"
    folder.mkdir(parents=True, exist_ok=True)
    return folder
