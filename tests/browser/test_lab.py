"""Each notebook in JupyterLab: run from top to bottom, its sliders moved with the mouse and by keyboard."""

import re

import nbformat
import pytest
import torch

from ddpm_utils.randomness import generator_for
from ddpm_utils.training.experiments import Experiment
from tests.browser import checks
from tests.browser.panel_page import MANAGER, PanelPage, exercise, finish
from tests.patience import wait_until

OPEN = """name => {
  const panel = window.jupyterapp?.shell.currentWidget;
  if (panel?.context?.path !== `${name}.ipynb` || !(panel.content.model?.cells.length > 3)) return false;
  return panel.sessionContext.session?.kernel?.status === "idle";
}"""
RESTORED = f"async () => {{ {MANAGER} return manager.restoredStatus; }}"
"""Whether the page has asked the kernel for its widgets: while cells are executed it would be answered late, and would
take up the same widgets twice."""
STATE = """() => {
  const panel = jupyterapp.shell.currentWidget;
  const cells = [...panel.content.model.cells].filter(cell => cell.type === "code");
  const outputs = cells.flatMap(cell => cell.outputs ? cell.outputs.toJSON() : []);
  return {
    panels: outputs.filter(output => output.data?.["application/vnd.jupyter.widget-view+json"]
      && /^(Interactive panel|A picture that)/.test(output.data["text/plain"])).length,
    shown: [...panel.node.querySelectorAll(".ddpm-picture img")].filter(image => image.complete).length,
    waiting: cells.filter(cell => cell.executionState !== "idle" || !cell.executionCount).length,
    errors: outputs.filter(output => output.output_type === "error").map(error => `${error.ename}: ${error.evalue}`),
  };
}"""


def run_all(page, lab, name: str) -> None:
    """Open a notebook, and run it; an error in a cell fails the test."""
    # Without reset JupyterLab opens again what the test before had open. Its widgets are gone: "widget model not found"
    page.goto(f"{lab.url}/lab/tree/{name}.ipynb?reset&token={lab.token}")
    page.wait_for_function(OPEN, arg=name)
    wait_until(lambda: page.evaluate(RESTORED), "asking the kernel for widgets")
    page.evaluate("void jupyterapp.commands.execute('notebook:run-all-cells')")
    page.wait_for_function(f"() => {{ const state = ({STATE})(); return state.errors.length || !state.waiting; }}")
    assert page.evaluate(STATE)["errors"] == []
    page.wait_for_function(f"() => {{ const state = ({STATE})(); return state.shown === state.panels; }}")
    assert page.evaluate("[...jupyterapp.shell.widgets('main')].length") == 1


@pytest.fixture
def lab_output(lab, monkeypatch):
    """The tests look for trained weights where the notebooks' kernels have put them."""
    monkeypatch.setenv("DDPM_OUTPUT", str(lab.output))
    checks.forget()


WRONG = """
import torch

from ddpm_utils import data
from ddpm_utils.lab import NoisyDigits, panels
from ddpm_utils.randomness import generator_for


class Wrong(NoisyDigits):
    def __init__(self, x, noise, behind):
        super().__init__(x, noise)
        self.behind = behind

    def __call__(self, beta, T, t):
        title = super().__call__(beta, T, t).get_suptitle()
        super().__call__(beta, T, max(t - self.behind, 0))
        self.title.set_text(title)
        return self.figure


x = data.load("mnist_5k").test.images[:8]
noise = torch.randn(x.shape, generator=generator_for(0, "play"))
"""
WRONG_PANELS = [WRONG, *(f"panels.forward(Wrong(x, noise, {behind}))" for behind in (0, 1))]


def test_a_wrong_picture_is_noticed(page, lab):
    """Two panels of one page, whose titles say t. One shows step t, the other shows step t − 1."""
    cells = [nbformat.v4.new_markdown_cell("A page for this test."), *map(nbformat.v4.new_code_cell, WRONG_PANELS)]
    notebook = nbformat.v4.new_notebook(cells=cells)
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(notebook, lab.output / "notebooks" / "wrong.ipynb")
    run_all(page, lab, "wrong")
    noise = torch.randn(8, 1, 28, 28, generator=generator_for(0, "play"))
    exercise(PanelPage(page, 0), checks.forward, noise)
    with pytest.raises(AssertionError, match=r"z_t at t = 20: only \d+% of the pixels are as they should be"):
        exercise(PanelPage(page, 1), checks.forward, noise)


