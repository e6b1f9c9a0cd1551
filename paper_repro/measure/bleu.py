"""SacreBLEU and chrF of translations, with the signatures that say what they are (Post, 2018)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from paper_repro.errors import UserError

__all__ = ["Scores", "score"]


@dataclass(frozen=True)
class Scores:
    """Of a whole test set.

    Attributes:
        bleu: 0 to 100.
        chrf: chrF2, 0 to 100.
        signatures: SacreBLEU's, by the metric's name.
    """

    bleu: float
    chrf: float
    signatures: dict[str, str]


def score(hypotheses: Sequence[str], references: Sequence[str]) -> Scores:
    """Corpus scores of detokenized, cased text against one reference a sentence.

    Raises:
        UserError: not as many hypotheses as references, or none.
    """
    from sacrebleu.metrics import BLEU, CHRF  # here: most runs translate nothing

    if len(hypotheses) != len(references) or not references:
        raise UserError(f"{len(hypotheses)} translations of {len(references)} references")
    found, signatures = {}, {}
    # An untrained network's translations make SacreBLEU suspect that they are tokenized.
    for name, metric in {"bleu": BLEU(force=True), "chrf": CHRF()}.items():
        score = float(metric.corpus_score(list(hypotheses), [list(references)]).score)
        found[name] = min(score, 100.0)  # perfect ones come out a rounding error above it
        signatures[name] = str(metric.get_signature())
    return Scores(found["bleu"], found["chrf"], signatures)
