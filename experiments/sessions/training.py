"""One training run in a work folder: start or resume, train, evaluate, report."""

import dataclasses
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from experiments.cli.signals import JointStopRequest, StopRequest, stop_request
from experiments.sessions.sampling import NUM_FRAMES, draw_samples, make_sample_step, write_pictures
from experiments.sessions.throughput import Speed
from vdm.data.prefetch import Prefetcher
from vdm.errors import Preempted
from vdm.evaluation.evaluate import Estimation, make_evaluation_step, summarise
from vdm.runs import checkpoints, evaluations
from vdm.runs.folder import (
    check_changeable,
    check_resumable,
    data_identity,
    locked,
    read_identity,
    write_json,
)
from vdm.runs.parts import Parts
from vdm.runs.progress import Progress
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
from vdm.samplers import make_sampler
from vdm.training.checkpoint import Checkpoints
from vdm.training.loop import Hooks, is_due, train
from vdm.training.state import TrainState
from vdm.training.writers import Writer, make_writer

VALIDATION = "validation_bits_per_dim"
Stop = StopRequest | JointStopRequest


def run(parts: Parts, folder: Path, allowed: Sequence[str] = ()) -> None:
    """Trains in `folder` until num_steps, evaluates the last checkpoint and prints its table.

    Raises:
      VdmError: see `experiments.cli.launcher`; Preempted when a signal asked to stop.
    """
    check_changeable(allowed)
    with ExitStack() as stack, stop_request() as stop:
        processes.together(lambda: stack.enter_context(locked(folder)))
        # Within the lock: until now another process may have been starting another run here.
        identity = processes.together(lambda: _check_identity(parts, folder, allowed))
        trained = parts.config["objective"]["num_timesteps"]
        estimation = make_estimation(parts.config["evaluate"], trained)
        # One program serves the validations and, if it takes as many steps, the final evaluation.
        evaluation_step = make_evaluation_step(parts.model, estimation, parts.mesh)
        session = _Session(parts, folder, stop, estimation, evaluation_step)
        state = session.train(identity)
        stop.check()
        _final_report(parts, folder, state, estimation, evaluation_step, stop)


def _check_identity(parts: Parts, folder: Path, allowed: Sequence[str]) -> dict[str, Any]:
    """What goes into config.json, if the folder can be resumed or is new."""
    identity = _identity(parts)
    if saved := read_identity(folder):
        changes = check_resumable(saved, parts.config, identity["data"], allowed)
        identity["changes"] = [*saved.get("changes", ()), *([changes] if changes else [])]
    checkpoints.check_present(folder, saved, parts.config)
    return identity


def _identity(parts: Parts) -> dict[str, Any]:
    data = data_identity(parts.dataset.spec)
    return {"config": dict(parts.config), "data": data, "provenance": provenance()}


