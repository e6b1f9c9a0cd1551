"""Records: one small JSON file for each finished run, the evidence behind every number."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paper_repro.config import RunConfig
from paper_repro.errors import UserError
from paper_repro.experiment.schema import check_body, check_numbers
from paper_repro.files import finite, write_json

__all__ = ["STATUSES", "Record", "Records", "parse", "read"]

#: ``diverged`` is a result and stays; ``failed`` is a fault (no memory, ...) and is tried again.
STATUSES = ("finished", "diverged", "failed")


@dataclass(frozen=True)
class Record:
    """What is known of one run.

    Attributes:
        config: the run.
        status: one of ``STATUSES``.
        body: everything measured, as in the file.
    """

    config: RunConfig
    status: str
    body: dict[str, Any]

    def accuracy(self, which: str = "last") -> float | None:
        """Test accuracy (%) after the ``last`` epoch or of the ``best`` one; None if unfinished.

        Of a task with another score, that (see :attr:`score`).
        """
        return self.body["accuracy"][which] if self.status == "finished" else None

    @property
    def score(self) -> str:
        """The curve's metric that :meth:`accuracy` gives."""
        return str(self.body.get("score", "test_accuracy"))

    @property
    def missed(self) -> float:
        """By how much the sparsity reached misses what was asked; 0 within a layer's rounding.

        In records that do not say so it is not known, and 0.
        """
        return float(self.body.get("sparsity", {}).get("missed") or 0.0)


class Records:
    """The records under one folder: ``<folder>/<profile>/<fingerprint>.json``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, config: RunConfig) -> Path:
        """Where the record of a run lies, or will."""
        return self.folder / config.profile / f"{config.fingerprint}.json"

    def get(self, config: RunConfig) -> Record | None:
        """The record of a run, if there is one.

        Raises:
            UserError: the file is no record of that run.
        """
        path = self.path(config)
        return read(path) if path.exists() else None

    def done(self, config: RunConfig) -> bool:
        """Whether the run need not be trained (again)."""
        record = self.get(config)
        return record is not None and record.status != "failed"

    def write(self, config: RunConfig, status: str, body: dict[str, Any]) -> Record:
        """Write the record of a run, whole or not at all; numbers that are not finite as null."""
        record = Record(config, status, finite(body))
        write_json(
            self.path(config),
            {
                "fingerprint": config.fingerprint,
                "status": status,
                "config": config.to_dict(),
                **record.body,
            },
        )
        return record

    def __iter__(self) -> Iterator[Record]:
        for path in self.paths():
            yield read(path)

    def paths(self) -> list[Path]:
        """The files of all records, sorted."""
        return sorted(self.folder.glob("*/*.json"))

    def sound(self) -> tuple[list[Record], list[str]]:
        """The records that can be read, and a sentence for each file that cannot."""
        found: list[Record] = []
        bad: list[str] = []
        for one in self.examined():
            if isinstance(one, Record):
                found.append(one)
            else:
                bad.append(one)
        return found, bad

    def examined(self) -> Iterator[Record | str]:
        """Each record, or the sentence why its file is none; one in memory at a time."""
        for path in self.paths():
            try:
                yield read(path)
            except UserError as error:
                yield str(error)


def read(path: Path) -> Record:
    """The record in a file.

    Raises:
        UserError: it is damaged, not the record that its name says, or says what cannot be.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    return parse(path, content)


def parse(path: Path, content: bytes) -> Record:
    """The record of a file's content, validated: nothing else does, so nobody else need.

    Raises:
        UserError: as :func:`read`.
    """
    try:
        body = json.loads(content)
        if not isinstance(body, dict):
            raise ValueError("it is no dictionary")
        check_numbers(body, content)
        config = RunConfig.from_dict(body.pop("config"))
        fingerprint, status = body.pop("fingerprint"), body.pop("status")
        if status not in STATUSES:
            raise ValueError(f"its status is {status!r:.60}")
        if not fingerprint == config.fingerprint == path.stem:
            raise ValueError(
                f"it is of run {fingerprint!s:.60}, and its config of run {config.fingerprint}"
            )
        check_body(status, body, config.epochs)
    except KeyError as error:
        raise UserError(f"{path} is not a run's record: it lacks {error}") from error
    except RecursionError as error:
        raise UserError(f"{path} is not a run's record: it is nested too deeply") from error
    except (ValueError, AttributeError, TypeError, OverflowError) as error:
        raise UserError(f"{path} is not a run's record: {error}") from error
    return Record(config, status, body)
