"""What a network is measured by; beside the rest, the family of measures of a trained network.

A file registers a function that takes ``trained`` (:class:`paper_repro.measure.trained.Trained`)
and options of its own, and returns plain values, ready for JSON:

    @MEASURES.register("sparsity")
    def sparsity(trained: Trained, *, overall: bool = False) -> dict[str, Any]: ...

Its options are all that its values depend on beside the network and its data. Nothing is trained.
"""

from paper_repro.registry import Registry

__all__ = ["MEASURES"]

MEASURES: Registry = Registry("measure", "paper_repro.measure", runtime=frozenset({"trained"}))
