"""What libraries take from the machine and from the user's settings, put right for our commands and their kernels."""

import atexit
import importlib.util
import os
import shutil
import tempfile
from pathlib import Path

from ddpm_utils.system.places import obstacle

FOLDERS = {
    "MPLCONFIGDIR": ".config/matplotlib",
    "IPYTHONDIR": ".ipython",
    "JUPYTER_CONFIG_DIR": ".jupyter",
    "JUPYTER_DATA_DIR": ".local/share/jupyter",
    "JUPYTER_RUNTIME_DIR": ".local/share/jupyter/runtime",
}
"""Where libraries write, by the environment's variable that names it, and by default below the home folder."""
HANDLES, FEWEST_HANDLES = 4096, 128  # open files at a time: as many as we ask for, and as few as a notebook works with
OF_PYTHON = {
    *("PYTHONINSPECT", "PYTHONIOENCODING", "PYTHONOPTIMIZE", "PYTHONSTARTUP", "PYTHONUTF8", "PYTHONWARNINGS"),
}
"""Settings of Python that would change what a notebook prints, or whether it checks its results."""


def prepare() -> None:
    """Set up this process for our commands: no setting of matplotlib's, writable folders, enough file handles.

    Its environment changes, which its child processes inherit. Call it before matplotlib is imported.

    Raises:
        OSError: if there is no temporary folder that can be written, and one is needed, or too few files may be open.
    """
    os.environ["MPLBACKEND"] = "agg"  # no window; kernels have their own, see `kernel_settings`
    if matplotlib := importlib.util.find_spec("matplotlib"):
        os.environ["MATPLOTLIBRC"] = str(Path(str(matplotlib.origin)).parent / "mpl-data" / "matplotlibrc")
    _replace_folders()
    _raise_handles()


def _replace_folders() -> None:
    """Where a library's folder cannot be written, name one that is deleted in the end."""
    home = Path(os.path.expanduser("~"))
    places = {name: Path(os.environ.get(name) or home / below) for name, below in FOLDERS.items()}
    unusable = [name for name, place in places.items() if not home.is_absolute() or obstacle(place)]
    if unusable:
        folder = Path(tempfile.mkdtemp(prefix="ddpm-"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        for name in unusable:
            (folder / name.lower()).mkdir(mode=0o700)
            os.environ[name] = str(folder / name.lower())


def _raise_handles() -> None:
    """Allow this process as many open files as it may have.

    Raises:
        OSError: if they are too few.
    """
    try:
        import resource
    except ModuleNotFoundError:  # Windows, which has no such limit
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < FEWEST_HANDLES:
        allowed = f"a process may have {hard} open files here, but at least {FEWEST_HANDLES} are needed"
        raise OSError(f"{allowed}: raise the limit (ulimit -Hn).")
    wanted = HANDLES if hard == resource.RLIM_INFINITY else min(HANDLES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def kernel_settings() -> dict[str, str]:
    """Return the environment of kernels: this process's, with UTF-8 everywhere and figures inside the notebook."""
    kept = {name: value for name, value in os.environ.items() if name not in OF_PYTHON}
    return kept | {"PYTHONUTF8": "1", "MPLBACKEND": "module://matplotlib_inline.backend_inline"}
