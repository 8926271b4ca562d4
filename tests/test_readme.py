"""The README's code runs, and what it names exists."""

import re

import numpy as np
import pytest


@pytest.fixture(scope="module")
def readme(repository):
    return (repository / "README.md").read_text()


@pytest.fixture
def blocks(readme):
    return re.findall(r"```python\n(.*?)```", readme, re.DOTALL)


def test_the_loop_of_one_s_own_runs(blocks, repository, monkeypatch, tmp_path):
    monkeypatch.chdir(repository)
    monkeypatch.setenv("VDM_DATA_DIR", str(tmp_path))
    names: dict = {}
    exec(next(block for block in blocks if "runs.build" in block), names)
    assert int(names["state"].step) == 2
    assert names["terms"].total.shape == (8,) and np.all(np.isfinite(names["terms"].total))


def test_its_tree_shows_every_folder(readme, repository):
    shown, above = set(), []
    tree = re.search(r"```\n(vdm/ .*?)```", readme, re.DOTALL)[1]
    for indent, name in re.findall(r"^( {0,6})(\w+(?:\.py|/))", tree, re.MULTILINE):
        above = [*above[: len(indent) // 2], name]
        shown.add("".join(above))
    for path in shown:
        assert (repository / path).exists(), path
    for top in ("vdm", "experiments"):
        for init in (repository / top).rglob("__init__.py"):
            folder = f"{init.parent.relative_to(repository).as_posix()}/"
            assert folder in shown, folder


def test_files_and_functions_it_names_exist(readme, repository):
    table = (repository / "docs" / "theory" / "equations.md").read_text().split("\nLuo's")[0]
    for name in re.findall(r"`([a-z_./]+\.py)`", table):
        assert (repository / "vdm" / name).exists(), name
    for module, function in re.findall(r"`([a-z_.]+)\.([a-z_]+)`", table):
        if function == "py":
            continue
        text = (repository / "vdm" / f"{module.replace('.', '/')}.py").read_text()
        assert f"def {function}(" in text, f"{module}.{function}"
    for path in re.findall(r"\((docs/[^)]+)\)", readme):
        assert (repository / path).exists(), path


def test_every_page_s_links_lead_somewhere(repository):
    pages = [repository / "README.md", *(repository / "docs").rglob("*.md")]
    for page in pages:
        for link in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text()):
            assert (page.parent / link).exists(), f"{page}: {link}"


def test_the_readme_fits_a_reader(readme):
    assert len(readme.splitlines()) <= 200
