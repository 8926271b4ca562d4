"""Records of evaluations: bits/dim of one checkpoint with the facts that belong beside them."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from vdm.data.batches import eval_batches
from vdm.evaluation.bounds.run import BoundEvaluation
from vdm.evaluation.bounds.table import Row, table_rows
from vdm.evaluation.evaluate import (
    Estimate,
    Estimation,
    Evaluation,
    evaluate,
    format_table,
)
from vdm.runs import evaluations
from vdm.runs.config_identity import config_hash, earlier_config_hash
from vdm.runs.containment import check_name
from vdm.runs.folder import data_identity
from vdm.runs.parts import Parts
from vdm.runs.progress import Progress, evaluation_progress
from vdm.runs.provenance import provenance
from vdm.runtime.hashes import tree_hash
from vdm.types import Params


def make_estimation(options: Mapping[str, Any], trained_timesteps: int | None) -> Estimation:
    """Return the estimation that section "evaluate" of a configuration describes.

    Args:
      options: the section.
      trained_timesteps: T of training; None for a model that has none.
    """
    timesteps = options["num_timesteps"]
    return Estimation(
        num_timesteps=(trained_timesteps or 0) if timesteps is None else timesteps,
        **{name: options[name] for name in ("repeats", "randomisations", "seed")},
    )


def run_evaluation(
    parts: Parts,
    params: Params,
    split: str,
    estimation: Estimation,
    step: Callable,
    check: Callable,
    title: str = "",
) -> Evaluation:
    """Evaluate the bound on every image of a split, with progress on the terminal.

    Args:
      parts: data, model and devices.
      params: the parameters to evaluate.
      split: train, validation or test.
      estimation: T, times per image, randomisations and seed.
      step: the compiled step of `make_evaluation_step`.
      check: called after every batch; it may raise to stop.
      title: words for the progress bar; "" = the split.
    """
    batches = eval_batches(parts.dataset, split, parts.config["evaluate"]["batch_size"])
    with Progress(
        f"evaluating {title or split}", len(batches) * estimation.randomisations, "batches"
    ) as bar:
        report = evaluation_progress(bar, check)
        return evaluate(parts.model, params, batches, estimation, parts.mesh, report, step)


def describe(
    parts: Parts, params: Params, evaluation: BoundEvaluation, split: str, step: int
) -> dict[str, Any]:
    """Return bits/dim of any bound and everything that must stand beside them, as JSON.

    Args:
      parts: data, model and devices that were evaluated.
      params: the parameters, for their hash.
      evaluation: the evaluation, per image in nats.
      split: the images that were evaluated.
      step: the step of the checkpoint.

    Returns:
      The record. "bits_per_dim" holds the estimate of every term and their "total", or of every
      row where a bound is no sum of terms; "rows" holds what the table of several bounds shows.
    """
    rows = {"total": next(iter(evaluation.rows.values()))} if evaluation.terms else evaluation.rows
    return {
        "bits_per_dim": {
            n: vars(evaluation.estimate(v)) for n, v in {**evaluation.terms, **rows}.items()
        },
        "rows": [row_facts(row) for row in table_rows([evaluation])],
        **evaluation.bound.facts(),
        **identity(parts, params, split, step),
        "timesteps_eval": evaluation.bound.num_timesteps,
        "randomisations": evaluation.randomisations,
        "evaluation_seed": evaluation.seed,
        "network_evaluations": float(evaluation.evaluations.mean()),
        "seconds": evaluation.seconds,
    }


def row_facts(row: Row) -> dict[str, Any]:
    """Return a row of the table, as JSON."""
    return {**vars(row), "estimate": vars(row.estimate)}


def settings(estimation: Estimation) -> dict[str, int]:
    """Return the part of a record that says how the bound was estimated."""
    return {
        "timesteps_eval": estimation.num_timesteps,
        "repeats": estimation.repeats,
        "randomisations": estimation.randomisations,
        "evaluation_seed": estimation.seed,
    }


def wanted(
    config: Mapping[str, Any], hashes: Mapping[str, str], step: int, estimation: Estimation
) -> dict[str, Any]:
    """Return the identity by which `evaluations.read` tells whether a stored record may be shown.

    Args:
      config: the run's configuration now.
      hashes: {"checkpoint", "data"} now.
      step: the step of the checkpoint.
      estimation: how the bound is to be estimated.
    """
    return {
        "split": config["evaluate"]["split"],
        "checkpoint_step": step,
        **settings(estimation),
        "hashes": {**hashes, "config": config_hash(config)},
        "earlier_config_hash": earlier_config_hash(config),
    }


def identity(parts: Parts, params: Params, split: str, step: int) -> dict[str, Any]:
    """Return the facts that are the same for every number of a checkpoint on a split.

    Args:
      parts: data, model and devices.
      params: the parameters, for their hash.
      split: the images that were evaluated.
      step: the step of the checkpoint.
    """
    config, spec = parts.config, parts.dataset.spec
    return {
        "split": split,
        "num_images": spec.split_sizes[split],
        "missing_images": spec.missing.get(split, 0),
        "checkpoint_step": step,
        "parameters": "ema",
        "train_seed": config["seed"],
        **parts.model.facts(),
        "data": data_identity(spec) | {"notes": spec.notes},
        "hashes": {
            "data": spec.content_hash,
            "checkpoint": tree_hash(params),
            "config": config_hash(config),
        },
        "provenance": provenance(),
    }


def format_report(facts: Mapping[str, Any]) -> str:
    """Return the text that `train` and `evaluate` print: the table of terms, and its facts.

    Args:
      facts: a record from `describe`, fresh or read from evaluations/*.json.
    """
    rows = {name: Estimate(**row) for name, row in facts["bits_per_dim"].items()}
    precision = facts["provenance"]["matmul_precision"]
    trained = facts["timesteps_train"]
    evaluated = None if trained is None else facts["timesteps_eval"]
    lines = [
        format_table(rows),
        f"{facts['num_images']} images of {facts['data']['name']}/{facts['split']}; "
        f"checkpoint step {facts['checkpoint_step']}, averaged parameters, "
        f"training seed {facts['train_seed']}",
        f"T_train = {steps_name(trained)}, T_eval = {steps_name(evaluated)}; "
        f"{facts.get('repeats', 'all')} time(s) per image in each of {facts['randomisations']} "
        f"randomisation(s), seed {facts['evaluation_seed']}; "
        f"{facts['dtype']}, matmul precision {precision}",
    ]
    if facts["data"]["notes"]:
        lines.append(facts["data"]["notes"])
    return "\n".join(lines)


def report_path(workdir: Path, split: str, step: int, estimation: Estimation) -> Path:
    """Return the path of the JSON of an evaluation of bound "elbo".

    Args:
      workdir: the work folder.
      split: name of the evaluated split.
      step: training step of the evaluated parameters.
      estimation: T, repeats, randomisations and seed, which the file's name holds.
    """
    name = estimation.bound.record_name(estimation.randomisations, estimation.seed)
    return record_path(workdir, split, step, name)


def record_path(workdir: Path, split: str, step: int, name: str) -> Path:
    """Return the path of an evaluation's record, evaluations/SPLIT-stepSTEP-NAME.json.

    Args:
      workdir: the work folder.
      split: name of the evaluated split.
      step: training step of the evaluated parameters.
      name: bound, options and estimation, from `Bound.record_name`.
    """
    file_name = f"{split}-step{step}-{name}.json"
    check_name(file_name)
    return workdir / "evaluations" / file_name


def write_report(path: Path, facts: Mapping[str, Any], evaluation: BoundEvaluation) -> None:
    """Write the JSON, and beside it an .npz of nats per image: index [N], terms and rows [R,N]."""
    arrays = {
        "index": evaluation.index,
        "network_evaluations": evaluation.evaluations,
        **evaluation.terms,
    }
    rows = {f"total: {name}": values for name, values in evaluation.rows.items()}
    evaluations.write(path, facts, {**arrays, **rows})


def steps_name(num_timesteps: int | None) -> str:
    """Return T as it is printed; None stands for a model that has none."""
    if num_timesteps is None:
        return "none"
    return str(num_timesteps) if num_timesteps else "continuous"
