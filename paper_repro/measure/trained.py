"""A trained network as its measures see it, and how a long measurement is stopped and goes on."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from paper_repro.files import finite, write_json
from paper_repro.progress import bar

__all__ = ["Parts", "Trained"]


class Parts:
    """The parts of a measurement, each kept on disk as soon as it is there.

    A part's value must depend on nothing but its name and the measurement: random numbers come
    from a generator of its own. A measurement that was stopped then ends as one never stopped.

    Args:
        path: of the file; None keeps nothing: every call of :meth:`each` measures anew.
        of: what is measured (weights and options): parts of anything else are thrown away, and so
            is a file that cannot be read, since a part can be measured again.
    """

    def __init__(self, path: Path | None = None, of: str = "") -> None:
        self.path = path
        self.of = of
        self._kept: dict[str, Any] = {}
        if path is not None and path.exists():
            try:
                there = json.loads(path.read_text(encoding="utf-8"))
                if there["of"] == of:
                    self._kept = dict(there["parts"])
            except (OSError, ValueError, TypeError, KeyError):
                pass

    def each(
        self, names: Sequence[str], measure: Callable[[str], Any], *, desc: str
    ) -> dict[str, Any]:
        """``measure(name)`` by name, in order, those that are there already not again.

        Args:
            names: of the parts.
            measure: gives plain values; numbers that are not finite become None.
            desc: of the progress bar.
        """
        # Without a file nothing says what is measured, and another measure's parts have such names.
        kept = {} if self.path is None else self._kept
        with bar(total=len(names), desc=desc, unit="part") as shown:
            for name in names:
                if name not in kept:
                    kept[name] = finite(measure(name))
                    if self.path is not None:
                        write_json(self.path, {"of": self.of, "parts": kept})
                shown.update()
        return {name: kept[name] for name in names}

    def clear(self) -> None:
        """Remove the file, once the whole is written down elsewhere."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)


@dataclass(frozen=True)
class Trained:
    """A trained network and what it may be measured on. A measure leaves all of it as it was.

    Attributes:
        model: at the unperturbed weights w, in evaluation mode, on its device.
        masks: boolean mask by parameter name; a parameter without one is dense.
        data: the run's data set, on the same device.
        sample: ``sample(n, seed)``, inputs and targets of n training samples as they are, without
            augmentation; the same ones for every network trained on the same data.
        loss_fn: ``loss_fn(outputs, targets)``, the mean loss in nats without label smoothing.
        images: ``images(rows)``, test images as uint8 [B, H, W, C] and their labels as int64 [B],
            before ``normalise``; None where the network sees no images.
        normalise: such images, on the model's device, to its input; None likewise.
        root: the folder with the user's data sets, if one is named.
        cache: folder for what is made of the data and may be used again; None keeps nothing.
        parts: for measurements that take long.
    """

    model: nn.Module
    masks: Mapping[str, Tensor]
    data: Any
    sample: Callable[[int, int], tuple[Tensor, Tensor]]
    loss_fn: Callable[..., Tensor]
    images: Callable[[Tensor], tuple[Tensor, Tensor]] | None = None
    normalise: Callable[[Tensor], Tensor] | None = None
    root: Path | None = None
    cache: Path | None = None
    parts: Parts = field(default_factory=Parts)
