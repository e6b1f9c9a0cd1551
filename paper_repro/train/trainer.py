"""The one training loop. No method, no optimizer and no task has a loop of its own."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn

from paper_repro.config import RunConfig
from paper_repro.engine import SparseNet, attach, checkpoint, choose
from paper_repro.errors import UserError
from paper_repro.measure.diagnostics import churn, diagnose
from paper_repro.optim import OPTIMIZERS, Closure, LatePhase, Perturbing
from paper_repro.sparse import METHODS, SparseMethod
from paper_repro.sparse.method import BatchRequest, seed_of_stream
from paper_repro.train import TASKS, random_state
from paper_repro.train.averaging import Average
from paper_repro.train.bases import base_optimizer
from paper_repro.train.dense_only import only_dense
from paper_repro.train.graph import CAPTURABLE, GraphedStep
from paper_repro.train.precision import arithmetic, autocast, float32_as
from paper_repro.train.ranks import ALONE, Ranks
from paper_repro.train.replicas import (
    check_divisible,
    check_model,
    join_batch_norm,
    replicate,
    replicated,
)
from paper_repro.train.schedule import SCHEDULES
from paper_repro.train.task import Task
from paper_repro.train.within import Within
from paper_repro.train.work import Work

__all__ = ["Diverged", "Trainer"]


#: A mean training loss, in nats, that no training comes back from; chance is at log(classes).
HOPELESS = 1e4


class Diverged(Exception):
    """A loss is not finite or beyond hope: a result of the run, not a fault of the program."""


class Trainer:
    """A run in progress: everything that one training run owns, advanced epoch by epoch.

    What a batch is, the loss, and how the network is scored are its task's
    (:class:`paper_repro.train.Task`), which the data set names.

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
        graph: take steps by :class:`paper_repro.train.graph.GraphedStep` where the optimizer and
            the task allow it: recorded and replayed on CUDA, through the same code but eagerly
            elsewhere.
        engine: what computes a step: ``dense`` is PyTorch under masks, ``sparse`` and
            ``sparse-bf16`` skip the zeros (:mod:`paper_repro.engine`), ``auto`` is ``sparse``
            where that is possible and faster. ``engine`` and ``engine_reason`` say what it became
            and, if ``auto`` became ``dense``, why.
        ranks: the processes that train the run together, each of which has its own trainer and
            calls the same methods. A batch, its gradient and its batch-norm statistics are those
            of all ranks, so that the run is the same but for rounding on any number of them, and
            weights, masks and optimizer state are the same bits on each; every epoch checks that.

    Raises:
        UserError: an engine that cannot train this run, or a run that several ranks cannot train.
    """

    def __init__(
        self,
        config: RunConfig,
        data: Any,
        parent: Mapping[str, Any] | None = None,
        compile: bool = False,
        diagnostics: bool = False,
        graph: bool = False,
        engine: str = "auto",
        ranks: Ranks = ALONE,
    ) -> None:
        self.config = config
        self.ranks = ranks
        self.task: Task = TASKS[data.task](config, data)
        self.task.ranks = ranks
        self.device = self.task.device
        check_divisible(config, self.task)
        #: What is really computed in: the config's precision, as far as the device has it.
        self.arithmetic = arithmetic(config.precision, self.device)
        self.steps_per_epoch = self.task.steps_per_epoch
        self.total_steps = self.steps_per_epoch * config.epochs
        if self.device.type == "cuda":
            # The convolutions' fastest algorithms may add in any order, and then no run repeats.
            torch.backends.cudnn.deterministic = True
        torch.manual_seed(config.seed)  # for models that draw while they run, e.g. dropout
        self.generator = torch.Generator(device=self.device).manual_seed(config.seed)
        self.model = self.task.build_model()
        check_model(self.model, ranks.world)
        self.optimizer = OPTIMIZERS.build(
            config.optimizer,
            base=base_optimizer(config, self.model),
            model=self.model,
            seed=config.seed,
            total_steps=self.total_steps,
        )
        self._late: LatePhase | None = None
        if config.rho_start:
            self._late = LatePhase(self.optimizer, round(config.rho_start * self.total_steps))
        with self._float32():
            self.method = self._sparsify(parent)
        if not ranks.alone:  # masks are scored before that, as one process does, to the same bits
            join_batch_norm(self.model)
        if isinstance(self.optimizer, Perturbing):
            self.optimizer.adopt(self.method.masks)
        self.compiled = compile
        self.diagnostics = diagnostics
        self.engine, self.engine_reason = choose(
            engine,
            self.model,
            self.optimizer,
            self.method,
            self.task.image,
            only_dense(config, self.task, ranks, compile),
        )
        self._forward, self._scored = self._engine()
        self.average: Average | None = None
        if config.average > 1:
            self.average = Average(
                self.model, self.optimizer, self.method.masks, config.average, config.epochs
            )
        self.work = Work(self.task.macs(self.model), self.method)
        self.within = Within(self.task, self.generator, self.steps_per_epoch)
        #: Called between an epoch's steps, e.g. to save :meth:`state_dict`.
        self.pause: Callable[[], None] | None = None
        capturable = config.base == "sgd" and config.optimizer.name in CAPTURABLE
        self.graphed = graph and ranks.alone and self.task.replayable and capturable
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

    def _engine(self) -> tuple[Callable[[Tensor], Tensor], nn.Module]:
        """What computes a training step's outputs, and what is evaluated, measured and saved.

        The one place that decides it, once model, optimizer and masks are there. Whatever takes the
        module's place must compute what ``self.model`` does with the parameters that
        ``self.optimizer`` holds.
        """
        self.net: SparseNet | None = None
        if self.engine == "dense":
            model = self.model if self.ranks.alone else replicate(self.model, self.device)
            return (torch.compile(model) if self.compiled else model), self.model
        assert self.task.image is not None  # or it would not have been chosen
        self.net = attach(
            self.model,
            self.optimizer,
            self.method,
            self.task.image,
            self.config.batch_size,
            "bfloat16" if self.engine == "sparse-bf16" else "float32",
        )
        return self.net, self.net

    def _sparsify(self, parent: Mapping[str, Any] | None) -> SparseMethod:
        spec = self.config.method
        request, seed = METHODS[spec.name].batch_request(spec), self.config.seed
        method: SparseMethod = METHODS.build(
            spec,
            model=self.model,
            optimizer=self.optimizer,
            total_steps=self.total_steps,
            steps_per_epoch=self.steps_per_epoch,
            batch=None if request is None else self._scoring_batch(request),
            loss_fn=self.task.plain_loss_fn,
            seed=seed if self.config.mask_stream == "own" else seed_of_stream(seed),
            parent=parent,
        )
        return method

    def _scoring_batch(self, request: BatchRequest) -> tuple[Tensor, Tensor]:
        # A generator of its own, so that training draws the same numbers whatever a method asks.
        generator = torch.Generator(device=self.device).manual_seed(self.config.seed)
        return self.task.scoring_batch(request, generator)

    @property
    def finished(self) -> bool:
        return self.epoch == self.config.epochs

    def run_epoch(self) -> dict[str, Any]:
        """Train one epoch, or its rest, and evaluate if due; returns its line of the curve.

        Raises:
            Diverged: the epoch's mean training loss, or the test loss, is not finite, or the
                training loss exceeds ``HOPELESS``.
        """
        masks_before = self.method.masks.state_dict() if self.diagnostics else {}
        self.within.start_clock()
        try:
            loss, metrics = self.train_epoch()
        except (UserError, OSError):
            raise
        except Exception as error:  # of weights that are not finite no method can choose
            if self._broken():
                raise Diverged(
                    f"the weights became infinite in epoch {self.epoch + 1} ({error})"
                ) from error
            raise
        seconds = self.within.seconds()
        if not self.ranks.alone:
            equal = replicated(self.model, self.optimizer, self.method.masks)
            self.ranks.check(equal, f"after epoch {self.epoch + 1}")
        if not loss <= HOPELESS:
            raise Diverged(f"the training loss became {loss} in epoch {self.epoch + 1}")
        units = self.task.units_per_epoch
        gradients, forwards = (cost / self.steps_per_epoch for cost in self.within.cost)
        self.work.add(units, self.config.batch_size, gradients, forwards)
        if self.average is not None:
            self.average.add(self.epoch)
        last = self.epoch + 1 == self.config.epochs
        due = last or (self.epoch + 1) % self.config.evaluate_every == 0
        scores = self.evaluate() if due else {}
        if due and not math.isfinite(scores["test_loss"]):
            raise Diverged(f"the test loss became {scores['test_loss']} in epoch {self.epoch + 1}")
        self.epoch += 1
        line: dict[str, Any] = {
            "epoch": self.epoch,
            "lr": self.optimizer.param_groups[0]["lr"],
            "train_loss": loss,
            **metrics,
            **scores,
            "sparsity": self.method.masks.sparsity(),
            "seconds": seconds,
            f"{self.task.unit}_per_second": units / seconds,
            "gradients_per_step": gradients,
            "forwards_per_step": forwards,
        }
        if self.diagnostics:
            line["diagnostics"] = self._diagnose(masks_before)
        self.curve.append(line)
        return line

    def _broken(self) -> bool:
        """Whether the loss so far, or a weight, is not finite."""
        numbers = [self.within.loss_sum, *self.optimizer.param_groups[0]["params"]]
        return not all(bool(torch.isfinite(n).all()) for n in numbers)

    def _diagnose(self, masks_before: Mapping[str, Tensor]) -> dict[str, Any]:
        # A generator of its own, so that training draws the same numbers as without.
        seed = self.config.seed * 1_000_003 + self.epoch
        generator = torch.Generator(device=self.device).manual_seed(seed)
        batch = self.task.scoring_batch(BatchRequest(self.config.batch_size), generator)
        rho = abs(self.optimizer.param_groups[0].get("rho") or 0.05)
        masks = self.method.masks
        standing = None
        if self.net is not None:
            self.net.publish(self.optimizer)
            standing = self.net.perturbation(self.optimizer)
        with self._float32():
            measured = diagnose(
                self.model,
                self.optimizer,
                masks,
                batch,
                generator,
                rho,
                loss_fn=self.task.plain_loss_fn,
                standing=standing,
            )
        return {**measured, "rho": rho, "churn": churn(masks_before, masks.state_dict())}

    def train_epoch(self) -> tuple[float, dict[str, float]]:
        """One pass over the training samples: their mean loss and the task's other metrics."""
        for index in self.begin_epoch():
            self.step(index)
            if self.pause is not None and self.within.unfinished:
                self.pause()
        return self.within.mean_loss(self.ranks), self.task.training_metrics()

    def begin_epoch(self) -> Iterable[Tensor]:
        """Draw the epoch's order and augmentation; returns the indices of each step's samples."""
        self._scored.train()
        return self.within.begin(self.epoch)

    def step(self, index: Tensor) -> None:
        """One training step on the samples ``index``; nothing in it waits for the device."""
        with self._float32():
            self._step(index)

    def _step(self, index: Tensor) -> None:
        config = self.config
        schedule = SCHEDULES[config.schedule]
        lr = schedule(self.within.t, self.total_steps, config.lr, config.lr_min, config.warmup)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        if self._late is not None and self._late.at(self.within.t) and self._graphed is not None:
            self._graphed.reset()  # the recording has the old ρ in it
        self.within.pay(*self.cost())
        if self._graphed is not None:
            self._graphed(index)
        else:
            closure = self._closure(index)
            self.optimizer.step(closure)
            self._count(closure)
        self.within.t += 1

    def cost(self) -> tuple[float, float]:
        """Gradients, and forward passes without one, of a step as ρ is now."""
        return self.optimizer.cost() if isinstance(self.optimizer, Perturbing) else (1.0, 0.0)

    def _closure(self, index: Tensor) -> Closure:
        return self.task.closure(
            self.task.batch(index),
            self._forward,
            optimizer=self.optimizer,
            context=self._autocast,
        )

    def _count(self, closure: Closure) -> None:
        assert closure.loss is not None and closure.outputs is not None
        self.within.loss_sum += closure.loss
        self.task.count(closure)

    def _autocast(self) -> torch.autocast:
        return autocast(self.arithmetic, self.device)

    def _float32(self) -> AbstractContextManager[None]:
        return float32_as(self.arithmetic, self.device)

    def evaluate(self) -> Mapping[str, float]:
        """The task's metrics of the unperturbed weights, ``test_loss`` among them.

        After the last epoch they are those of the average, if there is one, and the last weights'
        own are beside them as ``unaveraged_...``.
        """
        wrapped = isinstance(self.optimizer, Perturbing)
        if wrapped:
            self.optimizer.eval()
        try:
            own = self._evaluated()
            if self.average is None or not self.average.complete:
                return own
            with self.average.in_place():
                averaged = self._evaluated()
            return {**averaged, **{f"unaveraged_{name}": own[name] for name in own}}
        finally:
            if wrapped:
                self.optimizer.train()

    def _evaluated(self) -> Mapping[str, float]:
        # Each in an autocast of its own: it keeps the weights that it has cast.
        with self._float32(), self._autocast():
            return self.task.evaluate(self._scored)

    @property
    def pausable(self) -> bool:
        """Whether a run can go on from the middle of an epoch."""
        # Of several ranks each has sums of its own, and a checkpoint is rank 0's.
        return self.ranks.alone and not self.diagnostics and self.task.sums() is not None

    def state_dict(self) -> dict[str, Any]:
        """All that a resumed run needs, between two epochs or, if :attr:`pausable`, steps."""
        return {
            "within": self.within.state_dict(self.epoch) if self.pausable else None,
            "fingerprint": self.config.fingerprint,
            "graphed": self.graphed,
            "compiled": self.compiled,
            "epoch": self.epoch,
            "curve": self.curve,
            **self.work.state_dict(),
            "engine": self.engine,
            **checkpoint.save(self.net or self.model, self.optimizer, self.method),
            **({} if self.average is None else {"average": self.average.state_dict()}),
            **random_state.states(self.generator),
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
        epoch, curve = state["epoch"], state["curve"]
        if not (isinstance(epoch, int) and 0 <= epoch <= self.config.epochs):
            raise UserError(f"it is of epoch {epoch!r} of {self.config.epochs}")
        if [line["epoch"] for line in curve] != list(range(1, epoch + 1)):
            raise UserError(f"its curve is not that of {epoch} epochs")
        checkpoint.load(state, self.net or self.model, self.optimizer, self.method)
        # Older checkpoints are all of the time between two epochs.
        within = state.get("within")
        self.within.load(within)
        # An epoch under way is drawn again, from where its beginning was.
        begun = {} if within is None else {"generator": within["generator"]}
        random_state.restore({**state, **begun}, self.generator)
        if self._graphed is not None:
            self._graphed.reset()
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        self.epoch = epoch
        self.curve = list(curve)
        self.work.load_state_dict(state)

    def outcome(self) -> dict[str, Any]:
        """The trained network at w: ``weights`` (the model's whole state) and boolean ``masks``.

        The weights are the average, if the training has ended and there is one.
        """
        if isinstance(self.optimizer, Perturbing):
            self.optimizer.eval()
        if self.net is not None:
            self.net.write_back()
        average = self.average if self.average is not None and self.average.complete else None
        with average.in_place() if average else contextlib.nullcontext():
            weights = {k: v.detach().cpu().clone() for k, v in self.model.state_dict().items()}
        masks = {name: mask.cpu() for name, mask in self.method.masks.state_dict().items()}
        return {"weights": weights, "masks": masks}
