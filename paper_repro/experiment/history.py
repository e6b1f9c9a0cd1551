"""Where a run has been trained: in one place, or in several that took it on from each other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from paper_repro.train.random_state import taken_on

__all__ = ["places"]


def places(checkpoint: Mapping[str, Any], here: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The environments that a run was trained in so far, this one last.

    Each has ``after_epoch``, how many epochs had been finished where it took over. The same
    environment twice in a row is one place: a stop between changes nothing.

    Args:
        checkpoint: that the run goes on from; empty if it begins. Of an older version's, which
            did not say, the kind of device and the engine are known.
        here: this environment, as the record is to have it.
    """
    before = list(checkpoint.get("places") or [])
    if checkpoint and not before:
        kind = {"device_type": taken_on(checkpoint), "engine": checkpoint.get("engine", "dense")}
        before = [{**kind, "after_epoch": 0}]
    if before and _place(before[-1]) == _place(here):
        return before
    return [*before, {**here, "after_epoch": checkpoint.get("epoch", 0)}]


def _place(environment: Mapping[str, Any]) -> dict[str, Any]:
    # Why an engine was chosen is known where a run begins; later it is the one it began with.
    return {k: v for k, v in environment.items() if k not in ("after_epoch", "engine_reason")}
