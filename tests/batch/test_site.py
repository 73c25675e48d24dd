"""The web site: whole, without requests, with links that lead somewhere, and with the numbers of the table."""

import os
import re
import shutil
from pathlib import Path
from urllib.parse import unquote, urlsplit

import nbformat
import pytest
from bs4 import BeautifulSoup
from nbconvert.filters.markdown_mistune import MarkdownWithMath

from ddpm_utils.__main__ import main
from ddpm_utils.batch.notebooks import numbered
from ddpm_utils.batch.site import Renderer, build_site, mathml
from ddpm_utils.system.files import write_json
from tests.executed_runs import EXPERIMENTS, PIXEL, write_runs

PAGES = ["01_forward_process.html", "03_sampling.html"], ["01_forward_process.html", "02_training.failed.html"]


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """The folder of a built site."""
    return build_site(write_runs(tmp_path_factory.mktemp("runs")), tmp_path_factory.mktemp("built") / "site").parent


def soup(path: Path) -> BeautifulSoup:
    return BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")


@pytest.fixture(scope="module")
def index(site) -> BeautifulSoup:
    return soup(site / "index.html")


@pytest.fixture(scope="module")
def page(site) -> BeautifulSoup:
    return soup(site / EXPERIMENTS[0] / "01_forward_process.html")


def test_there_is_a_page_for_each_executed_notebook(site):
    expected = {f"{e}/{name}" for e, names in zip(EXPERIMENTS, PAGES, strict=True) for name in names}
    assert {str(path.relative_to(site)) for path in site.rglob("*") if path.is_file()} == expected | {"index.html"}


def test_every_link_leads_somewhere(site):
    reached = set()
    for path in site.rglob("*.html"):
        for link in soup(path).select("a[href]"):
            parts = urlsplit(link["href"])
            if parts.scheme:
                assert link["href"] == "https://arxiv.org/abs/2006.11239"
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            assert target.is_file(), link
            assert not parts.fragment or soup(target).find(id=unquote(parts.fragment)), link
            reached.add(target)
    assert reached == {path.resolve() for path in site.rglob("*.html")}


def test_nothing_is_fetched(site):
    for path in site.rglob("*.html"):
        html = soup(path)
        assert all(image["src"].startswith("data:") for image in html.select("img"))
        assert html.select("link, iframe, script[src], [srcset], object, embed") == []
        assert "url(" not in "".join(style.text for style in html.select("style"))
        policy = html.select_one("meta[http-equiv=Content-Security-Policy]")["content"]
        assert policy.startswith("default-src 'none'; img-src data:;")
        assert bool(html.select("script")) == ("script-src" in policy) == (path.name == "index.html")


def test_equations_are_mathml(page):
    inline, displayed, aligned, in_table = page.select("math")
    assert inline.text == "x∼Norm[0,1]"
    assert inline.find("mo", string="∼")
    assert displayed["display"] == aligned["display"] == "block"
    assert re.sub(r"\s", "", displayed.text) == "𝔼q[logPr(x∣z)]≤‖αt‖2(1)"
    assert len(aligned.select("mtr")) == 2
    assert "b<c" in aligned.text
    assert in_table.find_parent("th")
    assert page.find("code", string="a_b_c")  # a mistake is shown as it is


@pytest.mark.parametrize("path", numbered(), ids=lambda path: path.stem)
def test_every_equation_of_the_notebooks_is_understood(path):
    cells = nbformat.read(path, as_version=4).cells
    renderer = Renderer([])
    html = "\n".join(MarkdownWithMath(renderer).render(c.source) for c in cells if c.cell_type == "markdown")
    found = BeautifulSoup(html, "html.parser")
    assert found.select("math")
    for equation in found.select("math"):
        assert not re.search(r"[\\$~]", equation.text), equation
    for code in found.select("code"):
        assert "\\" not in code.text, code
        code.extract()
    assert "$" not in found.text


def test_words_are_words_in_equations():
    assert "<mtext>KL</mtext>" in mathml(r"\mathrm{KL}", "inline")
    assert mathml(r"\log p", "inline").count("<mspace") == 1
    assert mathml(r"\log(p)", "inline").count("<mspace") == 0


def test_links_to_pages_that_are_not_there_are_text(page):
    links = {link.text: link["href"] for link in page.select(".prose a:not(.anchor-link)")}
    assert links == {"sampling": "03_sampling.html", "paper": "https://arxiv.org/abs/2006.11239"}
    assert "Next: training, sampling, the guide, a\npaper." in page.select_one(".prose").text


def test_a_page_shows_what_its_notebook_shows(page):
    assert [code.text.strip() for code in page.select(".highlight")] == ["print(1 < 2)", "half = 42"]
    assert page.select_one("details .highlight").text.strip() == "half = 42"
    assert page.select_one("summary").text == "Solution"
    assert [text.text.strip() for text in page.select(".output pre")] == ["1 < 2", "'four'"]
    assert page.select_one(".output td").text == "7"
    assert [image["alt"] for image in page.select("img")] == ['a "dot"', "figure"]
    assert [image.get("width") for image in page.select("img")] == ["7", None]
    assert [image["src"] for image in page.select("img")] == [f"data:image/{k};base64,{PIXEL}" for k in ("png", "gif")]
    assert [note.text for note in page.select(".panel")] == ["A panel with controls is here in the running notebook."]
    assert "Interactive panel" not in page.text


