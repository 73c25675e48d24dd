"""Where the project's own files lie, where the user's data are, and where output goes."""

import os
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
"""The repository, if this is a checkout or an editable install."""
_INSTALLED = Path(__file__).resolve().parent / "resources"  # what a wheel holds of the repository
RESOURCES = _INSTALLED if _INSTALLED.is_dir() else PROJECT
"""What comes with the project, to be read only: data/mnist_5k.npz, data/checkpoints/, notebooks/ and grids/."""


def home() -> Path:
    """Return the repository in a checkout or an editable install, and the current folder otherwise."""
    return PROJECT if RESOURCES == PROJECT else Path.cwd()


def output() -> Path:
    """Return the folder that runs are written below, in data/runs: what `DDPM_OUTPUT` names.

    By default it is the repository in a checkout or an editable install, and the current folder otherwise.
    """
    return Path(os.environ.get("DDPM_OUTPUT") or home())


def default_root() -> Path:
    """Return torchvision's root folder: what `DDPM_DATA` names.

    By default it is the repository's data/ in a checkout or an editable install, and data/ below `output()` otherwise.
    """
    return Path(os.environ.get("DDPM_DATA") or (PROJECT if RESOURCES == PROJECT else output()).joinpath("data"))


def shown(path: Path) -> str:
    """Return a path as a user would name it: from the project, or from here, if it is in there."""
    return str(path.relative_to(home())) if path.is_relative_to(home()) else str(path)
