"""Where a sweep's runs are trained: processes of this machine, or jobs of a cluster."""

from paper_repro.experiment.executors.base import Executor, Outcome
from paper_repro.experiment.executors.limits import Limits
from paper_repro.experiment.executors.local import Local
from paper_repro.experiment.executors.slurm import Slurm

__all__ = ["Executor", "Limits", "Local", "Outcome", "Slurm"]
