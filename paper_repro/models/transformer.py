"""Encoder-decoder Transformers (Vaswani et al., 2017).

Every projection is a linear layer of its own (``nn.MultiheadAttention`` keeps three in one tensor
that is no layer), so that a sparse method can mask all of them. Source, target and output share
one embedding (section 3.4), which is never masked, hence nor is the output projection.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from paper_repro.models import MODELS
from paper_repro.models.init import xavier_

__all__ = ["Cache", "Transformer", "transformer_base", "transformer_tiny", "transformer_toy"]

_PAD = 0  # the token number of filling

KeysValues = tuple[Tensor, Tensor]


class Taught(Protocol):
    """What :meth:`Transformer.forward` reads: ``source`` [B, S] and ``target`` [B, T], int64."""

    @property
    def source(self) -> Tensor: ...

    @property
    def target(self) -> Tensor: ...


class Attention(nn.Module):
    """Multi-head attention (section 3.2.2): softmax(q kᵀ / √(d/h)) v of h heads, projected.

    Args:
        width: d.
        heads: h, which divides d.
    """

    #: Which projections others keep in one matrix: ``models.init.depth_scaled_`` reads it.
    drawn_together = ("query", "key", "value")

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)

    def split(self, x: Tensor) -> Tensor:
        """[B, L, d] -> [B, h, L, d/h]."""
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def keys_values(self, memory: Tensor) -> KeysValues:
        """Of [B, L, d], both [B, h, L, d/h]."""
        return self.split(self.key(memory)), self.split(self.value(memory))

    def forward(
        self, x: Tensor, at: KeysValues, mask: Tensor | None = None, causal: bool = False
    ) -> Tensor:
        """[B, T, d] -> the same, attending to ``at`` where ``mask`` (bool [B, 1, 1, S]) is true."""
        heads = F.scaled_dot_product_attention(
            self.split(self.query(x)), *at, attn_mask=mask, is_causal=causal
        )
        return self.out(heads.transpose(1, 2).flatten(2))


class FeedForward(nn.Module):
    """max(0, x W1 + b1) W2 + b2 (section 3.3)."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.up = nn.Linear(width, inner)
        self.down = nn.Linear(inner, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(F.relu(self.up(x)))


class _Layer(nn.Module):
    """Residual sublayers with layer norm before each, or after each sum."""

    def __init__(self, width: int, sublayers: int, dropout: float, pre_norm: bool) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(sublayers))
        self.dropout = nn.Dropout(dropout)
        self.pre_norm = pre_norm

    def residual(self, i: int, x: Tensor, sublayer: Callable[[Tensor], Tensor]) -> Tensor:
        if self.pre_norm:
            return x + self.dropout(sublayer(self.norms[i](x)))
        return self.norms[i](x + self.dropout(sublayer(x)))


class EncoderLayer(_Layer):
    """Self-attention and a feed-forward network."""

    def __init__(self, width: int, heads: int, inner: int, dropout: float, pre_norm: bool) -> None:
        super().__init__(width, 2, dropout, pre_norm)
        self.attention = Attention(width, heads)
        self.feed_forward = FeedForward(width, inner)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        own = self.attention
        x = self.residual(0, x, lambda y: own(y, own.keys_values(y), mask))
        return self.residual(1, x, self.feed_forward)


class Cache:
    """Keys and values of a decoder layer's attention, at the target so far and at the source.

    Attributes:
        past: [rows, h, t, d/h] of the t tokens decoded; None before the first.
        source: [sentences, h, S, d/h]; rows / sentences hypotheses share a sentence's.
        mask: bool [sentences, 1, 1, S], true at tokens.
    """

    def __init__(self, source: KeysValues, mask: Tensor) -> None:
        self.past: KeysValues | None = None
        self.source = source
        self.mask = mask

    def append(self, new: KeysValues) -> KeysValues:
        if self.past is not None:
            new = tuple(torch.cat(pair, 2) for pair in zip(self.past, new, strict=True))  # type: ignore[assignment]
        self.past = new
        return new

    def select(self, rows: Tensor, sentences: Tensor | None) -> None:
        """Keep the hypotheses ``rows`` of, unless None, the ``sentences``, in that order."""
        if self.past is not None:
            self.past = self.past[0][rows], self.past[1][rows]
        if sentences is not None:
            self.source = self.source[0][sentences], self.source[1][sentences]
            self.mask = self.mask[sentences]


class DecoderLayer(_Layer):
    """Causal self-attention, attention to the source, and a feed-forward network."""

    def __init__(self, width: int, heads: int, inner: int, dropout: float, pre_norm: bool) -> None:
        super().__init__(width, 3, dropout, pre_norm)
        self.attention = Attention(width, heads)
        self.cross = Attention(width, heads)
        self.feed_forward = FeedForward(width, inner)

    def forward(self, x: Tensor, memory: Tensor, mask: Tensor) -> Tensor:
        own, cross = self.attention, self.cross
        # Filling follows a target's tokens, which causal attention therefore never sees.
        x = self.residual(0, x, lambda y: own(y, own.keys_values(y), causal=True))
        x = self.residual(1, x, lambda y: cross(y, cross.keys_values(memory), mask))
        return self.residual(2, x, self.feed_forward)

    def step(self, x: Tensor, cache: Cache) -> Tensor:
        """One further position, [rows, 1, d], of which ``cache`` knows those before."""
        own, cross = self.attention, self.cross
        x = self.residual(0, x, lambda y: own(y, cache.append(own.keys_values(y))))

        def to_source(y: Tensor) -> Tensor:
            # A sentence's hypotheses are queries at one set of keys, which is not copied for each.
            together = y.view(len(cache.mask), -1, y.shape[-1])
            return cross(together, cache.source, cache.mask).view_as(y)

        x = self.residual(1, x, to_source)
        return self.residual(2, x, self.feed_forward)


