"""Measure trained runs: from the weights that a run left to a measure beside its record."""

from __future__ import annotations

import hashlib
import os
import time
from datetime import UTC, datetime
from pathlib import Path

import torch

from paper_repro.config import RunConfig
from paper_repro.errors import UserError
from paper_repro.experiment.measures import Measured, Measures, spec_id
from paper_repro.experiment.provenance import environment
from paper_repro.experiment.records import Record, read
from paper_repro.experiment.runs import Workplace, data_of
from paper_repro.files import Busy, exclusive, load_tensors
from paper_repro.measure import MEASURES
from paper_repro.measure.trained import Parts, Trained
from paper_repro.registry import Spec
from paper_repro.sparse.method import BatchRequest
from paper_repro.train import TASKS
from paper_repro.train.precision import float32_as

__all__ = ["find", "load_trained", "measure"]


def find(fingerprint: str, place: Workplace) -> RunConfig:
    """The run of a fingerprint, by its record.

    Raises:
        UserError: there is no record of it.
    """
    path = next(iter(sorted(place.results.glob(f"*/{_plain(fingerprint)}.json"))), None)
    if path is None:
        raise UserError(f"there is no record of run {fingerprint} under {place.results}")
    return read(path).config


def _plain(fingerprint: str) -> str:
    if not (len(fingerprint) == 16 and set(fingerprint) <= set("0123456789abcdef")):
        raise UserError(f"a run's fingerprint is 16 hex digits, not {fingerprint!r}")
    return fingerprint


def measure(config: RunConfig, spec: Spec, place: Workplace) -> Measured:
    """Measure a trained run and write what was found; what is there is not measured again.

    A measurement that was stopped goes on from its last finished part. Everything is computed in
    full float32, whatever the run was trained in.

    Args:
        config: the run, finished, with its weights in its folder under ``place.runs``.
        spec: a member of :data:`paper_repro.measure.MEASURES` with its options.
        place: where.

    Raises:
        UserError: the run has not finished, its weights are gone or do not fit, or bad options.
        Busy: another process measures the run.
    """
    measures = Measures(place.results)
    there = measures.get(config, spec)
    if there is not None:
        return there
    _finished(config, place)
    weights = place.weights(config)
    if not weights.exists():
        raise UserError(
            f"run {config.fingerprint} cannot be measured: its trained weights are not at {weights}"
        )
    folder = place.folder(config) / "measures"
    try:
        with exclusive(folder):
            there = measures.get(config, spec)  # by another process in the meantime
            return there or _measure(config, spec, place, folder)
    except Busy:
        raise Busy(f"another process is measuring run {config.fingerprint}") from None


def _finished(config: RunConfig, place: Workplace) -> Record:
    record = place.records.get(config)
    if record is None or record.status != "finished":
        what = "has no record" if record is None else record.status
        raise UserError(f"run {config.fingerprint} cannot be measured: it {what} ({config})")
    return record


def _measure(config: RunConfig, spec: Spec, place: Workplace, folder: Path) -> Measured:
    device = torch.device(place.device)
    digest = hashlib.sha256(place.weights(config).read_bytes()).hexdigest()
    name = f"{spec.name}-{spec_id(spec)}"
    parts = Parts(folder / f"{name}.json", of=f"{digest} {name} {device.type}")
    started = time.perf_counter()
    with float32_as("float32", device):
        values = MEASURES.build(spec, trained=load_trained(config, place, parts))
    measured = Measures(place.results).write(
        config,
        spec,
        values,
        {
            "weights": digest,
            "environment": environment(device),
            # Of this process: what one that was stopped had measured before is not in it.
            "seconds": time.perf_counter() - started,
            "finished_at": datetime.now(UTC).isoformat(timespec="seconds"),
        },
    )
    parts.clear()
    return measured


def load_trained(config: RunConfig, place: Workplace, parts: Parts | None = None) -> Trained:
    """A run's trained network, as its measures get it.

    Args:
        config: the run.
        place: where its weights are.
        parts: where those of one measure are kept; by default nowhere.

    Raises:
        UserError: its weights are damaged or of another network, or its data is missing.
    """
    path, device = place.weights(config), torch.device(place.device)
    data = data_of(config, place)
    task = TASKS[data.task](config, data)
    model = task.build_model()
    left = load_tensors(path, place.device)
    try:
        model.load_state_dict(left["weights"])
        masks = {name: mask.bool() for name, mask in left["masks"].items()}
    except Exception as error:  # of another network it may hold or lack anything
        first = (str(error).splitlines() or [""])[0]
        raise UserError(
            f"{path} does not hold this run's network ({type(error).__name__}: {first})"
        ) from error

    def sample(n: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
        generator = torch.Generator(device=device).manual_seed(seed)
        return task.scoring_batch(BatchRequest(n), generator)

    named = os.environ.get("PAPER_REPRO_DATA")
    return Trained(
        model=model.eval(),
        masks=masks,
        data=data,
        sample=sample,
        loss_fn=task.plain_loss_fn,
        images=None if task.normalise is None else task.test_images,
        normalise=task.normalise,
        root=place.data or (Path(named).expanduser() if named else None),
        cache=place.runs / "cache",
        parts=parts or Parts(),
    )
