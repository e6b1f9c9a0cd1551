"""Sharpness-aware optimizers, each a wrapper of a base optimizer, one a file.

>>> optimizer = S2SAM(torch.optim.SGD(model.parameters(), lr=0.1), rho=0.05)
"""

from paper_repro.registry import Registry

# Before the imports below: each of those files registers what it defines.
OPTIMIZERS: Registry = Registry(
    "optimizer", "paper_repro.optim", runtime=frozenset({"base", "model", "seed", "total_steps"})
)

from paper_repro.optim.asyncsam import AsyncSAM  # noqa: E402
from paper_repro.optim.base import Perturbing, evaluating, exact, unwrapped  # noqa: E402
from paper_repro.optim.batchnorm import still_batch_norm  # noqa: E402
from paper_repro.optim.closure import Closure  # noqa: E402
from paper_repro.optim.esam import ESAM  # noqa: E402
from paper_repro.optim.fsam import FSAM  # noqa: E402
from paper_repro.optim.latephase import LatePhase  # noqa: E402
from paper_repro.optim.looksam import LookSAM  # noqa: E402
from paper_repro.optim.msam import MSAM  # noqa: E402
from paper_repro.optim.randomsam import RandomSAM  # noqa: E402
from paper_repro.optim.released import Released  # noqa: E402
from paper_repro.optim.s2sam import S2SAM  # noqa: E402
from paper_repro.optim.saf import SAF  # noqa: E402
from paper_repro.optim.sam import SAM  # noqa: E402
from paper_repro.optim.ssam import SSAM  # noqa: E402
from paper_repro.optim.zosam import ZOSAM  # noqa: E402

__all__ = [
    "ESAM",
    "FSAM",
    "MSAM",
    "OPTIMIZERS",
    "S2SAM",
    "SAF",
    "SAM",
    "SSAM",
    "ZOSAM",
    "AsyncSAM",
    "Closure",
    "LatePhase",
    "LookSAM",
    "Perturbing",
    "RandomSAM",
    "Released",
    "evaluating",
    "exact",
    "still_batch_norm",
    "unwrapped",
]
