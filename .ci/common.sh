# What .ci/run and .ci/nightly share; sourced by them from the repository's root.
exec </dev/null

export CI=true PIP_NO_INPUT=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONNOUSERSITE=1
unset PYTHONPATH PYTHONHOME VIRTUAL_ENV
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# One cache for both test processes and all their children: most programs compile once.
export JAX_COMPILATION_CACHE_DIR="$work/jax_cache" MPLCONFIGDIR="$work/matplotlib"

# Quick tests that another version of JAX, Flax, Optax or Orbax could fail.
version_tests=(
  tests/networks/test_contract.py
  tests/schedules/test_endpoints.py
  tests/models/test_contract.py
  tests/training
  tests/samplers/test_contract.py
  tests/evaluation/bounds/test_contract.py
  tests/runtime/test_devices.py
  tests/runs/test_run.py
)
# Cases of theirs that hold mathematics alone: one version shows it as well as two.
mathematics="one_gamma_per_pixel_is or serves_a_context or equal_gammas or chunks or its_chain"
# The run of an earlier revision, through two launchers: it must evaluate to the same number and resume.
earlier_run=tests/runs/test_earlier_run.py

say() { printf '\n== %s (%s s)\n' "$*" "$SECONDS"; }

# Prints an interpreter of version $1. It must run: version managers put shims on the PATH
# for versions that are installed but not active, and those fail.
find_python() {
  local candidate candidates=("python$1")
  if command -v pyenv >/dev/null; then
    while read -r name; do
      candidates+=("$(pyenv root)/versions/$name/bin/python")
    done < <(pyenv versions --bare 2>/dev/null | grep -E "^${1/./\\.}\.[0-9]+$" | sort -rV)
  fi
  for candidate in "${candidates[@]}"; do
    if "$candidate" -c "import sys, venv, ensurepip
assert '%d.%d' % sys.version_info[:2] == '$1'" >/dev/null 2>&1; then
      echo "$candidate"
      return
    fi
  done
  return 1
}

# Makes environment $2 with interpreter $1 and installs this clone into it; $3...: words for pip.
install_into() {
  "$1" -m venv "$2"
  "$2/bin/python" -m pip install --quiet "${@:3}" -e '.[test]'
  "$2/bin/python" -m pip list 2>/dev/null | grep -iE '^(jax|jaxlib|flax|optax|orbax-checkpoint) '
}

# Runs what depends on versions with interpreter $1. Compiled as in use: the other tests compile at
# LLVM's lowest level, which takes less time.
test_versions() {
  XLA_FLAGS=--xla_backend_optimization_level=3 "$1" -m pytest -k "not ($mathematics)" "${version_tests[@]}"
  if [ -d ../shared ]; then
    XLA_FLAGS=--xla_backend_optimization_level=3 "$1" -m pytest -m slow "$earlier_run"
  fi
}