def test_a_page_says_where_it_belongs(page):
    header = page.select_one("header")
    assert [link["href"] for link in header.select("a")] == ["../index.html", *PAGES[0]]
    assert EXPERIMENTS[0] in header.text
    assert header.select_one("[aria-current=page]").text == "01 forward process"
    assert page.title.text == f"01 forward process – {EXPERIMENTS[0]}"


def test_a_failed_notebook_is_told_from_the_others(index, site):
    links = [link.text for link in index.select("dd a")]
    assert links == ["01 forward process", "03 sampling", "01 forward process", "02 training (failed)"]
    error = soup(site / EXPERIMENTS[1] / "02_training.failed.html").select_one("pre.error")
    assert error.select_one(".ansi-red-fg").text == "ZeroDivisionError"


def test_index_shows_the_table_and_the_map(index):
    rows = [[(cell.text, cell.get("title")) for cell in row.select("td")] for row in index.select("tbody tr")]
    assert [head.text for head in index.select("th button")] == [
        *("experiment", "beta", "T", "network", "FID N(0, I)", "RMSE"),
    ]
    assert rows[0] == [
        *((EXPERIMENTS[0], None), ("0.001", "0.001"), ("2000", "2000"), ("cnn", None)),
        *(("12.3 ± 0.125", "12.345678901234567 ± 0.125"), ("0.3", "0.3")),
    ]
    assert [row[4:] for row in rows[1:3]] == [[("9.5", "9.5"), ("–", None)], [("–", None), ("0.25", "0.25")]]
    assert [link["href"] for link in index.select("tbody a")] == [f"#{name}" for name in EXPERIMENTS]
    assert "The same in all rows: seed 0, dataset mnist." in " ".join(index.select_one("h2 + p").text.split())
    assert index.select_one("figure img")["alt"] == "FID falls from left to right."


def test_the_main_jobs_rows_lead_to_its_notebooks(tmp_path):
    folder = write_runs(tmp_path)
    (folder / EXPERIMENTS[0]).rename(folder / "constant-beta0.001-T2000-cnn")
    links = soup(build_site(folder, tmp_path / "site")).select("tbody a")
    assert [link["href"] for link in links] == [f"#{EXPERIMENTS[1]}", "#constant-beta0.001-T2000-cnn"]


def test_works_without_table_and_map(tmp_path):
    folder = write_runs(tmp_path)
    write_json(folder / "results.json", {"results.csv": "\n", "map.png": ""})  # of a job whose notebooks all failed
    index = soup(build_site(folder, tmp_path / "site"))
    (folder / "results.json").unlink()
    assert soup(build_site(folder, tmp_path / "site")) == index
    assert index.select("table, figure") == []
    assert len(index.select("dd a")) == 4


def test_command_replaces_the_site_as_a_whole(tmp_path, output, capsys):
    folder = write_runs(output / "data" / "runs")
    assert main(["site"]) == 0
    assert capsys.readouterr().out.endswith("site/index.html\n")
    shutil.rmtree(folder / EXPERIMENTS[1])
    assert main(["site", str(folder)]) == 0
    assert sorted(path.name for path in (folder / "site").iterdir()) == [EXPERIMENTS[0], "index.html"]
    assert [path.name for path in folder.iterdir() if path.name.startswith(".")] == []


def test_a_site_that_is_replaced_is_never_half_there(tmp_path, monkeypatch):
    """A kill at the last moment: the old site stays as a whole, and can be replaced by the next."""

    target, replace = tmp_path / "site", os.replace

    def stopped(source, destination):
        if target in (source, destination):
            raise KeyboardInterrupt
        replace(source, destination)

    folder = write_runs(tmp_path / "runs")
    build_site(folder, target)
    before = {path: path.read_bytes() for path in target.rglob("*.html")}
    with monkeypatch.context() as patch:
        patch.setattr("ddpm_utils.batch.site.os.replace", stopped)
        with pytest.raises(KeyboardInterrupt):
            build_site(folder, target)
    assert {path: path.read_bytes() for path in target.rglob("*.html")} == before
    build_site(folder, target)


def test_refusals_are_one_sentence(tmp_path, capsys):
    assert main(["site", str(tmp_path / "missing")]) == 1
    assert "holds no executed notebooks: `ddpm run` makes those of data/runs" in capsys.readouterr().err
    assert not (tmp_path / "missing").exists()
    own = write_runs(tmp_path) / "site" / "own.txt"
    own.parent.mkdir()
    own.write_text("kept")
    assert main(["site", str(tmp_path)]) == 1
    assert "site is not a site: move it away first." in capsys.readouterr().err
    assert own.read_text() == "kept"
