"""Text of `evaluate --bound=...`: the cost before it starts, and the table of all bounds."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from vdm.evaluation.bounds import Bound
from vdm.evaluation.bounds.run import BoundEvaluation
from vdm.evaluation.bounds.table import (
    LEAST_RANDOMISATIONS,
    Gap,
    Row,
    format_gaps,
    format_rows,
    table_rows,
)
from vdm.runs.record import steps_name


def format_cost(bound: Bound, randomisations: int, num_images: int) -> str:
    """Return a line of text with a bound's number of network evaluations, in all and per image."""
    each = bound.network_evaluations()  # of one image in one randomisation
    start = f"{bound.label}: {randomisations} randomisation(s) of {num_images} images, "
    if each is None:
        return start + "as many network evaluations as the solver needs"
    return start + f"{each} network evaluations each: {each * randomisations * num_images:,}"


def format_done(evaluation: BoundEvaluation) -> str:
    """Return a line of text per row of a bound that is done, while others are still to be evaluated."""
    lines = []
    for row in table_rows([evaluation]):
        error = row.estimate.standard_error
        shown = "" if error is None else f" ± {error:.4f}"
        name = f"{evaluation.bound.label}: {row.row}"
        lines.append(f"{name}: {row.estimate.mean:.4f}{shown} bits/dim ({row.seconds:.1f} s)")
    return "\n".join(lines)


def format_bounds(
    common: Mapping[str, Any],
    evaluations: Sequence[BoundEvaluation],
    rows: Sequence[Row],
    differences: Sequence[Gap],
) -> str:
    """Return the table as text, and the facts that hold for all of its bounds.

    Args:
      common: what was evaluated and on what, see `vdm.runs.record.identity`.
      evaluations: every bound, for the options of those that are no sum of terms.
      rows: the table in bits/dim, the loosest bound first.
      differences: between neighbours of the table, in bits/dim.
    """
    lines = [
        format_rows(rows),
        *filter(None, [format_gaps(differences)]),
        f"{common['num_images']} images of {common['data']['name']}/{common['split']}, each once in "
        f"every randomisation; checkpoint step {common['checkpoint_step']}, averaged parameters, "
        f"training seed {common['train_seed']}; T_train = {steps_name(common['timesteps_train'])}",
        f"interval over images, which contains the Monte Carlo error; the latter from at least "
        f"{LEAST_RANDOMISATIONS} independent randomisations; {common['dtype']}, matmul precision "
        f"{common['provenance']['matmul_precision']}",
    ]
    # A sum of terms is described by its row; the others have options that a row has no room for.
    lines += [
        f"{evaluation.bound.label}: {_options(evaluation)}"
        for evaluation in evaluations
        if not evaluation.terms
    ]
    notes = common["data"]["notes"]
    return "\n".join([*lines, notes] if notes else lines)


def _options(evaluation: BoundEvaluation) -> str:
    """Return as text a bound's options and the spread of its network evaluations over images."""
    facts = evaluation.bound.facts()
    options = ", ".join(f"{name} {value}" for name, value in facts.items() if name != "bound")
    spent = evaluation.evaluations / evaluation.randomisations
    low, high = math.floor(spent.min()), math.ceil(spent.max())
    return f"{options}; {low} to {high} network evaluations per image and randomisation"
