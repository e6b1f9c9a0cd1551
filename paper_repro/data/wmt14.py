"""WMT-14 English-German (Bojar et al., 2014): the translation task of Vaswani et al. (2017)."""

from __future__ import annotations

from pathlib import Path

from paper_repro.data import DATASETS
from paper_repro.data.pairs import PairDataset
from paper_repro.data.parallel import encoded, find

__all__ = ["wmt14"]

_HINT = "the folder de-en of wmt/wmt14 on the Hugging Face hub"


@DATASETS.register("wmt14")
def wmt14(root: Path | None, cache: Path | None) -> PairDataset:
    """English to German: 4.5 million training pairs, newstest2013 to validate, 2014 to test.

    A joint vocabulary of 37,000 tokens, beam 4 and α = 0.6, as Vaswani et al. have them (sections
    5.1 and 6.1).
    """
    folder = find("wmt14", ["wmt14/de-en", "wmt14", "de-en"], root, _HINT, ["wmt/wmt14", "wmt14"])
    return encoded(
        "wmt14",
        folder,
        cache,
        source="en",
        target="de",
        vocabulary=37_000,
        beam=4,
        length_penalty=0.6,
    )
