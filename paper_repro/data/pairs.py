"""Sentence pairs as token numbers: what a translation data set is once it is in memory."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from paper_repro.data.bpe import BOS, BPE, EOS, PAD
from paper_repro.data.digest import digest
from paper_repro.errors import UserError

__all__ = ["PairDataset", "PairSplit", "Sentences", "Teacher"]


_CPU = torch.device("cpu")


@dataclass(frozen=True)
class Teacher:
    """What an encoder-decoder is trained on: sources, and targets moved on by one token.

    Indexed like a tensor, by sentences.

    Attributes:
        source: int64 [B, S].
        target: int64 [B, T], beginning with ``BOS``: what each next token is predicted from.
    """

    source: Tensor
    target: Tensor

    def __getitem__(self, index: Tensor) -> Teacher:
        return Teacher(self.source[index], self.target[index])

    def __len__(self) -> int:
        return len(self.source)


@dataclass(frozen=True)
class Sentences:
    """Sentences of any lengths, end to end, each closed by ``EOS``; on the CPU.

    Attributes:
        tokens: int32, of all sentences.
        ends: int64 [N + 1]: sentence i is ``tokens[ends[i]:ends[i + 1]]``.
    """

    tokens: Tensor
    ends: Tensor

    @classmethod
    def of(cls, sentences: Iterable[Sequence[int]]) -> Sentences:
        """From token numbers without their ``EOS``; a stream, so that they need not all be kept."""
        pieces = [np.array([*s, EOS], np.int32) for s in sentences]
        ends = np.cumsum([0, *map(len, pieces)], dtype=np.int64)
        flat = np.concatenate(pieces) if pieces else np.empty(0, np.int32)
        return cls(torch.from_numpy(flat), torch.from_numpy(ends))

    def __len__(self) -> int:
        return len(self.ends) - 1

    @property
    def lengths(self) -> Tensor:
        """Tokens of each sentence, int64 [N], its ``EOS`` counted."""
        return self.ends.diff()

    def padded(self, index: Tensor) -> Tensor:
        """The sentences ``index`` as int64 [B, longest of them], filled up with ``PAD``."""
        starts, lengths = self.ends[index, None], self.lengths[index, None]
        steps = torch.arange(int(lengths.max()))
        inside = steps < lengths
        rows = self.tokens[torch.where(inside, starts + steps, 0)].long()
        return torch.where(inside, rows, PAD)

    def kept(self, keep: Tensor) -> Sentences:
        """Those of them for which ``keep`` (bool [N]) is true."""
        ends = torch.cat([torch.zeros(1, dtype=torch.int64), self.lengths[keep].cumsum(0)])
        return Sentences(self.tokens[keep.repeat_interleave(self.lengths)], ends)

    def prefix(self, size: int) -> Sentences:
        """The first ``size`` of them, as a copy."""
        return Sentences(self.tokens[: int(self.ends[size])].clone(), self.ends[: size + 1].clone())


@dataclass(frozen=True)
class PairSplit:
    """Sentences and their translations, and both as text where they are scored.

    Attributes:
        source: to translate from.
        target: to translate into, in the same order.
        texts: (source, target) as they were before encoding; none for training sentences.
    """

    source: Sentences
    target: Sentences
    texts: tuple[tuple[str, str], ...] = ()

    def __len__(self) -> int:
        return len(self.source)

    def teacher(self, index: Tensor, device: torch.device) -> tuple[Teacher, Tensor]:
        """The pairs ``index`` (int64 [B], on the CPU): inputs, and the tokens to predict, [B, T].

        Batches are put together on the CPU, where lengths can be looked at without waiting.
        """
        source, target = self.source.padded(index), self.target.padded(index)
        begin = torch.full((len(index), 1), BOS)
        shifted = torch.cat([begin, target[:, :-1]], 1)
        on = [t.to(device, non_blocking=True) for t in (source, shifted, target)]
        return Teacher(on[0], on[1]), on[2]


@dataclass(frozen=True)
class PairDataset:
    """A translation data set.

    Attributes:
        name: the name it is registered under.
        train: the training pairs, in an order of which any prefix is a fair subset.
        validation: pairs to choose by.
        test: pairs to report.
        bpe: the vocabulary, trained on the text of all training pairs, whatever ``train_size``.
        left_out: training pairs that were too long or had an empty side.
        beam: hypotheses that beam search keeps.
        length_penalty: α of the score log p / ((5 + length) / 6)^α.
        device: to train on; the sentences themselves stay on the CPU.
    """

    #: What it is trained for: the name of one of ``paper_repro.train.TASKS``.
    task: ClassVar[str] = "translation"

    name: str
    train: PairSplit
    validation: PairSplit
    test: PairSplit
    bpe: BPE
    left_out: int = 0
    beam: int = 5
    length_penalty: float = 0.6
    device: torch.device = _CPU

    def digest(self) -> str:
        """16 hex digits of the training pairs, as tokens, and their order."""
        sides = self.train.source, self.train.target
        return digest(*(t.numpy() for side in sides for t in (side.tokens, side.ends)))

    def to(self, device: torch.device | str) -> PairDataset:
        return replace(self, device=torch.device(device))

    def prefix(self, train_size: int, keep_rest: bool = False) -> PairDataset:
        """The same data with only the first ``train_size`` training pairs.

        Raises:
            UserError: if there are not that many, or the others are to be kept to test on.
        """
        if not 1 <= train_size <= len(self.train):
            raise UserError(
                f"train_size is {train_size}, but {self.name} has 1 to {len(self.train)} "
                "training pairs to choose from"
            )
        if keep_rest:
            raise UserError(f"{self.name} is tested on its official test pairs only")
        kept = PairSplit(self.train.source.prefix(train_size), self.train.target.prefix(train_size))
        return replace(self, train=kept)