class Transformer(nn.Module):
    """Source and shifted target token numbers to the logits of each next target token.

    Dropout acts on the sums of embeddings and positions and on the output of every sublayer
    (section 5.4). Positions are sinusoidal (section 3.5).

    Args:
        vocabulary: tokens, shared by source, target and output; number 0 is filling.
        width: d.
        layers: of the encoder, and as many of the decoder.
        heads: of every attention.
        inner: width of the feed-forward networks.
        dropout: probability in [0, 1).
        pre_norm: layer norm before each sublayer and once at each stack's end; else after each
            residual sum, as Vaswani et al. have it.

    Shape:
        source [B, S], target [B, T] -> [B, T, vocabulary]
    """

    #: How its weights are drawn when it is made, see :data:`paper_repro.models.init.INITS`.
    drawn_as = "xavier"

    def __init__(
        self,
        vocabulary: int,
        *,
        width: int,
        layers: int,
        heads: int,
        inner: int,
        dropout: float,
        pre_norm: bool = False,
    ) -> None:
        super().__init__()
        self.width = width
        self.embedding = nn.Embedding(vocabulary, width)
        self.dropout = nn.Dropout(dropout)
        shape = (width, heads, inner, dropout, pre_norm)
        self.encoder = nn.ModuleList(EncoderLayer(*shape) for _ in range(layers))
        self.decoder = nn.ModuleList(DecoderLayer(*shape) for _ in range(layers))
        self.encoder_norm = nn.LayerNorm(width) if pre_norm else nn.Identity()
        self.decoder_norm = nn.LayerNorm(width) if pre_norm else nn.Identity()
        self.out = nn.Linear(width, vocabulary, bias=False)
        self.out.weight = self.embedding.weight
        xavier_(self)

    def embed(self, tokens: Tensor, first: int = 0) -> Tensor:
        """√d times the embeddings, plus the positions from ``first`` on."""
        x = self.embedding(tokens) * math.sqrt(self.width)
        return self.dropout(
            x + _positions(first, tokens.shape[1], self.width, x.device).to(x.dtype)
        )

    def encode(self, source: Tensor) -> tuple[Tensor, Tensor]:
        """[B, S] -> the encoder's output [B, S, d], and bool [B, 1, 1, S], true at tokens."""
        mask = (source != _PAD)[:, None, None, :]
        x = self.embed(source)
        for layer in self.encoder:
            x = layer(x, mask)
        return self.encoder_norm(x), mask

    def forward(self, inputs: Taught) -> Tensor:
        memory, mask = self.encode(inputs.source)
        x = self.embed(inputs.target)
        for layer in self.decoder:
            x = layer(x, memory, mask)
        return self.out(self.decoder_norm(x))

    def begin(self, source: Tensor) -> list[Cache]:
        """What :meth:`step` needs to decode the sentences ``source`` [B, S]: a cache a layer."""
        memory, mask = self.encode(source)
        return [Cache(layer.cross.keys_values(memory), mask) for layer in self.decoder]  # type: ignore[union-attr,operator]

    def step(self, tokens: Tensor, position: int, caches: list[Cache]) -> Tensor:
        """Logits [rows, vocabulary] of what follows ``tokens`` [rows], which stand at ``position``.

        Rows are hypotheses, as many of each sentence, those of one sentence together.
        """
        x = self.embed(tokens[:, None], position)
        for layer, cache in zip(self.decoder, caches, strict=True):
            x = layer.step(x, cache)  # type: ignore[operator]
        return self.out(self.decoder_norm(x))[:, 0]


def _positions(first: int, count: int, width: int, device: torch.device) -> Tensor:
    """sin and cos of position / 10000^(2i/d), interleaved: [count, d] (section 3.5)."""
    at = torch.arange(first, first + count, device=device, dtype=torch.float32)
    even = torch.arange(0, width, 2, device=device, dtype=torch.float32)
    angles = at[:, None] * torch.exp(even * (-math.log(10_000.0) / width))
    return torch.stack([angles.sin(), angles.cos()], -1).flatten(1)


def _translates(factory: Any) -> Any:
    """Mark a model's factory as one for translation, see ``paper_repro.train.task``."""
    factory.task = "translation"
    return factory


@MODELS.register("transformer_base")
@_translates
def transformer_base(classes: int) -> Transformer:
    """Vaswani et al.'s base model (their Table 3): 6 layers, width 512, post-norm, dropout 0.1."""
    return Transformer(classes, width=512, layers=6, heads=8, inner=2048, dropout=0.1)


@MODELS.register("transformer_tiny")
@_translates
def transformer_tiny(classes: int) -> Transformer:
    """For Multi30k: 4 layers, width 128, 4 heads, feed-forward 256, post-norm, dropout 0.3."""
    return Transformer(classes, width=128, layers=4, heads=4, inner=256, dropout=0.3)


@MODELS.register("transformer_toy")
@_translates
def transformer_toy(classes: int) -> Transformer:
    """For generated phrases: 2 layers, width 64, 4 heads, feed-forward 128, post-norm."""
    return Transformer(classes, width=64, layers=2, heads=4, inner=128, dropout=0.1)
