"""Libraries' folders, a user's settings of matplotlib and Python's variables do not reach commands and kernels."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from jupyter_client.kernelspec import KernelSpecManager

from ddpm_utils.batch.kernels import SOCKET, OwnKernelManager, environment, own_folder
from ddpm_utils.commands import kernel_environment
from ddpm_utils.system.places import PROJECT
from ddpm_utils.system.surroundings import FOLDERS, kernel_settings

DRAW = """
import warnings
warnings.simplefilter("error")
from ddpm_utils.system.surroundings import prepare
prepare()
import IPython.paths, jupyter_core.paths, matplotlib
print(matplotlib.get_configdir(), matplotlib.get_cachedir(), IPython.paths.get_ipython_dir())
print(jupyter_core.paths.jupyter_runtime_dir(), jupyter_core.paths.jupyter_config_dir())
print(matplotlib.get_backend(), matplotlib.rcParams["font.size"], matplotlib.rcParams["toolbar"])
"""
SETTINGS = (
    "font.size: 33\ntoolbar: toolmanager\n",
    "backend: nonexistent\ninteractive: True\n",
    "\xff\xfe\n",
    "a: b: c\n",
)
SPECIFICATION = {"argv": ["/nonexistent/python", "-f", "{connection_file}"], "display_name": "x", "language": "python"}


def prepared(**variables: str) -> subprocess.CompletedProcess:
    """A process that was prepared, and names the folders of its libraries."""
    kept = {name: value for name, value in os.environ.items() if name not in {*FOLDERS, "MPLBACKEND", "MATPLOTLIBRC"}}
    command = [sys.executable, "-c", DRAW]
    return subprocess.run(command, cwd=PROJECT, env=kept | variables, capture_output=True, encoding="utf-8")


@pytest.mark.parametrize(
    "variables",
    [
        {"HOME": "/dev/null/home"},
        {"HOME": "/dev/null"},
        {"HOME": "{0}", "MPLCONFIGDIR": "/dev/null/x", "JUPYTER_RUNTIME_DIR": "/dev/null"},
        {"HOME": "{0}", "IPYTHONDIR": "/dev/null/x", "JUPYTER_CONFIG_DIR": "/dev/null"},
    ],
    ids=str,
)
def test_libraries_find_folders_and_say_nothing(variables, tmp_path):
    done = prepared(**{name: value.format(tmp_path) for name, value in variables.items()})
    assert (done.returncode, done.stderr) == (0, "")
    folders = done.stdout.splitlines()[0].split() + done.stdout.splitlines()[1].split()
    assert not any(folder.startswith(("/dev", "/proc", "/nonexistent")) for folder in folders)
    temporary = [Path(folder) for folder in folders if Path(folder).is_relative_to(tempfile.gettempdir() + "/ddpm-")]
    assert not any(folder.exists() for folder in temporary)


@pytest.mark.parametrize("settings", SETTINGS)
def test_settings_of_matplotlib(settings, tmp_path):
    (tmp_path / "matplotlibrc").write_bytes(settings.encode("latin-1"))
    done = prepared(MPLCONFIGDIR=str(tmp_path), MATPLOTLIBRC=str(tmp_path), MPLBACKEND="missing")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == "agg 10.0 toolbar2"


def test_kernels_are_of_this_python(tmp_path, monkeypatch):
    """A user's kernel of the same name, in each of the places where Jupyter looks."""
    for variable in ("JUPYTER_DATA_DIR", "JUPYTER_PATH", "IPYTHONDIR"):
        folder = tmp_path / variable / "kernels" / "python3"
        folder.mkdir(parents=True)
        (folder / "kernel.json").write_text(json.dumps(SPECIFICATION), encoding="utf-8")
        monkeypatch.setenv(variable, str(tmp_path / variable))
    assert KernelSpecManager().get_kernel_spec("python3").argv[0] == "/nonexistent/python"
    assert OwnKernelManager(kernel_name="python3").kernel_spec.argv[0] == sys.executable
    monkeypatch.setenv("PATH", "")  # no python there
    monkeypatch.setenv("JUPYTER_PATH", kernel_environment()["JUPYTER_PATH"])  # of `ddpm lab` and `ddpm app`
    found = OwnKernelManager(kernel_name="python3")
    found.kernel_spec_manager = KernelSpecManager()
    assert found.format_kernel_cmd()[0] == sys.executable


