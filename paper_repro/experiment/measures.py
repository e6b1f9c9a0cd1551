"""Measures of trained runs on disk: one small JSON file for each, beside the run's record."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paper_repro.config import RunConfig
from paper_repro.errors import UserError
from paper_repro.files import finite, write_json
from paper_repro.measure import MEASURES
from paper_repro.registry import Spec

__all__ = ["Measured", "Measures", "parse", "read", "spec_id"]


def spec_id(spec: Spec) -> str:
    """8 hex digits for a measure with all of its options: the start of their SHA-256.

    An option that came later (``OPTION_BEFORE``) is left out where it asks for what was measured
    before, so that files made before it stay valid.
    """
    before = MEASURES.before(spec.name)
    plain = {k: v for k, v in spec.to_dict().items() if k not in before or v != before[k]}
    canonical = json.dumps(plain, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:8]


@dataclass(frozen=True)
class Measured:
    """What one measure found on one trained run.

    Attributes:
        fingerprint: of the run.
        spec: the measure with all of its options.
        values: what it found, plain values.
        body: the rest of the file: environment, SHA-256 of the weights, seconds, time.
    """

    fingerprint: str
    spec: Spec
    values: dict[str, Any]
    body: dict[str, Any]

    def number(self, *keys: str) -> float | None:
        """One of the values, by the keys that lead to it; None if it was not finite.

        Raises:
            UserError: there is no number there.
        """
        found: Any = self.values
        for key in keys:
            found = found.get(key, ...) if isinstance(found, Mapping) else ...
        if found is None:
            return None
        if isinstance(found, bool) or not isinstance(found, int | float):
            raise UserError(
                f"the measure {self.spec.name} of run {self.fingerprint} has no number "
                f"{'/'.join(keys)}"
            )
        return float(found)


class Measures:
    """The measures under one folder: ``<folder>/<profile>/measures/<run>.<measure>-<id>.json``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, config: RunConfig, spec: Spec) -> Path:
        """Where a measure of a run lies, or will."""
        name = f"{config.fingerprint}.{spec.name}-{spec_id(spec)}.json"
        return self.folder / config.profile / "measures" / name

    def get(self, config: RunConfig, spec: Spec) -> Measured | None:
        """A measure of a run, if there is one.

        Raises:
            UserError: the file is no such measure.
        """
        path = self.path(config, spec)
        return read(path) if path.exists() else None

    def write(
        self, config: RunConfig, spec: Spec, values: Mapping[str, Any], body: Mapping[str, Any]
    ) -> Measured:
        """Write a measure, whole or not at all; numbers that are not finite as null."""
        measured = Measured(config.fingerprint, spec, finite(dict(values)), finite(dict(body)))
        write_json(
            self.path(config, spec),
            {
                "fingerprint": config.fingerprint,
                "measure": spec.to_dict(),
                **measured.body,
                "values": measured.values,
            },
        )
        return measured

    def paths(self) -> list[Path]:
        """The files of all measures, sorted."""
        return sorted(self.folder.glob("*/measures/*.json"))


def read(path: Path) -> Measured:
    """The measure in a file.

    Raises:
        UserError: it is damaged, or not the measure that its name says.
    """
    return parse(path, path.read_bytes())


def parse(path: Path, content: bytes) -> Measured:
    """The measure of a file's content, validated.

    Raises:
        UserError: as :func:`read`.
    """
    try:
        body = json.loads(content)
        fingerprint, plain, values = (body.pop(k) for k in ("fingerprint", "measure", "values"))
        name = plain["name"]
        spec = MEASURES.spec(
            name, **{**MEASURES.before(name), **{k: v for k, v in plain.items() if k != "name"}}
        )
        lacking = sorted(set(dict(spec.options)) - set(plain) - set(MEASURES.before(name)))
        if lacking:
            raise KeyError(lacking[0])
        if path.name != f"{fingerprint}.{name}-{spec_id(spec)}.json":
            raise ValueError(f"it is the measure {name}-{spec_id(spec)} of run {fingerprint}")
        if not isinstance(values, dict):
            raise ValueError(f"its values are {type(values).__name__}")
        body["environment"]["commit"], body["environment"]["dirty"], body["weights"]
    except KeyError as error:
        raise UserError(f"{path} is not a measure of a run: it lacks {error}") from error
    except (ValueError, AttributeError, TypeError) as error:
        raise UserError(f"{path} is not a measure of a run: {error}") from error
    return Measured(fingerprint, spec, values, body)
