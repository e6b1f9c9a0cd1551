import pytest

from paper_repro.errors import UserError
from paper_repro.measure.bleu import score

TEXTS = ["Der alte Mann sieht einen Hund.", "Ein Kind liest das rote Buch."]


def test_known_scores_and_their_signatures():
    perfect = score(TEXTS, TEXTS)
    assert perfect.bleu == pytest.approx(100.0) and perfect.chrf == pytest.approx(100.0)
    # A rounding error above 100 would make the run's record one that cannot be.
    assert all(score(TEXTS * n, TEXTS * n).bleu <= 100.0 for n in range(1, 40))
    assert perfect.signatures["bleu"].startswith("nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|")
    assert perfect.signatures["chrf"].startswith("nrefs:1|case:mixed|eff:yes|nc:6|nw:0|space:no|")
    # By hand: 7 and 7 tokens with one word wrong in the first: precisions 13/14, 10/12, 8/10, 6/8.
    ours = ["Der alte Mann sieht einen Baum.", TEXTS[1]]
    by_hand = 100 * (13 / 14 * 10 / 12 * 8 / 10 * 6 / 8) ** 0.25
    assert score(ours, TEXTS).bleu == pytest.approx(by_hand)
    assert score([t.lower() for t in TEXTS], TEXTS).bleu < 90  # case counts
    assert score(["", ""], TEXTS).bleu == 0.0


def test_as_many_translations_as_references():
    with pytest.raises(UserError, match="1 translations of 2 references"):
        score(TEXTS[:1], TEXTS)
    with pytest.raises(UserError, match="0 translations of 0"):
        score([], [])
