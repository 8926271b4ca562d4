"""Comparison pages and samples from the command line, and every refusal."""

import csv
import json
import re
import shutil

import numpy as np
import pytest
from PIL import Image

from experiments.reports.comparison.curves import COMPUTE

pytestmark = pytest.mark.slow


def error(done, code):
    assert done.returncode == code, done.stdout + done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    return line


@pytest.fixture(scope="module")
def workdir(finished, tmp_path_factory):
    copy = tmp_path_factory.mktemp("runs") / "run"
    shutil.copytree(finished[0], copy)
    return copy


@pytest.fixture(scope="module")
def other_seed(launch, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "other"
    done = launch("train", folder, overrides={"seed": 1, "schedule.name": "monotone_network"})
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def compare(fork_python, data_dir):
    def run(*folders, out, flags=()):
        words = ["-m", "experiments.compare", f"--workdirs={','.join(map(str, folders))}"]
        words += [f"--out={out}", "--randomisations=2", *flags]
        return fork_python(words, devices=1, env={"VDM_DATA_DIR": str(data_dir)}, check=False)

    return run


@pytest.fixture(scope="module")
def compared(workdir, other_seed, compare, tmp_path_factory):
    folder = tmp_path_factory.mktemp("compared")
    done = compare(workdir, other_seed, workdir, out=folder / "page")
    assert done.returncode == 0, done.stderr
    return folder, done


def test_the_comparison_s_page_in_a_browser(compared, in_browser):
    in_browser(compared[0] / "page" / "index.html")


def test_a_comparison_s_page_figures_and_tables(compared):
    tmp_path, done = compared
    page = (tmp_path / "page" / "index.html").read_text()
    assert len(re.findall("<img", page)) == 5
    assert not re.findall(r"(?:src|href)='(?!data:)", page)  # opens from disk, alone
    for name in ("terms", "schedules", "profile", "difference_profile", "learning"):
        assert Image.open(tmp_path / "page" / f"{name}.png").size[0] > 500
        assert (tmp_path / "page" / f"{name}.pdf").read_bytes().startswith(b"%PDF")
    latex = (tmp_path / "page" / "differences.tex").read_text()
    assert r"\toprule" in latex and "identical" in latex and latex.startswith("% 297 images")
    rows = list(csv.DictReader((tmp_path / "page" / "differences.csv").open()))
    totals = {row["run"]: row for row in rows if row["term"] == "total"}
    assert float(totals["run (3)"]["bits_per_dim"]) == 0.0
    assert float(totals["run (3)"]["low_95"]) == float(totals["run (3)"]["high_95"]) == 0.0
    assert float(totals["other"]["bits_per_dim"]) != 0.0
    assert float(totals["other"]["p_value"]) == float(totals["other"]["p_holm"])  # one is left
    assert "identical" in done.stdout and "times narrower by pairing" in done.stdout
    assert "bootstrap" in done.stdout and "most of it at gamma" in done.stdout
    compute = list(csv.DictReader((tmp_path / "page" / "equal_compute.csv").open()))
    assert {row["of"] for row in compute} == set(COMPUTE.values())


def test_comparisons_that_cannot_be_made(workdir, compare, tmp_path):
    assert "two or more" in error(compare(workdir, out=tmp_path / "page"), 2)
    assert "is no folder" in error(compare(workdir, tmp_path / "none", out=tmp_path / "page"), 5)
    (tmp_path / "file").write_text("")
    assert "--out=" in error(compare(workdir, workdir, out=tmp_path / "file" / "page"), 2)
    discrete, unfinished = tmp_path / "discrete", tmp_path / "unfinished"
    shutil.copytree(workdir, discrete)
    identity = json.loads((discrete / "config.json").read_text())
    identity["config"]["objective"]["num_timesteps"] = 10
    (discrete / "config.json").write_text(json.dumps(identity))
    assert "--timesteps=0" in error(compare(workdir, discrete, out=tmp_path / "page"), 2)
    shutil.copytree(workdir, unfinished)
    shutil.rmtree(unfinished / "checkpoints")
    assert "no checkpoint" in error(compare(workdir, unfinished, out=tmp_path / "page"), 5)
    identity["data"]["content_hash"] = "0" * 64
    (discrete / "config.json").write_text(json.dumps(identity))
    line = error(compare(workdir, discrete, out=tmp_path / "page"), 3)
    assert "other data (data.content_hash" in line and "--allow_different=data" in line
    line = error(
        compare(workdir, discrete, out=tmp_path / "page", flags=["--allow_different=x"]), 2
    )
    assert "--allow_different=x" in line and "data.num_levels" in line
    flags = ["--group_by=schedule.name"]
    line = error(compare(workdir, workdir, out=tmp_path / "page", flags=flags), 2)
    assert "holds a seed twice" in line
    assert not (tmp_path / "page").exists()


def test_samples(workdir, launch):
    flags = ["--num=5", "--steps=3", "--batch_size=8", "--seed=2"]
    done = launch("sample", workdir, *flags, devices=8)
    assert done.returncode == 0, done.stderr
    stem = workdir / "samples" / "step12-ancestral3-seed2"
    images = np.load(f"{stem}.npz")["images"]
    assert images.shape == (5, 8, 8, 1) and images.min() >= 0 and images.max() <= 16
    assert Image.open(f"{stem}.png").size == (3 * 34 + 2, 2 * 34 + 2)
    assert Image.open(f"{stem}-steps.png").size == (11 * 34 + 2, 10 * 34 + 2)


MISTAKES = {
    "sampler": (["--sampler=euler"], 2, ["sampler='euler'", "ancestral"]),
    "too many": (["--num=1000000000000"], 2, ["--num=1000000000000", "at most"]),
    "none": (["--num=0"], 2, ["--num=0"]),
    "step": (["--step=5"], 5, ["step=5"]),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_samples_that_cannot_be_drawn(workdir, launch, case):
    flags, code, parts = MISTAKES[case]
    line = error(launch("sample", workdir, *flags), code)
    assert all(part in line for part in parts), line


@pytest.fixture(scope="module")
def broken_down(workdir, launch, tmp_path_factory):
    folder = tmp_path_factory.mktemp("broken_down")
    flags = [f"--out={folder / 'breakdown'}", "--repeats=1", "--randomisations=2"]
    done = launch("breakdown", workdir, *flags)
    assert done.returncode == 0, done.stderr
    return folder


def test_the_breakdown_s_page_in_a_browser(broken_down, in_browser):
    in_browser(broken_down / "breakdown" / "index.html")


def test_breakdown(workdir, launch, broken_down):
    tmp_path = broken_down
    record = json.loads((tmp_path / "breakdown" / "record.json").read_text())
    terms = record["bits_per_dim"]
    with np.load(tmp_path / "breakdown" / "maps.npz") as maps:
        assert maps["denoising_matching"].shape == (8, 8, 1)
        for name in ("reconstruction", "prior_matching", "denoising_matching"):
            assert maps[name].mean() == pytest.approx(terms[name]["mean"], rel=1e-5)
    # What `evaluate` gives with the same noise.
    other = json.loads(next((workdir / "evaluations").glob("*1x2-seed0.json")).read_text())
    assert other["bits_per_dim"]["total"]["mean"] == pytest.approx(terms["total"]["mean"], rel=1e-5)
    assert other["hashes"] == record["hashes"]
    assert Image.open(tmp_path / "breakdown" / "hardest.png").size[0] > 500
    line = error(launch("breakdown", workdir, "--split=none"), 3)
    assert "split='none'" in line and not (workdir / "breakdown").exists()
