"""Our figures do not depend on the user's settings of matplotlib, and leave them as they are."""

import ast
import subprocess
import sys
import threading
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch

from ddpm_utils.diffusion.schedules import constant
from ddpm_utils.lab.canvas import Blit
from ddpm_utils.lab.densities import PosteriorPicture
from ddpm_utils.lab.images import NoisyDigits
from ddpm_utils.plots import cold, curves, explanations, images
from ddpm_utils.plots.images import image_table, metric_gallery, styled, to_png
from tests.made_up_records import decomposition
from tests.patience import A_MOMENT, PATIENCE

USERS = {
    "text.usetex": True,
    "savefig.dpi": 300,
    "figure.dpi": 55,
    "figure.constrained_layout.use": False,
    "font.size": 20,
    "font.family": ["serif"],
    "mathtext.fontset": "stix",
    "axes.grid": False,
    "axes.facecolor": "pink",
    "axes.unicode_minus": False,
    "image.origin": "lower",
    "legend.fontsize": 3,
    "lines.linewidth": 7,
    "savefig.bbox": "tight",
    "xtick.labelsize": 30,
    "xtick.minor.visible": True,
}
IMPORTS = """
import importlib, pkgutil
import matplotlib.pyplot as plt

before = dict(plt.rcParams)
import ddpm_utils.lab, ddpm_utils.plots
for package in (ddpm_utils.lab, ddpm_utils.plots):
    for module in pkgutil.iter_modules(package.__path__, package.__name__ + "."):
        importlib.import_module(module.name)
        print(module.name)
assert dict(plt.rcParams) == before
"""
PLOTS = sorted(Path(images.__file__).parent.glob("*.py"))
HIGH = constant(beta=0.1, T=200)
SCORES = pd.DataFrame({"RMSE": [0.1, 0.2]}, index=["one", "two"])
DIGITS = torch.linspace(-0.5, 0.5, 8 * 784).reshape(8, 1, 28, 28)


def panel(picture, **values) -> bytes:
    """A panel's second picture."""
    blit = Blit()
    blit(picture(**values))
    return blit(picture(**values))


DRAWN = {
    "table": lambda: to_png(image_table([DIGITS, DIGITS[:3]], ["x", "z$_t$"], ["1", "2"], "title")),
    "gallery": lambda: to_png(metric_gallery({"one": DIGITS[0], "two": DIGITS[1]}, SCORES)),
    "schedules": lambda: to_png(curves.schedules({"high β": HIGH})),
    "posterior weights": lambda: to_png(curves.posterior_weights(HIGH, "title")),
    "density over time": lambda: to_png(curves.density_over_time(np.arange(3.0), np.eye(3) + 1, np.eye(3), "title")),
    "over time": lambda: to_png(cold.over_time({"left": {"a": ([0, 1], [1, 2])}, "right": {"a": ([0, 1], [2, 1])}})),
    "cells": lambda: to_png(explanations.decomposition(decomposition())),
    "density in a panel": lambda: panel(PosteriorPicture(HIGH.subset(10)), t=3, x=0.5),
    "images in a panel": lambda: panel(NoisyDigits(DIGITS, DIGITS), beta=0.01, T=200, t=20),
}


def settings() -> dict:
    """All of matplotlib's, but the backend, which is chosen when the first figure is made."""
    return {name: plt.rcParams[name] for name in plt.rcParams if name != "backend"}


@pytest.mark.parametrize("name", DRAWN)
def test_a_figure_does_not_depend_on_the_users_settings(name):
    expected = DRAWN[name]()
    with plt.rc_context(USERS):
        before = settings()
        assert DRAWN[name]() == expected
        assert settings() == before


def test_importing_changes_no_setting():
    printed = subprocess.run([sys.executable, "-c", IMPORTS], capture_output=True, encoding="utf-8", check=True).stdout
    assert {"ddpm_utils.plots.cold", "ddpm_utils.lab.canvas", "ddpm_utils.lab.training"} <= set(printed.split())


@pytest.mark.parametrize("path", PLOTS, ids=lambda path: path.stem)
def test_every_function_that_makes_a_figure_is_styled(path):
    functions = [node for node in ast.parse(path.read_text(encoding="utf-8")).body if isinstance(node, ast.FunctionDef)]
    makers = [f for f in functions if f.returns and ast.unparse(f.returns) == "Figure" and not f.name.startswith("_")]
    assert [f.name for f in makers if "styled()" not in map(ast.unparse, f.decorator_list)] == []


def test_settings_return_after_an_error_and_after_nesting():
    before = settings()

    @styled()
    def draw():
        assert plt.rcParams["axes.grid"]
        raise KeyError

    with plt.rc_context({"axes.grid": False}):
        for _ in range(2):
            with pytest.raises(KeyError), styled():
                draw()
            assert not plt.rcParams["axes.grid"]
    assert settings() == before


def test_other_settings_are_kept():
    """A notebook's backend makes matplotlib interactive when the first figure loads it."""
    with plt.rc_context({"interactive": False}):
        with styled():
            plt.rcParams["interactive"] = True
        assert plt.rcParams["interactive"]


def test_threads_take_turns():
    """The second would take the first one's style for the user's, and leave it."""
    before, inside, end = settings(), threading.Event(), threading.Event()

    def draw():
        with styled():
            inside.set()
            end.wait(PATIENCE)

    def draw_too():
        with styled():
            pass

    threads = [threading.Thread(target=draw), threading.Thread(target=draw_too)]
    threads[0].start()
    assert inside.wait(PATIENCE)
    threads[1].start()
    threads[1].join(A_MOMENT)
    assert threads[1].is_alive()
    end.set()
    for thread in threads:
        thread.join(PATIENCE)
    assert settings() == before
