"""Beam search over an encoder-decoder, many sentences at once."""

from __future__ import annotations

import math
from typing import Any, Protocol

import torch
from torch import Tensor

__all__ = ["Decoder", "penalty", "search"]


class Decoder(Protocol):
    """As much of :class:`paper_repro.models.transformer.Transformer` as the search needs."""

    def begin(self, source: Tensor) -> list[Any]: ...

    def step(self, tokens: Tensor, position: int, caches: list[Any]) -> Tensor: ...


def penalty(length: int, alpha: float) -> float:
    """((5 + length) / 6)^α (Wu et al., 2016, Eq. 14): a hypothesis scores log p divided by it."""
    return ((5 + length) / 6) ** alpha


@torch.no_grad()
def search(
    model: Decoder,
    source: Tensor,
    *,
    beam: int,
    alpha: float,
    longest: int,
    bos: int,
    eos: int,
    never: tuple[int, ...] = (),
) -> list[list[int]]:
    r"""The best translation found of each sentence, without its beginning and end.

    Each sentence keeps the ``beam`` most probable hypotheses that have not ended. One that ends
    among them is finished, with the score

    .. math::
        \log p(y \mid x) \Big/ \Big(\frac{5 + |y|}{6}\Big)^{\alpha}

    where \|y\| counts the end. A sentence is done when ``beam`` hypotheses have finished, or when
    no other can overtake the best: log p only falls, and no length divides it by more than the
    longest does. At the ``longest`` length a hypothesis is ended. So a beam that is as wide as
    there are hypotheses finds the best of all, and one of width 1 is greedy.

    Args:
        model: in evaluation mode.
        source: int64 [B, S], filled up at the ends.
        beam: hypotheses kept a sentence, at least 1.
        alpha: α >= 0; at 0 the most probable translation wins, which is a short one.
        longest: tokens of a translation, the end counted.
        bos: the token before the first.
        eos: the token that ends.
        never: tokens that no translation has.
    """
    count, device = len(source), source.device
    caches = model.begin(source)
    alive = torch.arange(count, device=device)  # the sentences that are not done
    tokens = torch.full((count,), bos, device=device)
    history = torch.empty(count, 1, 0, dtype=torch.int64, device=device)
    log_p = torch.zeros(count, 1, device=device)
    best_score = torch.full((count,), -math.inf, device=device)
    best: list[list[int]] = [[] for _ in range(count)]
    finished = torch.zeros(count, dtype=torch.int64, device=device)
    for position in range(longest):
        length = position + 1
        logits = model.step(tokens, position, caches).float()
        if never:
            logits[:, list(never)] = -math.inf
        step = torch.log_softmax(logits, -1)
        if length == longest:
            ended = torch.full_like(step, -math.inf)
            ended[:, eos] = step[:, eos]
            step = ended
        sentences, width = log_p.shape
        words = step.shape[-1]
        total = (log_p[:, :, None] + step.view(sentences, width, words)).flatten(1)
        # Of twice as many candidates, at most `beam` end: as many that go on are always left.
        some = min(2 * beam, total.shape[1])
        scores, flat = total.topk(some, dim=1)
        parent, word = flat // words, flat % words
        possible = scores > -math.inf
        ends = (word == eos) & possible
        # Only what ends among the best `beam` counts, as if the search had seen no further.
        first = torch.arange(some, device=device) < beam
        done_now = ends & first
        value = torch.where(done_now, scores / penalty(length, alpha), -math.inf)
        top, which = value.max(1)
        better = top > best_score[alive]
        for row in better.nonzero().squeeze(1).tolist():
            best[int(alive[row])] = history[row, parent[row, which[row]]].tolist()
        best_score[alive] = torch.maximum(best_score[alive], top)
        finished[alive] += done_now.sum(1)
        # What goes on: the best that do not end, in order.
        order = torch.where(word == eos, -math.inf, scores)
        keep = min(beam, some)
        log_p, chosen = order.topk(keep, dim=1)
        parent, word = parent.gather(1, chosen), word.gather(1, chosen)
        bound = log_p[:, 0] / penalty(longest, alpha)
        done = (finished[alive] >= beam) | (best_score[alive] >= bound)
        left = (~done).nonzero().squeeze(1)
        if len(left) == 0:
            break
        rows = (left[:, None] * width + parent[left]).flatten()
        picked = history.flatten(0, 1)[rows].view(len(left), keep, -1)
        history = torch.cat([picked, word[left][:, :, None]], 2)
        log_p, tokens = log_p[left], word[left].flatten()
        some_done = len(left) < sentences
        for cache in caches:
            cache.select(rows, left if some_done else None)
        alive = alive[left]
    return best