def test_settings_of_python_do_not_reach_kernels(monkeypatch):
    variables = ("PYTHONSTARTUP", "PYTHONIOENCODING", "PYTHONOPTIMIZE", "PYTHONWARNINGS", "PYTHONINSPECT", "PYTHONUTF8")
    for variable in variables:
        monkeypatch.setenv(variable, "0")
    monkeypatch.setenv("PYTHONPATH", "own networks")
    monkeypatch.setenv("MPLBACKEND", "missing")
    for found in (kernel_settings(), kernel_environment(), environment(1, "out")):
        assert {name for name in variables if name in found} == {"PYTHONUTF8"}
        assert (found["PYTHONUTF8"], found["PYTHONPATH"]) == ("1", "own networks")
        assert "inline" in found["MPLBACKEND"]


@pytest.mark.parametrize("name", ["short", "x" * 60, "ü" * 45, "x" * 200])
def test_sockets_have_short_names(name, tmp_path, monkeypatch):
    with tempfile.TemporaryDirectory(prefix="t-", dir="/tmp") as base:
        folder = Path(base) / name
        folder.mkdir()
        monkeypatch.setattr(tempfile, "tempdir", str(folder))
        with own_folder() as (made, settings):
            path = os.fsencode(f"{made}/{SOCKET}")
            assert settings == {"transport": "ipc"}
            assert len(path) <= 103
        assert not Path(made).exists()


def test_without_a_place_for_sockets_they_are_ports(tmp_path, monkeypatch):
    monkeypatch.setattr("ddpm_utils.batch.kernels._fits", lambda place: False)
    with own_folder() as (_, settings):
        assert settings == {}


def test_no_temporary_folder_is_one_sentence(tmp_path, monkeypatch):
    program = (
        "import os, tempfile\n"
        "tempfile._candidate_tempdir_list = lambda: ['/dev/null']\n"
        "from ddpm_utils.__main__ import main\n"
        "main(['clean'])"
    )
    variables = os.environ | {"HOME": "/dev/null", "PYTHONPATH": str(PROJECT), "DDPM_OUTPUT": str(tmp_path)}
    for name in FOLDERS:
        variables.pop(name, None)
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env=variables, capture_output=True, encoding="utf-8")
    assert done.stderr == "ddpm: No usable temporary directory found in ['/dev/null'].\n"


@pytest.mark.parametrize("allowed", [16, 64, 127])
def test_too_few_open_files_are_refused(allowed, tmp_path):
    program = (
        "import resource; from ddpm_utils.__main__ import main\n"
        f"resource.setrlimit(resource.RLIMIT_NOFILE, ({allowed}, {allowed})); main(['clean'])"
    )
    environment = os.environ | {"PYTHONPATH": str(PROJECT), "DDPM_OUTPUT": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, encoding="utf-8")
    sentence = (
        f"a process may have {allowed} open files here, but at least 128 are needed: raise the limit (ulimit -Hn)."
    )
    assert done.stderr == f"ddpm: {sentence}\n"


@pytest.mark.parametrize("allowed", [(128, 128), (16, 200), (64, 5000)])
def test_the_limit_of_open_files_is_raised(allowed, tmp_path):
    program = (
        f"import resource; resource.setrlimit(resource.RLIMIT_NOFILE, {allowed})\n"
        "from ddpm_utils.system.surroundings import prepare; prepare()\n"
        "print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])"
    )
    environment = os.environ | {"PYTHONPATH": str(PROJECT)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, encoding="utf-8")
    assert done.stdout == f"{min(4096, allowed[1])}\n", done.stderr
