"""Translation by an encoder-decoder: batches by token count, cross-entropy, BLEU by beam search."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from paper_repro import models
from paper_repro.config import RunConfig
from paper_repro.data.bpe import BOS, EOS, PAD, UNKNOWN
from paper_repro.data.pairs import PairDataset, PairSplit, Teacher
from paper_repro.errors import UserError
from paper_repro.measure.beam import search
from paper_repro.measure.bleu import Scores, score
from paper_repro.measure.flops import layer_macs
from paper_repro.optim import Closure
from paper_repro.sparse.method import BatchRequest
from paper_repro.train import TASKS
from paper_repro.train.task import Batch, Task, check_model

__all__ = ["Translation", "loss_fn", "partition"]

#: Tokens that beam search may add to the length of the source.
_LONGER = 50
#: Tokens of sources that are translated at once.
_AT_ONCE = 2_000


def loss_fn(
    outputs: Tensor, target: Tensor, reduction: str = "mean", label_smoothing: float = 0.0
) -> Tensor:
    """Cross-entropy in nats a target token, filling left out.

    The reduction "none" gives each sentence's sum over its tokens, times sentences over tokens of
    the batch: numbers whose mean is that of the reduction "mean".

    Args:
        outputs: logits [B, T, V].
        target: int64 [B, T].
        reduction: "mean" or "none".
        label_smoothing: in [0, 1).
    """
    flat, words = outputs.flatten(0, 1), target.flatten()
    if reduction == "mean":
        return F.cross_entropy(flat, words, ignore_index=PAD, label_smoothing=label_smoothing)
    losses = F.cross_entropy(
        flat, words, ignore_index=PAD, label_smoothing=label_smoothing, reduction="none"
    )
    tokens = (target != PAD).sum()
    return losses.view_as(target).sum(1) * (len(target) / tokens)


def partition(lengths: Tensor, tokens: int) -> list[int]:
    """How many pairs each batch has, when pairs are sorted by length.

    As many as fit: pairs times the longest length in the batch are at most ``tokens``, but a batch
    has at least one pair. It depends on the lengths alone, not on how ties are ordered.

    Args:
        lengths: int64 [N], ascending: a pair's is that of its longer side.
        tokens: of a batch, filling counted.
    """
    sizes: list[int] = []
    size = 0
    for length in lengths.tolist():
        if size and (size + 1) * length > tokens:
            sizes.append(size)
            size = 0
        size += 1
    return [*sizes, size] if size else sizes


@TASKS.register("translation")
class Translation(Task):
    """Sentence pairs in batches of about as many tokens, scored by SacreBLEU.

    A config's ``batch_size`` is the tokens of a batch on its longer side, filling counted. Every
    epoch sorts the pairs by length anew, ties in random order, cuts them into the same number of
    batches and shuffles those; no pair is left out. Label smoothing is the training loss's alone.

    Both the validation and the test pairs are translated at every evaluation; ``files`` keeps the
    latter's translations.

    Args:
        config: the run.
        data: its sentence pairs.

    Raises:
        UserError: a network or an optimizer that is not for translation, or a config that asks
            for what only images have.
    """

    unit = "tokens"
    score = "test_bleu"

    def __init__(self, config: RunConfig, data: PairDataset) -> None:
        check_model(config, "translation")
        if config.optimizer.name == "saf":
            raise UserError(
                "saf keeps every sample's outputs from epoch to epoch, which sentences of "
                "different lengths do not have room for"
            )
        self.config = config
        self.data = data
        self.device = data.device
        self.samples = len(data.train)
        lengths = torch.maximum(data.train.source.lengths, data.train.target.lengths)
        self._lengths = lengths
        self._sizes = partition(lengths.sort().values, config.batch_size)
        self.steps_per_epoch = len(self._sizes)
        self._loss_fn = functools.partial(loss_fn, label_smoothing=config.label_smoothing)
        self._signatures: dict[str, str] = {}
        self._files: dict[str, str] = {}

    @property
    def units_per_epoch(self) -> int:
        return len(self.data.train.target.tokens)

    def build_model(self) -> nn.Module:
        model: nn.Module = models.build(
            self.config.model,
            classes=self.data.bpe.size,
            seed=self.config.seed,
            init=self.config.init,
        )
        return model.to(self.device)

    def macs(self, model: nn.Module) -> dict[str, int]:
        """Of a target token, with its share of the source; attention's own products left out."""
        one = torch.zeros(1, 1, dtype=torch.int64, device="meta")
        ratio = len(self.data.train.source.tokens) / len(self.data.train.target.tokens)
        at_source = ("encoder.", ".cross.key.", ".cross.value.")
        return {
            name: round(count * ratio) if any(part in name for part in at_source) else count
            for name, count in layer_macs(model, Teacher(one, one)).items()
        }

    @property
    def loss_fn(self) -> Callable[..., Tensor]:
        return self._loss_fn

    @property
    def plain_loss_fn(self) -> Callable[..., Tensor]:
        return loss_fn

    def begin_epoch(self, generator: torch.Generator) -> Sequence[Tensor]:
        def shuffled(n: int) -> Tensor:
            return torch.randperm(n, generator=generator, device=self.device).cpu()

        order = shuffled(self.samples)
        order = order[self._lengths[order].argsort(stable=True)]
        batches = order.split(self._sizes)
        self._hits = torch.zeros((), device=self.device, dtype=torch.int64)
        return [batches[i] for i in shuffled(len(batches)).tolist()]

    def batch(self, index: Tensor) -> Batch:
        inputs, target = self.data.train.teacher(index, self.device)
        return Batch(inputs, target, index)

    def count(self, closure: Closure) -> None:
        right = (closure.outputs.argmax(-1) == closure.target) & (closure.target != PAD)
        self._hits += right.sum()

    def training_metrics(self) -> dict[str, float]:
        return {"train_token_accuracy": 100.0 * int(self._hits) / self.units_per_epoch}

    def scoring_batch(
        self, request: BatchRequest, generator: torch.Generator
    ) -> tuple[Any, Tensor]:
        """Random pairs: as many as the request says, or as fit into a batch if that is fewer."""
        index = torch.randperm(self.samples, generator=generator, device=self.device).cpu()
        index = index[: min(request.size, max(1, self.config.batch_size // 32))]
        return self.data.train.teacher(index, self.device)

    @torch.no_grad()
    def evaluate(self, model: nn.Module) -> Mapping[str, float]:
        modes = {module: module.training for module in model.modules()}
        model.eval()
        try:
            found: dict[str, float] = {}
            for which in ("validation", "test"):
                split: PairSplit = getattr(self.data, which)
                found[f"{which}_loss"] = self._loss(model, split)
                translations = self.translate(model, split)
                scores = self._score(split, translations)
                found[f"{which}_bleu"], found[f"{which}_chrf"] = scores.bleu, scores.chrf
        finally:
            for module, training in modes.items():
                module.training = training
        lines = zip(split.texts, translations, strict=True)
        rows = ("\t".join((*pair, ours)) for pair, ours in lines)
        self._files = {"translations.tsv": "\n".join(["source\treference\tours", *rows]) + "\n"}
        return found

    def _loss(self, model: nn.Module, split: PairSplit) -> float:
        total = torch.zeros((), dtype=torch.float64, device=self.device)
        for index in self._chunks(split.target.lengths):
            inputs, target = split.teacher(index, self.device)
            tokens = (target != PAD).sum()
            total += loss_fn(model(inputs).float(), target).double() * tokens
        return float(total) / len(split.target.tokens)

    def _score(self, split: PairSplit, translations: Sequence[str]) -> Scores:
        scores = score(translations, [reference for _, reference in split.texts])
        self._signatures = scores.signatures
        return scores

    def _chunks(self, lengths: Tensor) -> list[Tensor]:
        """Indices of all sentences, in batches of similar lengths."""
        order = lengths.argsort(stable=True)
        return list(order.split(partition(lengths[order], _AT_ONCE)))

    def translate(self, model: nn.Module, split: PairSplit, beam: int | None = None) -> list[str]:
        """The translations of a split's sources, by a model in evaluation mode.

        Args:
            model: an encoder-decoder.
            split: what to translate.
            beam: hypotheses kept; the data set's number if None.
        """
        found: dict[int, list[int]] = {}
        for index in self._chunks(split.source.lengths):
            source = split.source.padded(index).to(self.device)
            best = search(
                model,  # type: ignore[arg-type]
                source,
                beam=beam or self.data.beam,
                alpha=self.data.length_penalty,
                longest=source.shape[1] + _LONGER,
                bos=BOS,
                eos=EOS,
                never=(PAD, BOS, UNKNOWN),
            )
            found.update(zip(index.tolist(), best, strict=True))
        return self.data.bpe.decode([found[i] for i in range(len(split))])

    def facts(self) -> dict[str, Any]:
        return {
            # Of a run taken on after its last evaluation too: they do not depend on the sentences.
            "signatures": self._signatures or score(["a"], ["a"]).signatures,
            "beam": self.data.beam,
            "length_penalty": self.data.length_penalty,
            "vocabulary": self.data.bpe.size,
            "vocabulary_digest": self.data.bpe.digest,
            "training_pairs": self.samples,
            "training_pairs_left_out": self.data.left_out,
        }

    def files(self) -> Mapping[str, str]:
        return self._files
