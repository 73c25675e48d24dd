"""Every altered or cut result is refused in one sentence; what is read is what was written."""

import json
import math

import nbformat
import pandas as pd
import pytest

from ddpm_utils.system.errors import CheckpointError
from ddpm_utils.system.files import (
    METADATA,
    RESTORE,
    read_csv,
    read_json,
    read_notebook,
    seal_notebook,
    to_csv,
    write_json,
)

CONTENT = {"FID β": [1.5, 2, None, True], "names": {"b": "x", "a": "\n"}, "none": math.inf}
TABLE = pd.DataFrame({"name": ["σ, ²", "x"], "FID": [0.1 + 0.2, 1e-9]})


@pytest.fixture
def notebook(tmp_path):
    content = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1 + 1", execution_count=1)])
    content.metadata = {METADATA: {"made_of": {"code": "x"}}}
    (tmp_path / "unfinished").write_text(nbformat.writes(content), encoding="utf-8")
    seal_notebook(tmp_path / "unfinished", tmp_path / "notebook.ipynb")
    return tmp_path / "notebook.ipynb"


@pytest.mark.parametrize("indent", [None, 1, 2])
def test_json_is_read_as_it_was_written(tmp_path, indent):
    write_json(tmp_path / "a.json", CONTENT, indent=indent)
    assert read_json(tmp_path / "a.json") == CONTENT
    assert list(read_json(tmp_path / "a.json")["names"]) == ["b", "a"]


def test_layout_and_line_ends_do_not_count(tmp_path):
    path = tmp_path / "a"
    write_json(path, CONTENT)
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8"))), encoding="utf-8")
    assert read_json(path) == CONTENT
    path.write_bytes(to_csv(TABLE).replace(b"\n", b"\r\n"))
    pd.testing.assert_frame_equal(read_csv(path), TABLE)


def test_csv_is_read_as_it_was_written_and_plain_but_for_its_last_line(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(to_csv(TABLE))
    pd.testing.assert_frame_equal(read_csv(path), TABLE)
    pd.testing.assert_frame_equal(pd.read_csv(path, comment="#"), TABLE)


def test_a_notebook_is_read_as_it_was_executed(notebook):
    content, is_sealed = read_notebook(notebook)
    assert is_sealed
    assert content["metadata"] == {METADATA: {"made_of": {"code": "x"}}}
    assert not (notebook.parent / "unfinished").exists()
    nbformat.validate(nbformat.read(notebook, as_version=4))


@pytest.mark.parametrize("kind", ["json", "csv"])
@pytest.mark.parametrize("damage", ["flipped", "cut"])
def test_damage_anywhere_is_refused_or_changes_nothing(tmp_path, kind, damage):
    path = tmp_path / f"a.{kind}"
    if kind == "json":
        write_json(path, CONTENT)
    else:
        path.write_bytes(to_csv(TABLE))
    read = {"json": read_json, "csv": lambda path: read_csv(path).to_dict()}[kind]
    content, expected, sentences = path.read_bytes(), read(path), set()
    for position in range(len(content)):
        flipped = content[position] ^ 1 << position % 8
        path.write_bytes(
            content[:position] + (bytes([flipped]) + content[position + 1 :] if damage == "flipped" else b"")
        )
        try:
            assert read(path) == expected
        except CheckpointError as error:
            sentences.add(str(error))
    why = {sentence.removeprefix(f"{path} is damaged (").partition("): ")[0] for sentence in sentences}
    assert why <= {"it is not JSON", "it is not text", "its content does not match its sha256"}
    assert {sentence.partition("): ")[2] for sentence in sentences} == {f"{RESTORE}."}


@pytest.mark.parametrize("content", [b"[]", b"{}", b"", b"\xff", b'{"sha256": "0"}', b"a,b\n1,2\n"])
def test_what_has_no_seal_is_refused(tmp_path, content):
    path = tmp_path / "a"
    path.write_bytes(content)
    for read in (read_json, read_csv):
        with pytest.raises(CheckpointError, match=r"a is damaged \(.*\): delete it\.$"):
            read(path, "delete it")


def test_what_is_missing_is_one_sentence(tmp_path):
    with pytest.raises(
        CheckpointError, match=r"none cannot be read \(No such file or directory\): restore it with git"
    ):
        read_json(tmp_path / "none")


@pytest.mark.parametrize(
    "change", [("1 + 1", "1 + 2"), ('"code": "x"', '"code": "y"'), ('"execution_count": 1', '"execution_count": 2')]
)
def test_an_altered_notebook_is_refused(notebook, change):
    text = notebook.read_text(encoding="utf-8")
    assert change[0] in text
    notebook.write_text(text.replace(*change), encoding="utf-8")
    with pytest.raises(CheckpointError, match="was altered after it was executed: execute it again, or delete it"):
        read_notebook(notebook)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"metadata": 1}', '{"metadata": {"ddpm_utils": 1}}', "null"])
def test_what_is_no_notebook_is_refused(notebook, content):
    notebook.write_text(content, encoding="utf-8")
    with pytest.raises(CheckpointError, match="is damaged"):
        read_notebook(notebook)