def test_01_forward_process(page, lab, screenshots, record_property):
    run_all(page, lab, "01_forward_process")
    labels = ["posterior", "reverse", "forward"]
    panels = {label: PanelPage(page, number) for number, label in enumerate(labels)}
    for label in labels[:-1]:
        exercise(panels[label], getattr(checks, label))
    noise = torch.randn(8, 1, 28, 28, generator=generator_for(0, "play"))
    exercise(panels["forward"], checks.forward, noise)
    for button, beginning in (("low β", "β = 0.001, t = 200 of 2000:"), ("high β", "β = 0.1, t = 20 of 200:")):
        panels["forward"].click(button)
        panels["forward"].wait_for_sentence("^" + re.escape(beginning))
        panels["forward"].settle()
        checks.forward(panels["forward"].sentence, panels["forward"].png, noise)
    finish(panels, screenshots, "01", record_property)


def test_02_training(page, lab, lab_output, screenshots, record_property):
    run_all(page, lab, "02_training")
    labels = ["latent_model", "bound", "training", "estimates"]
    panels = {label: PanelPage(page, number) for number, label in enumerate(labels)}
    for label in labels[:2]:
        exercise(panels[label], getattr(checks, label))
    exercise(panels["estimates"], checks.estimates, Experiment())
    train_and_stop(panels["training"], lab.output)
    finish(panels, screenshots, "02", record_property)


def train_and_stop(panel: PanelPage, output) -> None:
    """Press Train, see it learn, press Stop: the run on disk is at the step that the picture tells."""
    assert panel.sentence.startswith("Not begun: step 0 of ")
    panel.click("Train")
    panel.wait_for_sentence(r"step [1-9]\d+ of .*, loss [0-9.]+, \d+ min \d+ s left")  # ten steps, for a curve
    panel.click("Stop")
    panel.wait_for_sentence("^Stopped")
    panel.settle()
    checks.training(panel.sentence, panel.png, output)


def test_03_sampling(page, lab, lab_output, screenshots, record_property):
    run_all(page, lab, "03_sampling")
    panel = PanelPage(page, 0)
    exercise(panel, checks.trajectory, Experiment())
    for menu, label in ((0, "Heun"), (0, "ancestral, σ² = β"), (1, "N(0, I)")):
        panel.choose(menu, label)
        assert label in panel.sentence
        checks.trajectory(panel.sentence, panel.png, Experiment())
    finish({"trajectory": panel}, screenshots, "03", record_property)


def test_04_evaluation(page, lab, screenshots, record_property):
    run_all(page, lab, "04_evaluation")
    panel = PanelPage(page, 0)
    exercise(panel, checks.causes)
    for menu, label in ((1, "high β"), (3, "right"), (4, "matched"), (4, "N(0, I)"), (5, "posterior")):
        panel.choose(menu, label)
        assert label in panel.sentence
        assert ("not measured" in panel.sentence) == (label == "matched")
        checks.causes(panel.sentence, panel.png)
    panel.press_in_menu(0, "l")  # arrow keys are JupyterLab's own: they choose a cell
    assert panel.sentence.startswith("lean_unet, high β, ")
    checks.causes(panel.sentence, panel.png)
    finish({"causes": panel}, screenshots, "04", record_property)


def test_05_custom_degradation(page, lab, screenshots, record_property):
    run_all(page, lab, "05_custom_degradation")
    panels = {"round_trip": PanelPage(page, 0)}
    exercise(panels["round_trip"], checks.round_trip)
    for menu, label in ((0, "heat"), (1, "1"), (0, "morph"), (1, "direct")):
        panels["round_trip"].choose(menu, label)
        checks.round_trip(panels["round_trip"].sentence, panels["round_trip"].png)
    finish(panels, screenshots, "05", record_property)
