"""Commands print in any encoding, and files are UTF-8 whatever the locale."""

import ast
import codecs
import io
import os
import subprocess
import sys

import pytest

from ddpm_utils.system.places import PROJECT
from ddpm_utils.system.terminal import ERRORS, ascii_of, spell, spell_out

WORDS = "β = 0.1 ± 2², α₀ … − × σ → ε, ẑ, ½, Δ, ς, Übung, „Łódź“ 日"
PRINTS = """
import argparse, sys
from rich.console import Console
from tqdm import tqdm
from ddpm_utils.system.terminal import spell_out

spell_out()
for stream in (sys.stdout, sys.stderr):
    print({words!a}, file=stream)
    Console(file=stream).print({words!a})
    for _ in tqdm([1], desc={words!a}, file=stream):
        pass
parser = argparse.ArgumentParser(description={words!a})
parser.print_help()
parser.error({words!a})
"""


@pytest.mark.parametrize(
    ("character", "spelled"),
    [
        *[("β", "beta"), ("α", "alpha"), ("σ", "sigma"), ("ε", "epsilon"), ("Δ", "Delta"), ("−", "-"), ("…", "...")],
        *[("±", "+-"), ("×", "x"), ("²", "^2"), ("₀", "_0"), ("λ", "lambda"), ("ς", "sigma"), ("𝛽", "beta")],
        *[("ü", "u"), ("ﬁ", "fi"), ("½", "1/2"), ("\u0302", ""), ("日", "?"), ("😀", "?")],
    ],
)
def test_spelled(character, spelled):
    assert ascii_of(character) == spelled


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "cp437", "cp932", "koi8-r", "mac-roman", "utf-8"])
def test_every_character_has_an_encoding(encoding):
    codecs.register_error(ERRORS, spell)
    greek = "".join(map(chr, range(0x370, 0x400)))
    mathematics = "".join(map(chr, range(0x2190, 0x2300)))
    for text in (WORDS, greek, mathematics, "𝒩(0, 𝟏)", "a file \udcfc"):
        written = text.encode(encoding, ERRORS)
        assert encoding == "utf-8" or written.decode(encoding, "replace")
    assert "beta".encode(encoding) == "beta".encode(encoding, ERRORS)


def test_what_can_be_encoded_stays():
    codecs.register_error(ERRORS, spell)
    assert "Übung β".encode("cp1252", ERRORS).decode("cp1252") == "Übung beta"
    assert "Übung β".encode("utf-8", ERRORS).decode("utf-8") == "Übung β"
    assert "\udcfc".encode("utf-8", ERRORS) == b"\xfc"  # a file's name, as it was


@pytest.mark.parametrize(
    "environment",
    [
        {"PYTHONIOENCODING": "cp1252"},
        {"PYTHONIOENCODING": "ascii:strict"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        {"PYTHONIOENCODING": "cp437"},
    ],
    ids=str,
)
def test_all_that_prints_prints(environment):
    command = [sys.executable, "-c", PRINTS.format(words=WORDS)]
    done = subprocess.run(command, env=os.environ | environment, capture_output=True)
    assert done.returncode == 2, done.stderr.decode(errors="replace")[-1000:]  # as argparse ends
    encoding = environment.get("PYTHONIOENCODING", "ascii").split(":")[0]
    for text in (done.stdout, done.stderr):
        assert "beta = 0.1" in text.decode(encoding)


def test_programs_without_a_terminal(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    spell_out()


def test_help_raises_no_warning():
    command = [sys.executable, "-W", "error", "-X", "dev", "-m", "ddpm_utils", "--help"]
    done = subprocess.run(command, cwd=PROJECT, env=os.environ | {"PYTHONIOENCODING": "ascii"}, capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize("folder", ["ddpm_utils", "maintenance", "tests"])
def test_what_processes_print_is_decoded_as_utf_8(folder):
    """ruff's PLW1514 asks for the encoding of files; this asks for that of processes."""
    found = []
    for path in sorted((PROJECT / folder).rglob("*.py")):
        calls = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
        for call in (
            call for call in calls if ast.unparse(call.func).split(".")[-1] in ("run", "Popen", "check_output")
        ):
            given = {keyword.arg for keyword in call.keywords}
            if given & {"text", "universal_newlines"} and "encoding" not in given:
                found.append(f"{path.relative_to(PROJECT)}:{call.lineno}")
    assert found == []
