"""Stored evaluations as one table: what earlier revisions and every family wrote, and nothing else."""

import json
import os
import shutil

import pytest

from experiments.reports import results
from experiments.reports.tables import Table, to_markdown
from vdm.runs import evaluations


@pytest.fixture
def earlier_run(shared_dir, tmp_path):
    """A copy of a run that an earlier revision wrote, its records dated 2026-01-02."""
    workdir = tmp_path / "digits_cadaad2"
    shutil.copytree(shared_dir / "reference" / "runs" / "digits_cadaad2", workdir)
    for path in [workdir, *workdir.rglob("*")]:
        path.chmod(0o755)
    for path in (workdir / "evaluations").glob("*.json"):
        os.utime(path, (1767355200, 1767355200))
    return workdir


def row_of(found):
    (row,) = found.table.rows
    return dict(zip(found.table.columns, row, strict=True))


def test_an_earlier_run_has_every_fact_beside_its_number(earlier_run):
    found = results.collect([str(earlier_run)])
    row = row_of(found)
    assert row["bits/dim ± s.e."] == "1.7827 ± 0.0212"
    assert row["Monte Carlo"] == pytest.approx(0.0172987, rel=1e-5)
    expected = {
        "run": "digits_cadaad2",
        "family": "vdm",
        "schedule": "learned_linear",
        "config": "9690e7c3",
        "data/split": "digits/test",
        "images": "297",
        "step": 3000,
        "bound": "elbo",
        "T_train": "continuous",
        "T_eval": "continuous",
        "precision": "float32, default",
        "revision": "cadaad2361a3",
        "date": "2026-01-02",
    }
    assert {name: row[name] for name in expected} == expected
    assert len(found.notes) == 1  # nothing but its file vouches for a record of then


def test_a_record_of_another_configuration_is_left_out(earlier_run):
    (path,) = (earlier_run / "evaluations").glob("*.json")
    facts = json.loads(path.read_text())
    facts["hashes"]["data"] = "0" * 64
    path.write_text(json.dumps(facts))
    found = results.collect([str(earlier_run)])
    assert not found.table.rows and path.name in found.notes[0]


def test_bounds_without_terms_have_a_row_per_total(earlier_run):
    (path,) = (earlier_run / "evaluations").glob("*.json")
    facts = json.loads(path.read_text())
    total = facts["bits_per_dim"]["total"]
    facts |= {"bound": "iwae", "bits_per_dim": {"K = 1": total, "K = 16": total}}
    facts |= {"family": "hierarchical_vae", "timesteps_train": None, "missing_images": 20}
    path.with_name("iwae.json").write_text(json.dumps(facts))
    found = results.collect([str(earlier_run)])
    rows = [dict(zip(found.table.columns, row, strict=True)) for row in found.table.rows]
    assert [row["bound"] for row in rows] == ["iwae, K = 1", "iwae, K = 16", "elbo"]
    assert rows[0]["T_train"] == rows[0]["T_eval"] == "none"
    assert rows[0]["images"] == "297 (20 missing)"


LOST = {
    "timesteps_eval": None,
    "bits_per_dim": None,
    "data": {},
    "provenance": "x",
    "bound": None,
    "checkpoint_step": [],
}


@pytest.mark.parametrize("field", LOST)
def test_a_record_that_lost_a_field_is_named_and_left_out(earlier_run, field):
    """A record of an earlier revision, which has no hash that shows the damage."""
    (path,) = (earlier_run / "evaluations").glob("*.json")
    facts = json.loads(path.read_text())
    whole = path.with_name("whole.json")
    whole.write_text(path.read_text())
    for changed in ({**facts, field: LOST[field]}, {n: v for n, v in facts.items() if n != field}):
        path.write_text(json.dumps(changed))
        found = results.collect([str(earlier_run)])
        rows = [row[found.table.columns.index("step")] for row in found.table.rows]
        assert 3000 in rows and any(path.name in note for note in found.notes)


def test_the_table_of_several_bounds_is_no_number_of_its_own(earlier_run):
    (path,) = (earlier_run / "evaluations").glob("*.json")
    facts = json.loads(path.read_text())
    facts["table"] = [facts.pop("bits_per_dim")["total"]]
    evaluations.write(path.with_name("bound-table.json"), facts)
    assert row_of(results.collect([str(earlier_run)]))["bits/dim ± s.e."] == "1.7827 ± 0.0212"


def test_the_launcher_prints_markdown(earlier_run, run_python):
    words = ["-m", "experiments.results", f"--workdirs={earlier_run}"]
    lines = run_python(words, devices=1).stdout.splitlines()
    assert lines[0].startswith("| run |") and "| 1.7827 ± 0.0212 |" in lines[2]
    for path in (earlier_run / "evaluations").glob("*.json"):
        path.unlink()
    done = run_python(words, devices=1, check=False)
    assert done.returncode == 5 and "experiments.evaluate" in done.stderr


def test_a_cell_cannot_end_its_column():
    text = to_markdown(Table(("run", "bits"), [("a|b", 1.5), ("c", None)]))
    assert text.splitlines() == [
        "| run | bits |",
        "| --- | ---: |",
        r"| a\|b | 1.5000 |",
        "| c |  |",
    ]
