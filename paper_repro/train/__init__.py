"""The one training loop, and one task a file: what a batch is, its loss, and how it is scored.

trainer = Trainer(config, data)
while not trainer.finished:
    trainer.run_epoch()
"""

from paper_repro.registry import Registry

# Before the imports below: each file with a task registers what it defines.
TASKS: Registry = Registry("task", "paper_repro.train", runtime=frozenset({"config", "data"}))

from paper_repro.train.task import Task  # noqa: E402
from paper_repro.train.trainer import Diverged, Trainer  # noqa: E402

__all__ = ["TASKS", "Diverged", "Task", "Trainer"]
