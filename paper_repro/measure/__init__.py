"""What a network is measured by; beside the rest, the family of measures of a trained network.

A file registers a function that takes ``trained`` (:class:`paper_repro.measure.trained.Trained`)
and options of its own, and returns plain values, ready for JSON:

    @MEASURES.register("sparsity")
    def sparsity(trained: Trained, *, overall: bool = False) -> dict[str, Any]: ...

Its options are all that its values depend on beside the network and its data. Nothing is trained.
An option ``seed`` is a run's, from 0 to below 2^32; any other is refused here, for all of them.
"""

import functools
from collections.abc import Callable
from typing import Any

from paper_repro.errors import UserError
from paper_repro.registry import Registry

__all__ = ["MEASURES"]


class _Measures(Registry[Callable[..., dict[str, Any]]]):
    """Checks the seed of every measure, whoever calls it: generators take no other numbers."""

    def register(self, name: str) -> Callable[[Any], Any]:
        add = super().register(name)

        def seeded(measure: Callable[..., dict[str, Any]]) -> Any:
            @functools.wraps(measure)
            def checked(*args: Any, **options: Any) -> dict[str, Any]:
                seed = options.get("seed", 0)
                if not 0 <= seed < 2**32:
                    raise UserError(
                        f"the seed of {name} must be at least 0 and below 2^32, not {seed}"
                    )
                return measure(*args, **options)

            return add(checked)

        return seeded


MEASURES: Registry = _Measures("measure", "paper_repro.measure", runtime=frozenset({"trained"}))
