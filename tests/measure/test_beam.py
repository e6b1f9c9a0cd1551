"""Beam search against greedy decoding and against looking at everything there is."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from paper_repro.measure.beam import penalty, search
from paper_repro.models.transformer import Transformer

BOS, EOS = 1, 2


class Table:
    """A decoder whose next token depends on the sentence and on all tokens before, by a table."""

    def __init__(self, seed, words, sharp=2.0):
        self.seed, self.words, self.sharp = seed, words, sharp

    def log_p(self, sentence, history):
        key = hash((self.seed, sentence, tuple(history))) % 2**31
        logits = self.sharp * torch.randn(self.words, generator=torch.Generator().manual_seed(key))
        return logits

    def begin(self, source):
        return [History(source[:, 0].tolist())]

    def step(self, tokens, position, caches):
        (cache,) = caches
        rows = tokens.tolist()
        if cache.rows is None:
            cache.rows = [[] for _ in rows]
        per = len(rows) // len(cache.sentences)
        for row, token in zip(cache.rows, rows, strict=True):
            row.append(token)
        return torch.stack(
            [self.log_p(cache.sentences[i // per], row) for i, row in enumerate(cache.rows)]
        )


class History:
    def __init__(self, sentences):
        self.sentences, self.rows = sentences, None

    def select(self, rows, sentences):
        self.rows = [list(self.rows[i]) for i in rows.tolist()]
        if sentences is not None:
            self.sentences = [self.sentences[i] for i in sentences.tolist()]


def exhaustive(table, sentence, longest, alpha, never=()):
    """The best of all token sequences that end within the longest length."""
    others = [w for w in range(table.words) if w != EOS and w not in never]
    best = (-math.inf, None)
    for length in range(1, longest + 1):
        for body in itertools.product(others, repeat=length - 1):
            history, total = [BOS], 0.0
            for word in (*body, EOS):
                logits = table.log_p(sentence, history).clone()
                logits[list(never)] = -math.inf
                total += float(torch.log_softmax(logits, -1)[word])
                history.append(word)
            best = max(best, (total / penalty(length, alpha), list(body)))
    return best[1]


@given(
    st.integers(0, 10_000), st.integers(3, 4), st.integers(1, 4), st.sampled_from([0.0, 0.6, 1.0])
)
@settings(max_examples=25, deadline=None)
def test_a_beam_as_wide_as_there_are_hypotheses_finds_the_best_of_all(seed, words, longest, alpha):
    table, source = Table(seed, words), torch.tensor([[7], [8]])
    options = {"alpha": alpha, "longest": longest, "bos": BOS, "eos": EOS}
    found = search(table, source, beam=words**longest, **options)
    assert found == [exhaustive(table, s, longest, alpha) for s in (7, 8)]


def greedy(table, sentence, longest):
    history = [BOS]
    for _ in range(longest - 1):
        word = int(table.log_p(sentence, history).argmax())
        if word == EOS:
            break
        history.append(word)
    return history[1:]


@given(st.integers(0, 10_000), st.integers(3, 9), st.integers(1, 8), st.sampled_from([0.0, 1.0]))
@settings(max_examples=50, deadline=None)
def test_a_beam_of_one_is_greedy(seed, words, longest, alpha):
    table, source = Table(seed, words), torch.tensor([[3], [4], [5], [6]])
    options = {"alpha": alpha, "longest": longest, "bos": BOS, "eos": EOS}
    found = search(table, source, beam=1, **options)
    assert found == [greedy(table, s, longest) for s in (3, 4, 5, 6)]


@given(st.integers(0, 10_000), st.integers(2, 5))
@settings(max_examples=25, deadline=None)
def test_a_sentence_is_translated_alike_alone_and_among_others(seed, beam):
    table = Table(seed, 6)
    options = {"beam": beam, "alpha": 0.6, "longest": 7, "bos": BOS, "eos": EOS}
    together = search(table, torch.tensor([[3], [4], [5], [6], [7]]), **options)
    assert together == [search(table, torch.tensor([[s]]), **options)[0] for s in range(3, 8)]


def test_tokens_that_never_come_do_not():
    table = Table(0, 5)
    options = {"alpha": 0.6, "longest": 4, "bos": BOS, "eos": EOS, "never": (0, 1)}
    found = search(table, torch.tensor([[3], [4]]), beam=5**4, **options)
    assert found == [exhaustive(table, s, 4, 0.6, never=(0, 1)) for s in (3, 4)]
    assert not {0, 1} & {word for s in found for word in s}


def test_a_length_penalty_makes_translations_longer():
    lengths = {}
    for alpha in (0.0, 1.0, 2.0):
        options = {"alpha": alpha, "longest": 8, "bos": BOS, "eos": EOS}
        found = [
            search(Table(seed, 5, sharp=1.0), torch.tensor([[3]]), beam=8, **options)[0]
            for seed in range(40)
        ]
        lengths[alpha] = sum(map(len, found))
    assert lengths[0.0] < lengths[1.0] < lengths[2.0]
    assert penalty(1, 0.6) == 1.0 and penalty(7, 1.0) == 2.0


@pytest.mark.parametrize("beam", [1, 3])
def test_a_real_network_is_searched_through_its_caches(beam):
    """With caches, batches and sentences that end early: the same as without any of them."""
    torch.manual_seed(0)
    shape = {"width": 16, "layers": 2, "heads": 4, "inner": 24, "dropout": 0.1}
    model = Transformer(9, **shape).double().eval()
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.3 * torch.randn_like(p))
    source = torch.randint(3, 9, (6, 5), generator=torch.Generator().manual_seed(1))
    source[2, 2:] = 0
    source[4, 3:] = 0
    options = {"beam": beam, "alpha": 0.6, "longest": 9, "bos": BOS, "eos": EOS, "never": (0, 1)}

    class Uncached:
        def begin(self, source):
            return [History([row for row in source])]

        def step(self, tokens, position, caches):
            (cache,) = caches
            if cache.rows is None:
                cache.rows = [[] for _ in tokens]
            for row, token in zip(cache.rows, tokens.tolist(), strict=True):
                row.append(token)
            per = len(tokens) // len(cache.sentences)
            wide = torch.stack([cache.sentences[i // per] for i in range(len(tokens))])
            from paper_repro.data.pairs import Teacher

            return model(Teacher(wide, torch.tensor(cache.rows)))[:, -1]

    assert search(model, source, **options) == search(Uncached(), source, **options)
