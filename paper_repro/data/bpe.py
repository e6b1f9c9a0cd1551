"""A joint byte-pair encoding of two languages (Sennrich et al., 2016), trained on given text."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence

from paper_repro.errors import UserError

__all__ = ["BOS", "BPE", "EOS", "PAD", "UNKNOWN"]

#: Token numbers that mean the same in every vocabulary: filling, beginning and end of a sentence,
#: and a character that the training text does not have.
PAD, BOS, EOS, UNKNOWN = range(4)
_CHUNK = 10_000  # sentences encoded at once: what the tokenizer's threads share
_SPECIAL = ("<pad>", "<s>", "</s>", "<unk>")


class BPE:
    """Sentences to token numbers and back.

    Words are split at spaces, which become part of the word that follows, and at punctuation; so
    decoding gives the text back as it was (but for characters that the training text did not
    have), and no detokenizer stands between a translation and its score.

    Args:
        description: of a vocabulary, as :attr:`description` gives it.
    """

    def __init__(self, description: str) -> None:
        from tokenizers import Tokenizer  # here: most runs translate nothing

        # Runs share a machine's cores by processes, and forks would warn of its threads.
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        self.description = description
        self._tokenizer = Tokenizer.from_str(description)
        # Text that reads "</s>" is text. Of the description this is no part.
        self._tokenizer.encode_special_tokens = True

    @classmethod
    def train(cls, sentences: Iterable[str], size: int) -> BPE:
        """Merge the most frequent pairs until there are ``size`` tokens, or none left to merge.

        Args:
            sentences: of both languages; the training text alone.
            size: tokens, the four special ones among them.

        Raises:
            UserError: a size below that of the special tokens and one character.
        """
        from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

        if size <= len(_SPECIAL):
            raise UserError(f"a vocabulary has at least {len(_SPECIAL) + 1} tokens, not {size}")
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        tokenizer = Tokenizer(models.BPE(unk_token=_SPECIAL[UNKNOWN]))
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Metaspace(), pre_tokenizers.Punctuation("isolated")]
        )
        tokenizer.decoder = decoders.Metaspace()
        trainer = trainers.BpeTrainer(
            vocab_size=size, special_tokens=list(_SPECIAL), show_progress=False
        )
        tokenizer.train_from_iterator(sentences, trainer)
        return cls(tokenizer.to_str())

    @property
    def size(self) -> int:
        """Tokens, the special ones among them."""
        return int(self._tokenizer.get_vocab_size())

    @property
    def digest(self) -> str:
        """16 hex digits that name the vocabulary: the start of its description's SHA-256."""
        return hashlib.sha256(self.description.encode()).hexdigest()[:16]

    def encode(self, sentences: Sequence[str]) -> Iterator[list[int]]:
        """Token numbers of each sentence, without beginning and end.

        Of the special tokens a text has ``UNKNOWN`` alone, whatever is written in it.
        """
        for start in range(0, len(sentences), _CHUNK):
            some = list(sentences[start : start + _CHUNK])
            for encoding in self._tokenizer.encode_batch_fast(some, add_special_tokens=False):
                yield encoding.ids

    def decode(self, sentences: Sequence[Sequence[int]]) -> list[str]:
        """Text of each sentence; special tokens are left out."""
        return list(self._tokenizer.decode_batch([list(s) for s in sentences]))
