"""Where the project's own files lie, where the user's data are, and where output goes."""

import os
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
"""The repository, if this is a checkout or an editable install."""
_INSTALLED = Path(__file__).resolve().parents[1] / "resources"  # what a wheel holds of the repository
RESOURCES = _INSTALLED if _INSTALLED.is_dir() else PROJECT
"""What comes with the project, to be read only: data/mnist_5k.npz, data/checkpoints/, notebooks/ and grids/."""


def home() -> Path:
    """Return the repository in a checkout or an editable install, and the current folder otherwise."""
    return PROJECT if RESOURCES == PROJECT else Path.cwd()


def output() -> Path:
    """Return the folder that runs are written below, in data/runs: what `DDPM_OUTPUT` names.

    By default it is the repository in a checkout or an editable install, if it can be written, and the current folder
    otherwise. See `check_output`.
    """
    if named := os.environ.get("DDPM_OUTPUT"):
        return Path(os.path.expanduser(named))
    return Path.cwd() if obstacle(_runs(home())) else home()


def check_output() -> str:
    """Make sure that output can be written, before any work.

    Returns:
        where output goes and why, in a sentence, if that is not the usual place; otherwise "".

    Raises:
        OSError: if output can be written nowhere. The sentence names the cause.
    """
    named, folder = os.environ.get("DDPM_OUTPUT"), output()
    if named and str(folder).startswith("~"):
        raise OSError(f"DDPM_OUTPUT is {named}, but there is no such home folder: give the whole path.")
    if any("\ud800" <= character <= "\udfff" for character in str(folder)):
        encoding = sys.getfilesystemencoding()
        raise OSError(f"the path {folder} is not in {encoding}: rename the folder, or set PYTHONUTF8=1.")
    problem = obstacle(_runs(folder))
    if problem and named:
        raise OSError(f"DDPM_OUTPUT is {named}, but {problem}: name a folder that can be written.")
    if problem:
        reasons = " and ".join(dict.fromkeys([obstacle(_runs(home())) or "", problem]))
        raise OSError(f"there is no place for output, because {reasons}: set DDPM_OUTPUT to a folder of yours.")
    if named or folder == home():
        return ""
    return f"Output goes to {folder}, because {obstacle(_runs(home()))}."


def _runs(folder: Path) -> Path:
    return folder / "data" / "runs"


def obstacle(folder: Path) -> str | None:
    """Return what keeps a folder from being made and written ("/a/b cannot be written"); None if nothing does."""
    path = folder.absolute()
    there = next(place for place in (path, *path.parents) if os.path.exists(place))  # Path.exists may be forbidden
    if not there.is_dir():
        return f"{there} is not a folder"
    return None if os.access(there, os.W_OK | os.X_OK) else f"{there} cannot be written"


def default_root() -> Path:
    """Return torchvision's root folder: what `DDPM_DATA` names.

    By default it is the repository's data/ in a checkout or an editable install, and data/ below `output()` otherwise.
    """
    return Path(os.environ.get("DDPM_DATA") or (PROJECT if RESOURCES == PROJECT else output()).joinpath("data"))


def shown(path: Path) -> str:
    """Return a path as a user would name it: from the project, or from here, if it is in there."""
    return str(path.relative_to(home())) if path.is_relative_to(home()) else str(path)
