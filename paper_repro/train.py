"""The one training loop. No method and no optimizer has a loop of its own."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from paper_repro import models
from paper_repro.config import RunConfig
from paper_repro.data import Augmenter, Dataset, Plan
from paper_repro.errors import UserError
from paper_repro.graph import CAPTURABLE, GraphedStep
from paper_repro.measure.accuracy import evaluate
from paper_repro.measure.diagnostics import churn, diagnose
from paper_repro.measure.flops import layer_macs, training_flops
from paper_repro.optim import OPTIMIZERS, Closure, LatePhase, Perturbing
from paper_repro.schedule import cosine
from paper_repro.sparse import METHODS, SparseMethod
from paper_repro.sparse.method import BatchRequest

__all__ = ["Diverged", "Trainer"]


#: A mean training loss, in nats, that no training comes back from; chance is at log(classes).
HOPELESS = 1e4


class Diverged(Exception):
    """A loss is not finite or beyond hope: a result of the run, not a fault of the program."""


class Trainer:
    """A run in progress: everything that one training run owns, advanced epoch by epoch.

    All randomness comes from generators that are seeded from the config and saved in
    :meth:`state_dict`, so a run resumed on the same device ends bit-identical to one never
    stopped.

    Args:
        config: the run.
        data: its data set, on the device to train on.
        parent: for a pruning round, what the round before left (see ``Trainer.outcome``).
        compile: run the model through ``torch.compile``.
        diagnostics: after each epoch also measure what
            :func:`paper_repro.measure.diagnostics.diagnose` does, and mask churn. Training is
            the same with and without.
        graph: take steps by :class:`paper_repro.graph.GraphedStep` where the optimizer allows
            it: recorded and replayed on CUDA, through the same code but eagerly elsewhere.
    """

    def __init__(
        self,
        config: RunConfig,
        data: Dataset,
        parent: Mapping[str, Any] | None = None,
        compile: bool = False,
        diagnostics: bool = False,
        graph: bool = False,
    ) -> None:
        self.config = config
        self.data = data
        self.device = data.train.images.device
        self.steps_per_epoch = len(data.train) // config.batch_size
        if self.steps_per_epoch == 0:
            raise UserError(
                f"batch_size {config.batch_size} exceeds the {len(data.train)} training images"
            )
        self.total_steps = self.steps_per_epoch * config.epochs
        if self.device.type == "cuda":
            # The convolutions' fastest algorithms may add in any order, and then no run repeats.
            torch.backends.cudnn.deterministic = True
        torch.manual_seed(config.seed)  # for models that draw while they run, e.g. dropout
        self.generator = torch.Generator(device=self.device).manual_seed(config.seed)
        self.augmenter = Augmenter(data, config.augment)
        self.model = models.build(
            config.model,
            classes=data.classes,
            channels=data.channels,
            seed=config.seed,
            init=config.init,
        )
        self.model.to(self.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        base = torch.optim.SGD(
            self.model.parameters(),
            lr=config.lr,
            momentum=config.momentum,
            weight_decay=config.weight_decay,
        )
        self.optimizer = OPTIMIZERS.build(
            config.optimizer,
            base=base,
            model=self.model,
            seed=config.seed,
            total_steps=self.total_steps,
        )
        self._late: LatePhase | None = None
        if config.rho_start:
            self._late = LatePhase(self.optimizer, round(config.rho_start * self.total_steps))
        self.method = self._sparsify(parent)
        if isinstance(self.optimizer, Perturbing):
            self.optimizer.adopt(self.method.masks)
        self.compiled = compile
        self.diagnostics = diagnostics
        self._forward = torch.compile(self.model) if compile else self.model
        self.macs = layer_macs(self.model, (data.channels, data.size, data.size))
        self._loss_fn = functools.partial(F.cross_entropy, label_smoothing=config.label_smoothing)
        self._plan: Plan | None = None
        self._loss_sum = torch.zeros((), device=self.device)
        self._hits = torch.zeros((), device=self.device, dtype=torch.int64)
        self._t = 0
        self._cost = [0.0, 0.0]  # of the epoch's steps: gradients, forward passes alone
        self.graphed = graph and config.optimizer.name in CAPTURABLE
        self._graphed: GraphedStep | None = None
        if self.graphed:
            self._graphed = GraphedStep(
                self._closure,
                self._count,
                self.optimizer,
                self.method,
                batch_size=config.batch_size,
                device=self.device,
            )
        self.epoch = 0
        self.curve: list[dict[str, Any]] = []
        self.training_flops = 0.0

    def _sparsify(self, parent: Mapping[str, Any] | None) -> SparseMethod:
        spec = self.config.method
        request = METHODS[spec.name].batch_request(spec)
        method: SparseMethod = METHODS.build(
            spec,
            model=self.model,
            optimizer=self.optimizer,
            total_steps=self.total_steps,
            steps_per_epoch=self.steps_per_epoch,
            batch=None if request is None else self._scoring_batch(request),
            loss_fn=F.cross_entropy,
            seed=self.config.seed,
            parent=parent,
        )
        return method

    def _scoring_batch(self, request: BatchRequest) -> tuple[Tensor, Tensor]:
        """Images of the training set without augmentation, drawn by a generator of their own."""
        labels = self.data.train.labels
        generator = torch.Generator(device=self.device).manual_seed(self.config.seed)
        order = torch.randperm(len(labels), generator=generator, device=self.device)
        if request.per_class:
            picks = [order[labels[order] == c][: request.size] for c in range(self.data.classes)]
            order = torch.cat(picks)
        else:
            order = order[: request.size]
        return self.augmenter.normalise(self.data.train.images[order]), labels[order]

    @property
    def finished(self) -> bool:
        return self.epoch == self.config.epochs

    def run_epoch(self) -> dict[str, Any]:
        """Train one epoch and evaluate; returns its line of the curve.

        Raises:
            Diverged: the epoch's mean training loss, or the test loss, is not finite, or the
                training loss exceeds ``HOPELESS``.
        """
        masks_before = self.method.masks.state_dict() if self.diagnostics else {}
        started = time.perf_counter()
        loss, accuracy = self.train_epoch()
        seconds = time.perf_counter() - started
        if not loss <= HOPELESS:
            raise Diverged(f"the training loss became {loss} in epoch {self.epoch + 1}")
        images = self.steps_per_epoch * self.config.batch_size
        gradients, forwards = (cost / self.steps_per_epoch for cost in self._cost)
        # Counted at the epoch's final masks.
        densities = self.method.masks.densities()
        # A forward pass alone is a third of a gradient.
        work = training_flops(self.macs, densities, gradients + forwards / 3)
        self.training_flops += images * work
        test_loss, test_accuracy = self.evaluate()
        if not math.isfinite(test_loss):
            raise Diverged(f"the test loss became {test_loss} in epoch {self.epoch + 1}")
        self.epoch += 1
        line: dict[str, Any] = {
            "epoch": self.epoch,
            "lr": self.optimizer.param_groups[0]["lr"],
            "train_loss": loss,
            "train_accuracy": accuracy,
            "test_loss": test_loss,
            "test_accuracy": test_accuracy,
            "sparsity": self.method.masks.sparsity(),
            "seconds": seconds,
            "images_per_second": images / seconds,
            "gradients_per_step": gradients,
            "forwards_per_step": forwards,
        }
        if self.diagnostics:
            line["diagnostics"] = self._diagnose(masks_before)
        self.curve.append(line)
        return line

    def _diagnose(self, masks_before: Mapping[str, Tensor]) -> dict[str, float]:
        # A generator of its own, so that training draws the same numbers as without.
        seed = self.config.seed * 1_000_003 + self.epoch
        generator = torch.Generator(device=self.device).manual_seed(seed)
        labels = self.data.train.labels
        index = torch.randperm(len(labels), generator=generator, device=self.device)
        index = index[: self.config.batch_size]
        batch = self.augmenter.normalise(self.data.train.images[index]), labels[index]
        rho = abs(self.optimizer.param_groups[0].get("rho") or 0.05)
        masks = self.method.masks
        measured = diagnose(self.model, self.optimizer, masks, batch, generator, rho)
        return {**measured, "rho": rho, "churn": churn(masks_before, masks.state_dict())}

    def train_epoch(self) -> tuple[float, float]:
        """One pass over the training images: its mean loss and accuracy (%)."""
        for index in self.begin_epoch():
            self.step(index)
        seen = self.steps_per_epoch * self.config.batch_size
        return float(self._loss_sum) / self.steps_per_epoch, 100.0 * int(self._hits) / seen

    def begin_epoch(self) -> tuple[Tensor, ...]:
        """Draw the epoch's order and augmentation; returns the indices of each step's images."""
        self.model.train()
        n = len(self.data.train)
        order = torch.randperm(n, generator=self.generator, device=self.device)
        plan = self.augmenter.draw(n, self.generator)
        if self._plan is None:
            self._plan = plan
        else:  # in place, where a recorded step reads it
            self._plan.copy_(plan)
        self._t = self.epoch * self.steps_per_epoch
        self._cost = [0.0, 0.0]
        # Kept on the device: reading a number at every step would make the host wait for it.
        self._loss_sum.zero_()
        self._hits.zero_()
        return order[: self.steps_per_epoch * self.config.batch_size].split(self.config.batch_size)

    def step(self, index: Tensor) -> None:
        """One training step on the images ``index``; nothing in it waits for the device."""
        lr = cosine(self._t, self.total_steps, self.config.lr, self.config.lr_min)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        if self._late is not None and self._late.at(self._t) and self._graphed is not None:
            self._graphed.reset()  # the recording has the old ρ in it
        self._cost = [total + now for total, now in zip(self._cost, self.cost(), strict=True)]
        if self._graphed is not None:
            self._graphed(index)
        else:
            closure = self._closure(index)
            self.optimizer.step(closure)
            self._count(closure)
        self._t += 1

    def cost(self) -> tuple[float, float]:
        """Gradients, and forward passes without one, of a step as ρ is now."""
        return self.optimizer.cost() if isinstance(self.optimizer, Perturbing) else (1.0, 0.0)

    def _closure(self, index: Tensor) -> Closure:
        assert self._plan is not None  # drawn at the epoch's beginning
        labels = self.data.train.labels
        return Closure(
            self._forward,
            self.augmenter.batch(index, self._plan),
            labels[index],
            self.optimizer,
            loss_fn=self._loss_fn,
            index=index,
            samples=len(labels),
            context=self._autocast,
        )

    def _count(self, closure: Closure) -> None:
        assert closure.loss is not None and closure.outputs is not None
        self._loss_sum += closure.loss
        self._hits += (closure.outputs.argmax(1) == closure.target).sum()

    def _autocast(self) -> torch.autocast:
        enabled = self.config.precision == "bf16"
        return torch.autocast(self.device.type, torch.bfloat16, enabled=enabled)

    def evaluate(self) -> tuple[float, float]:
        """Loss and accuracy (%) of the unperturbed weights on the test images."""
        wrapped = isinstance(self.optimizer, Perturbing)
        if wrapped:
            self.optimizer.eval()
        try:
            with self._autocast():
                return evaluate(self.model, self.data.test, self.augmenter.normalise)
        finally:
            if wrapped:
                self.optimizer.train()

    def state_dict(self) -> dict[str, Any]:
        """All that a resumed run needs."""
        return {
            "fingerprint": self.config.fingerprint,
            "graphed": self.graphed,
            "compiled": self.compiled,
            "epoch": self.epoch,
            "curve": self.curve,
            "training_flops": self.training_flops,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "method": self.method.state_dict(),
            "generator": self.generator.get_state(),
            "global_generator": torch.get_rng_state(),
            "cuda_generator": torch.cuda.get_rng_state(self.device)
            if self.device.type == "cuda"
            else None,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from :meth:`state_dict` of the same run.

        Raises:
            UserError: it belongs to another run.
        """
        if state["fingerprint"] != self.config.fingerprint:
            raise UserError(
                f"the checkpoint is of run {state['fingerprint']}, not {self.config.fingerprint}"
            )
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.method.load_state_dict(state["method"])
        self.generator.set_state(state["generator"].cpu())
        torch.set_rng_state(state["global_generator"].cpu())
        if state["cuda_generator"] is not None and self.device.type == "cuda":
            torch.cuda.set_rng_state(state["cuda_generator"].cpu(), self.device)
        if self._graphed is not None:
            self._graphed.reset()
        self.epoch = state["epoch"]
        self.curve = list(state["curve"])
        self.training_flops = state["training_flops"]

    def outcome(self) -> dict[str, Any]:
        """The trained network at w: ``weights`` (the model's whole state) and boolean ``masks``."""
        if isinstance(self.optimizer, Perturbing):
            self.optimizer.eval()
        weights = {name: value.detach().cpu() for name, value in self.model.state_dict().items()}
        masks = {name: mask.cpu() for name, mask in self.method.masks.state_dict().items()}
        return {"weights": weights, "masks": masks}
