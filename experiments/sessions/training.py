"""One training run in a work folder: start or resume, train, evaluate, report."""

import dataclasses
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from experiments.cli.signals import Stop, stop_request
from experiments.sessions import goodput
from experiments.sessions.periodic import Samples, Validation
from experiments.sessions.session import train_in_folder
from experiments.sessions.shared_folder import check_shared
from vdm.evaluation.bounds.elbo import CompiledTerms
from vdm.evaluation.evaluate import Estimation, make_evaluation_step
from vdm.runs import checkpoints, evaluations
from vdm.runs.config_identity import keep_earlier_defaults
from vdm.runs.folder import check_changeable, check_resumable, data_identity, locked, read_identity
from vdm.runs.outputs import check_outputs
from vdm.runs.parts import Parts
from vdm.runs.provenance import provenance
from vdm.runs.record import (
    describe,
    format_report,
    make_estimation,
    report_path,
    run_evaluation,
    wanted,
    write_report,
)
from vdm.runtime import processes
from vdm.runtime.hashes import tree_hash
from vdm.training.state import TrainState


def run(parts: Parts, folder: Path, allowed: Sequence[str] = ()) -> None:
    """Train in `folder` until num_steps, evaluate the last checkpoint and print its table.

    Args:
      parts: data, model, devices and training step.
      folder: the work folder; one that holds this run resumes it.
      allowed: fields of the configuration that may differ from those of the run being resumed.

    Raises:
      Preempted: a signal asked to stop; run again to resume.
      ConfigError: the folder holds another run, or another process is at work in it.
      VdmError: see `experiments.cli.launcher` for all of them with their exit codes.
    """
    check_changeable(allowed)
    with ExitStack() as stack, stop_request() as stop:
        processes.together(lambda: stack.enter_context(locked(folder)))
        check_shared(folder)
        parts = processes.together(lambda: _as_it_began(parts, folder, allowed))
        # Within the lock: until now another process may have been starting another run here.
        identity = processes.together(lambda: _check_identity(parts, folder, allowed))

        # Once more, now that nobody else is at work in the folder and all names are known.
        estimation = make_estimation(parts.config["evaluate"], parts.model.timesteps_train)
        processes.together(lambda: _check_outputs(parts, folder, estimation))
        num_steps = parts.config["train"]["num_steps"]
        wall_time = stack.enter_context(goodput.account(folder, num_steps))

        # One program serves the validations and, if it takes as many steps, the final evaluation.
        compiled = make_evaluation_step(parts.model, estimation, parts.mesh)
        validation = Validation(parts, estimation, compiled, stop.check)
        samples = Samples(parts, folder, stop.check)

        state = train_in_folder(parts, folder, stop, validation, samples, identity)
        stop.check()  # a signal after the last step leaves the evaluation to the next start
        _final_report(parts, folder, state, estimation, compiled, stop)
        wall_time.finish()


def _as_it_began(parts: Parts, folder: Path, allowed: Sequence[str]) -> Parts:
    """Return `parts` with the defaults that were in force when the folder's run began.

    If a default has changed since, such as the number of repeats, validations before and after the
    resumption would otherwise not be comparable.
    """
    saved = read_identity(folder)
    if saved is None:
        return parts
    config = keep_earlier_defaults(saved["config"], parts.config, allowed)
    return dataclasses.replace(parts, config=config)


def _check_identity(parts: Parts, folder: Path, allowed: Sequence[str]) -> dict[str, Any]:
    """Return the contents of config.json for a new folder or a run that can be resumed.

    Raises:
      ConfigError: the folder holds another run.
      CheckpointError: its checkpoints are missing.
    """
    identity: dict[str, Any] = {
        "config": dict(parts.config),
        "data": data_identity(parts.dataset.spec),
        "provenance": provenance(),
    }
    if saved := read_identity(folder):
        changes = check_resumable(saved, parts.config, identity["data"], allowed, folder)
        identity["changes"] = [*saved.get("changes", ()), *([changes] if changes else [])]
    checkpoints.check_present(folder, saved, parts.config)
    return identity


def _check_outputs(parts: Parts, folder: Path, estimation: Estimation) -> None:
    """Try everything that the run will write, its final evaluation included."""
    split, step = parts.config["evaluate"]["split"], parts.config["train"]["num_steps"]
    path = report_path(folder, split, step, estimation)
    check_outputs(folder, parts.config, [path, path.with_suffix(".npz")])


@goodput.spending("evaluate")
def _final_report(
    parts: Parts,
    folder: Path,
    state: TrainState,
    estimation: Estimation,
    compiled: CompiledTerms,
    stop: Stop,
) -> None:
    """Print the table of the last state, from its stored record if that is current, else evaluated."""
    split, step = parts.config["evaluate"]["split"], int(state.step)
    path = report_path(folder, split, step, estimation)
    hashes = {
        "checkpoint": tree_hash(state.ema_params),
        "data": parts.dataset.spec.content_hash,
    }
    # By its hashes, not its name: a checkpoint of this step may have been trained anew since.
    stored = evaluations.read(path, wanted(parts.config, hashes, step, estimation))
    facts = None if stored is None or stored.fault else stored.facts

    # The first process decides for all: on a network file system they may see different files.
    evaluation = None
    if processes.from_first(facts is None):
        evaluation = run_evaluation(
            parts, state.ema_params, split, estimation, compiled, stop.check
        ).of_bound()
        facts = describe(parts, state.ema_params, evaluation, split, step)

    if facts is not None:  # other processes may not see the file yet
        print(format_report(facts), flush=True)
        # After it is printed: a full disk is not to cost the number.
        if evaluation is not None:
            write_report(path, facts, evaluation)
    print(f"written to {path}")
