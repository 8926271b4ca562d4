"""Train a model, then evaluate it on the whole test split.

    python -m experiments.train --config=configs/digits.py --workdir=runs/digits

Running it again on the same folder resumes; on a finished run it prints the table again. SIGTERM,
SIGHUP and Ctrl-C save the step and stop (exit code 75).

The loss is the negative ELBO in bits/dim (Kingma et al. 2021, arXiv:2107.00630). The work folder gets
config.json, checkpoints/, metrics.jsonl, goodput.json, tensorboard/, samples/ and evaluations/. The
evaluation draws repeats x randomisations times per image, 96 unless the configuration says otherwise.
"""

from absl import flags
from ml_collections import config_flags

from experiments.cli import evaluation_flags, launcher

_CONFIG = config_flags.DEFINE_config_file(
    "config", None, "Configuration, FILE.py with get_config() or FILE.py:VARIANT. Required."
)
_WORKDIR = flags.DEFINE_string(
    "workdir",
    None,
    "Work folder that the run writes into; one that holds a run resumes it. Default: runs/CONFIG-TIME.",
)
_LIST = flags.DEFINE_bool(
    "list", False, "Print every configuration and variant with its cost and bits/dim, and end."
)
_DRY_RUN = flags.DEFINE_bool(
    "dry_run", False, "Print shapes and sizes, take one step from fresh parameters, write nothing."
)
_VERIFY_DATA = evaluation_flags.verify_data()
_ALLOW_CHANGE = flags.DEFINE_list(
    "allow_change",
    [],
    "Fields, separated by commas, that may differ from the run being resumed, such as "
    "train.num_steps; the change is recorded in config.json. Default: none.",
)


def main():
    from pathlib import Path

    from experiments.sessions import dry_run, training
    from vdm.runs import provenance
    from vdm.runs.completion import complete
    from vdm.runs.folder import default_workdir, read_identity
    from vdm.runs.outputs import check_outputs
    from vdm.runs.parts import build, use_compilation_cache
    from vdm.runtime.processes import check_same, together

    # A configuration file may leave fields out, and misspell one: neither may wait for the data.
    config = complete(_CONFIG.value)
    # Ahead of the work folder, which a dry run neither needs nor makes.
    if _DRY_RUN.value:
        print(provenance.header(config))
        return dry_run.run(config)

    path = flags.FLAGS["config"].config_filename  # type: ignore[attr-defined]
    folder = Path(_WORKDIR.value) if _WORKDIR.value else default_workdir(path)
    # Before minutes of preparing and compiling. `together` stops every process where one fails: the
    # others would wait for it forever.
    together(lambda: check_outputs(folder, config))
    use_compilation_cache()
    # A resumed run keeps the splits it was trained on, whatever a source would give today.
    parts = together(
        lambda: build(config, verify_data=_VERIFY_DATA.value, saved=read_identity(folder))
    )
    # Each process has opened its own copy of the data: another content would train on other images.
    check_same("data", parts.dataset.spec.content_hash)
    print(provenance.header(config))
    return training.run(parts, folder, _ALLOW_CHANGE.value)


if __name__ == "__main__":
    launcher.run(main, doc=__doc__, distributed=True)
