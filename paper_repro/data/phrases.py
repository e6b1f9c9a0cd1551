"""Generated sentence pairs, so that translation can be tried without any data.

A small grammar of English and German. German declines articles and adjectives by gender and case
and puts the verb last in a subordinate clause: enough for agreement and word order to need
attention, and little enough to be learnt within seconds. It says nothing of how well anything
translates.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from paper_repro.data import DATASETS
from paper_repro.data.pairs import PairDataset
from paper_repro.data.parallel import from_texts

__all__ = ["phrases", "sentence"]

_TRAIN, _VALIDATION, _TEST = 1_600, 100, 200

# English, German, gender.
_NOUNS = (
    ("man", "Mann", "m"),
    ("dog", "Hund", "m"),
    ("teacher", "Lehrer", "m"),
    ("tree", "Baum", "m"),
    ("table", "Tisch", "m"),
    ("woman", "Frau", "f"),
    ("cat", "Katze", "f"),
    ("flower", "Blume", "f"),
    ("lamp", "Lampe", "f"),
    ("street", "Straße", "f"),
    ("child", "Kind", "n"),
    ("girl", "Mädchen", "n"),
    ("horse", "Pferd", "n"),
    ("book", "Buch", "n"),
    ("house", "Haus", "n"),
)
_ADJECTIVES = (
    ("old", "alt"),
    ("young", "jung"),
    ("small", "klein"),
    ("big", "groß"),
    ("red", "rot"),
    ("green", "grün"),
    ("quiet", "still"),
    ("beautiful", "schön"),
)
# Third person and infinitive-free: English singular, German singular.
_VERBS = (
    ("sees", "sieht"),
    ("finds", "findet"),
    ("looks for", "sucht"),
    ("loves", "liebt"),
    ("paints", "malt"),
    ("carries", "trägt"),
    ("knows", "kennt"),
    ("follows today", "verfolgt heute"),
)
_PLACES = (("in front of", "vor"), ("behind", "hinter"), ("beside", "neben"), ("under", "unter"))
_SAYS = (("says", "sagt"), ("believes", "glaubt"), ("writes", "schreibt"))

# Of the definite and the indefinite article and the adjective's ending after each, by case.
_THE = {
    "nominative": {"m": ("der", "e"), "f": ("die", "e"), "n": ("das", "e")},
    "accusative": {"m": ("den", "en"), "f": ("die", "e"), "n": ("das", "e")},
    "dative": {"m": ("dem", "en"), "f": ("der", "en"), "n": ("dem", "en")},
}
_A = {
    "nominative": {"m": ("ein", "er"), "f": ("eine", "e"), "n": ("ein", "es")},
    "accusative": {"m": ("einen", "en"), "f": ("eine", "e"), "n": ("ein", "es")},
    "dative": {"m": ("einem", "en"), "f": ("einer", "en"), "n": ("einem", "en")},
}

Pair = tuple[str, str]


def _noun_phrase(pick: Callable[[int], int], case: str) -> Pair:
    english, german, gender = _NOUNS[pick(len(_NOUNS))]
    definite = pick(2)
    article, ending = (_THE if definite else _A)[case][gender]
    before, ours = [], []
    if pick(2):
        adjective, stem = _ADJECTIVES[pick(len(_ADJECTIVES))]
        before, ours = [adjective], [stem + ending]
    words = [*before, english]
    first = "the" if definite else "an" if words[0][0] in "aeiou" else "a"
    return " ".join([first, *words]), " ".join([article, *ours, german])


def _clause(pick: Callable[[int], int], last: bool) -> Pair:
    """A main clause, or a subordinate one, whose German verb comes ``last``."""
    subject = _noun_phrase(pick, "nominative")
    verb = _VERBS[pick(len(_VERBS))]
    theirs = _noun_phrase(pick, "accusative")
    english, german = [subject[0], verb[0], theirs[0]], [theirs[1]]
    if pick(2):
        place, where = _PLACES[pick(len(_PLACES))]
        at = _noun_phrase(pick, "dative")
        english += [place, at[0]]
        german += [where, at[1]]
    word, *adverb = verb[1].split()
    german = [subject[1], *adverb, *german, word] if last else [subject[1], word, *adverb, *german]
    return " ".join(english), " ".join(german)


def sentence(source: random.Random) -> Pair:
    """A random sentence in English and German."""

    def pick(n: int) -> int:
        return int(n * source.random())

    if pick(3):
        english, german = _clause(pick, last=False)
    else:
        subject = _noun_phrase(pick, "nominative")
        says = _SAYS[pick(len(_SAYS))]
        inner = _clause(pick, last=True)
        english = f"{subject[0]} {says[0]} that {inner[0]}"
        german = f"{subject[1]} {says[1]}, dass {inner[1]}"
    return english[0].upper() + english[1:] + ".", german[0].upper() + german[1:] + "."


@DATASETS.register("phrases")
def phrases() -> PairDataset:
    """1,600 training, 100 validation and 200 test pairs, no English sentence in two of them."""
    source = random.Random(0)  # whose random() Python keeps as it is
    found: dict[str, str] = {}
    while len(found) < _TRAIN + _VALIDATION + _TEST:
        english, german = sentence(source)
        found.setdefault(english, german)
    pairs = list(found.items())
    return from_texts(
        "phrases",
        {
            "train": pairs[:_TRAIN],
            "validation": pairs[_TRAIN : _TRAIN + _VALIDATION],
            "test": pairs[_TRAIN + _VALIDATION :],
        },
        vocabulary=400,
        beam=4,
        length_penalty=0.6,
    )
