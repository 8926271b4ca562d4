"""The additions that the documentation shows fit the repository, and keep its contracts."""

import shutil
import subprocess

import pytest

pytestmark = pytest.mark.slow

ADDITIONS = ("schedule", "network", "bound", "sampler", "data_source", "family")
FILES = (
    "tests/schedules/test_power.py",
    "tests/schedules/test_contract.py",
    "tests/networks/test_convolutional.py",
    "tests/networks/test_contract.py",
    "tests/evaluation/bounds/test_one_path.py",
    "tests/evaluation/bounds/test_contract.py",
    "tests/samplers/test_ddim.py",
    "tests/samplers/test_contract.py",
    "tests/data/sources/test_checkerboards.py",
    "tests/models/test_toy_vae.py",
    "tests/models/test_contract.py",
    "tests/test_configs.py",
)
CHOSEN = (
    "power or toy_vae or checkerboards or ddim or (one_path and (padding or dense_bound))"
    " or (convolutional and (shape or batch_size or pixel or fields_of_the_base))"
)
"""Of the contract suites what is about the additions, and of the dearest a part."""


def _files(repository):
    """Return the paths that git tracks or would add: no runs, caches or builds."""
    words = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    done = subprocess.run(words, cwd=repository, capture_output=True, text=True, timeout=60)
    if done.returncode:
        pytest.skip(f"needs a git clone to copy: {done.stderr.strip()}")
    paths = [path for path in done.stdout.split("\0") if path]
    return [path for path in paths if (repository / path).is_file()]


@pytest.fixture(scope="module")
def copy(repository, tmp_path_factory):
    """A copy of the repository's files with every addition applied, one after another."""
    folder = tmp_path_factory.mktemp("extended") / "copy"
    for path in _files(repository):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(repository / path, folder / path)
    for name in ADDITIONS:
        diff = repository / "docs" / "extending" / f"{name}.diff"
        words = ["git", "apply", "--whitespace=error", str(diff)]
        # Without this git looks for a repository around the copy.
        env = {
            "GIT_CEILING_DIRECTORIES": str(folder.parent),
            "PATH": "/usr/bin:/bin:/usr/local/bin",
        }
        done = subprocess.run(
            words, cwd=folder, env=env, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, f"{name}.diff does not apply: {done.stderr}"
    return folder


def test_every_diff_is_applied(repository):
    found = {path.stem for path in (repository / "docs" / "extending").glob("*.diff")}
    assert found == set(ADDITIONS)


def test_the_additions_pass_their_tests_and_the_contracts(copy, run_python):
    words = ["-m", "pytest", "-n", "0", "-q", "-x", "-p", "no:cacheprovider"]
    words += ["-m", "not nightly", "-k", CHOSEN, *FILES]
    done = run_python(words, devices=1, timeout=550, env={"PYTHONPATH": str(copy)}, cwd=copy)
    assert " passed" in done.stdout
