"""Where a run has been trained: in one place, or in several that took it on from each other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from paper_repro.errors import UserError
from paper_repro.train.random_state import taken_on

__all__ = ["check_data", "places"]


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
    # Why an engine was chosen is known where a run begins; later it is the one it began with. The
    # data are the same in all places (:func:`check_data`), but older checkpoints do not say which.
    left_out = ("after_epoch", "engine_reason", "data")
    return {k: v for k, v in environment.items() if k not in left_out}


def check_data(checkpoint: Mapping[str, Any], digest: str, folder: str) -> None:
    """Refuse to go on with a run on other data than it began on.

    Args:
        checkpoint: that the run goes on from; empty if it begins.
        digest: of the data at hand.
        folder: of the run, for the message.

    Raises:
        UserError: the checkpoint says that it was trained on others.
    """
    for place in checkpoint.get("places") or []:
        if place.get("data", digest) != digest:
            raise UserError(
                f"the run in {folder} began on other training data ({place['data']}) than are at "
                f"hand ({digest}): give the copy that it began on, or delete the folder to train "
                "it afresh"
            )
