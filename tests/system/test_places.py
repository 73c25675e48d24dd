"""Where output goes is decided before any work: to a place that can be written, or nowhere, in one sentence."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ddpm_utils.__main__ import main
from ddpm_utils.system import places
from ddpm_utils.system.places import PROJECT, check_output, obstacle, output

DECIDE = """
import sys
from pathlib import Path
from ddpm_utils.system import places

places.PROJECT = places.RESOURCES = Path(sys.argv[1])
try:
    print(places.check_output())
except OSError as error:
    sys.exit(str(error))
"""


@pytest.fixture
def read_only(tmp_path) -> Path:
    """A folder that its owner may not write."""
    folder = tmp_path / "read only"
    folder.mkdir()
    folder.chmod(0o555)
    yield folder
    folder.chmod(0o755)


@pytest.fixture
def ddpm(tmp_path, read_only):
    """Decides without root's right to write everywhere, for a project and a current folder: what is said."""
    rights = []
    if os.access(read_only, os.W_OK):
        if not shutil.which("setpriv"):
            pytest.skip("root can write everywhere")
        rights = ["setpriv", "--bounding-set=-dac_override", "--inh-caps=-dac_override"]

    def run(project: Path, here: Path, **environment: str) -> str:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("DDPM_", "HOME"))}
        command = [*rights, sys.executable, "-c", DECIDE, str(project)]
        variables = kept | {"PYTHONPATH": str(PROJECT)} | environment
        done = subprocess.run(command, cwd=here, env=variables, capture_output=True, encoding="utf-8")
        return (done.stdout + done.stderr).strip()

    return run


def test_a_project_that_cannot_be_written(ddpm, read_only, tmp_path):
    assert ddpm(read_only, tmp_path) == f"Output goes to {tmp_path}, because {read_only} cannot be written."


def test_nothing_can_be_written(ddpm, read_only):
    cause = f"because {read_only} cannot be written: set DDPM_OUTPUT to a folder of yours."
    assert ddpm(read_only, read_only) == f"there is no place for output, {cause}"


def test_the_usual_places_need_no_word(ddpm, read_only, tmp_path):
    assert ddpm(tmp_path, read_only) == ""
    assert ddpm(read_only, read_only, DDPM_OUTPUT=str(tmp_path / "new"), HOME="/nonexistent") == ""
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("named", "sentence"),
    [
        ("{0}/file", "{0}/file is not a folder: name a folder that can be written."),
        ("{0}/file/below/it", "{0}/file is not a folder: name a folder that can be written."),
        ("{0}/has a file", "{0}/has a file/data/runs is not a folder: name a folder that can be written."),
        ("~nobody-of-that-name/out", "there is no such home folder: give the whole path."),
    ],
)
@pytest.mark.parametrize("command", ["run", "student", "clean", "lab", "app", "site"])
def test_a_place_that_cannot_be_is_refused_before_any_work(command, named, sentence, tmp_path, monkeypatch, capsys):
    (tmp_path / "file").touch()
    (tmp_path / "has a file" / "data").mkdir(parents=True)
    (tmp_path / "has a file" / "data" / "runs").touch()
    before = set(tmp_path.rglob("*"))
    monkeypatch.setenv("DDPM_OUTPUT", named.format(tmp_path))
    assert main([command]) == 1
    assert (
        capsys.readouterr().err == f"ddpm: DDPM_OUTPUT is {named.format(tmp_path)}, but {sentence.format(tmp_path)}\n"
    )
    assert set(tmp_path.rglob("*")) == before


def test_a_tilde_is_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    for named in ("~", "~/results", "~/a/b"):
        monkeypatch.setenv("DDPM_OUTPUT", named)
        assert output() == Path(named.replace("~", str(tmp_path)))
        assert check_output() == ""


def test_a_path_that_json_cannot_hold(tmp_path, monkeypatch):
    monkeypatch.setenv("DDPM_OUTPUT", str(tmp_path / "\udcfcber"))
    with pytest.raises(OSError, match="rename the folder, or set PYTHONUTF8=1"):
        check_output()


def test_a_wheel_writes_below_the_current_folder(tmp_path, monkeypatch):
    monkeypatch.delenv("DDPM_OUTPUT", raising=False)
    monkeypatch.setattr(places, "RESOURCES", tmp_path / "site-packages")
    monkeypatch.chdir(tmp_path)
    assert (output(), check_output()) == (tmp_path, "")


def test_a_folder_that_is_not_there_yet(tmp_path):
    assert obstacle(tmp_path / "a" / "b" / "c") is None


@pytest.mark.parametrize("arguments", [["clean"], ["--help"], ["train", "T=20"], ["site", "runs"]])
def test_a_current_folder_that_was_deleted(arguments, tmp_path):
    """PyTorch cannot even be imported there, so this is said first."""
    gone = tmp_path / "gone"
    gone.mkdir()
    program = "import os, runpy; os.rmdir(os.getcwd()); runpy.run_module('ddpm_utils', run_name='__main__')"
    environment = os.environ | {"PYTHONPATH": str(PROJECT)}
    command = [sys.executable, "-c", program, *arguments]
    done = subprocess.run(command, cwd=gone, env=environment, capture_output=True, encoding="utf-8")
    assert (done.returncode, done.stderr) == (1, "ddpm: the current folder was deleted: change to another one.\n")