class _Session:
    """The part of a run between two starts of the program."""

    def __init__(self, parts: Parts, folder: Path, stop: Stop, estimation, evaluation_step):
        self._parts, self._folder, self._stop = parts, folder, stop
        self._estimation, self._evaluation_step = estimation, evaluation_step
        self._options = parts.config["train"]
        sampler, num_steps = make_sampler("ancestral"), self._options["num_sample_steps"]
        self._sample_step = make_sample_step(parts, sampler, num_steps, NUM_FRAMES)
        self._speed = Speed(self._options["batch_size"] * parts.steps_per_call)
        self._evaluated = self._sampled = 0  # the last step at which it was done
        self._validation: float | None = None
        self._loss = self._rate = ""  # as last logged
        self._seconds_before = 0.0
        self._started = time.monotonic()
        self._checkpoints: Checkpoints
        self._identity: dict[str, Any]
        self._write: Writer
        self._bar: Progress
        self._prefetched: Prefetcher

    def train(self, identity: dict[str, Any]) -> TrainState:
        """The state after num_steps, or where a signal asked to stop."""
        options = {name: self._options[name] for name in ("keep_latest", "keep_best")}
        self._checkpoints = checkpoints.open_checkpoints(self._folder, **options)
        state, window = self._start(identity)
        # Only now: a run that cannot be restored keeps the configuration it has.
        self._identity = identity
        self._write_identity()
        step, num_steps = int(state.step), self._options["num_steps"]
        self._write = _make_writer(self._options["writers"], self._folder, step)
        with Progress("training", num_steps, "steps", done=step) as self._bar:
            self._catch_up(state)
            per_call = self._parts.steps_per_call
            make_batch = self._parts.train_batch
            with Prefetcher(make_batch, step, num_steps, stride=per_call) as prefetched:
                self._prefetched = prefetched
                train_step, hooks = self._parts.train_step(), self._hooks()
                state = train(state, train_step, self._batch, num_steps, hooks, window, per_call)
        saved = self._checkpoints.latest_step()
        self._checkpoints.close()
        if int(state.step) < num_steps:
            what = "nothing to save yet" if saved is None else f"saved step {saved}"
            raise Preempted(f"stopped by {self._stop.signal}; {what}; run again to resume")
        return state

    def _start(self, identity: dict[str, Any]) -> tuple[TrainState, list]:
        if self._checkpoints.latest_step() is None:
            return self._parts.fresh_state(), []
        state, record = checkpoints.restore_state(self._checkpoints, self._parts)
        # config.json may have been lost or edited; what the checkpoint says was trained.
        allowed = [field for changes in identity.get("changes", ()) for field in changes]
        check_resumable(record, self._parts.config, identity["data"], allowed)
        self._seconds_before = record["seconds"]
        step = int(state.step)
        self._evaluated, self._sampled = (
            step if record.get(name, True) else 0 for name in ("evaluated", "sampled")
        )
        self._validation = self._checkpoints.metric(step)
        print(f"resuming {self._folder} at step {step}", flush=True)
        return state, list(record["window"])

    def _catch_up(self, state: TrainState) -> None:
        """What a signal cut short, so that a resumed run logs and keeps what any other would."""
        step, num_steps = int(state.step), self._options["num_steps"]
        due = [
            name
            for name, done in (("evaluate", self._evaluated), ("sample", self._sampled))
            if step != done and is_due(self._options[f"{name}_every_steps"], step, num_steps)
        ]
        for name in due:
            if not self._stop():
                {"evaluate": self._evaluate, "sample": self._sample}[name](state)
        if due:
            self._checkpoints.amend(step, self._done(step), self._metrics(step))

    def _hooks(self) -> Hooks:
        every = {n: self._options[n] for n in self._options if n.endswith("_every_steps")}
        return Hooks(
            log=self._log,
            evaluate=self._evaluate,
            sample=self._sample,
            save=self._save,
            stop=self._stop,
            **every,
        )

    def _batch(self, step: int):
        self._speed.start_step()
        self._bar.update(step)
        return self._prefetched(step)

    def _log(self, step: int, metrics: dict[str, float]) -> None:
        speed = self._speed.take()
        facts = {"images_seen": float(step * self._options["batch_size"])}
        if speed is not None:  # not known of the step that compiles
            facts["images_per_second"] = speed
        self._write(step, {**metrics, **facts, "seconds": self._seconds()})
        self._loss = f"loss {metrics['bits_per_dim']:.4f} bits/dim"
        self._rate = "" if speed is None else f"{speed:.0f} images/s"
        every = self._options["evaluate_every_steps"]
        if not is_due(every, step, self._options["num_steps"]):
            self._show(step)  # else after the evaluation, with its value

    def _show(self, step: int) -> None:
        validation = "" if self._validation is None else f"validation {self._validation:.4f}"
        parts = (self._loss, validation, self._rate)
        self._bar.update(step, "  ".join(part for part in parts if part), show=True)

    def _evaluate(self, state: TrainState) -> None:
        """The validation split, one randomisation; abandoned when a signal comes."""
        self._speed.stop()
        estimation = dataclasses.replace(self._estimation, repeats=1, randomisations=1)
        try:
            evaluation = run_evaluation(
                self._parts,
                state.ema_params,
                "validation",
                estimation,
                self._evaluation_step,
                self._stop.check,
            )
        except Preempted:
            return
        step, mean = int(state.step), summarise(evaluation)["total"].mean
        self._evaluated, self._validation = step, mean
        self._write(step, {VALIDATION: mean})
        self._show(step)

    def _sample(self, state: TrainState) -> None:
        """A grid of samples; abandoned when a signal comes."""
        self._speed.stop()
        num, step = self._options["num_samples"], int(state.step)
        if num == 0:
            self._sampled = step
            return
        size = -(-num // self._parts.mesh.devices.size) * self._parts.mesh.devices.size
        seed, stop = self._parts.config["seed"], self._stop
        try:
            found = draw_samples(self._sample_step, state.ema_params, seed, num, size, stop.check)
        except Preempted:
            return
        levels = self._parts.model.num_levels
        write_pictures(self._folder / "samples", f"train-step{step}", found, levels)
        self._sampled = step

    def _save(self, state: TrainState, window: list) -> None:
        self._speed.stop()
        step = int(state.step)
        record = {
            **{n: v for n, v in _identity(self._parts).items() if n != "provenance"},
            **self._done(step),
            "window": window,
            "seconds": self._seconds(),
        }
        checkpoints.save_state(self._checkpoints, state, record, self._metrics(step))
        if not self._identity.get(checkpoints.HAS_CHECKPOINTS):
            self._write_identity()

    def _write_identity(self) -> None:
        """config.json; from the first checkpoint on it tells that there must be some."""
        if self._checkpoints.latest_step() is not None:
            self._identity[checkpoints.HAS_CHECKPOINTS] = True
        write_json(self._folder / "config.json", self._identity)

    def _done(self, step: int) -> dict[str, bool]:
        return {"evaluated": self._evaluated == step, "sampled": self._sampled == step}

    def _metrics(self, step: int) -> dict[str, float]:
        if self._evaluated != step or self._validation is None:
            return {}
        return {VALIDATION: self._validation}

    def _seconds(self) -> float:
        return self._seconds_before + time.monotonic() - self._started


def _make_writer(names: Sequence[str], folder: Path, step: int) -> Writer:
    if not processes.is_first():
        return lambda step, values: None
    return make_writer(names, folder, resumed_at=step)


def _final_report(
    parts: Parts, folder: Path, state: TrainState, estimation: Estimation, evaluation_step, stop
) -> None:
    split, step = parts.config["evaluate"]["split"], int(state.step)
    path = report_path(folder, split, step, estimation)
    hashes = {
        "checkpoint": tree_hash(state.ema_params),
        "data": parts.dataset.spec.content_hash,
    }
    found = evaluations.read(path, wanted(parts.config, hashes, step, estimation))
    facts = None if found is None or found.fault else found.facts
    if processes.from_first(facts is None):
        evaluation = run_evaluation(
            parts, state.ema_params, split, estimation, evaluation_step, stop.check
        )
        facts = describe(parts, state.ema_params, evaluation, split, step)
        write_report(path, facts, evaluation)
    if facts is not None:  # other processes may not see the file yet
        print(format_report(facts))
    print(f"written to {path}")
