import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from paper_repro.data import load
from paper_repro.data.bpe import BOS, BPE, EOS, PAD, UNKNOWN
from paper_repro.data.pairs import PairSplit, Sentences
from paper_repro.data.parallel import encoded, find, from_texts, read
from paper_repro.data.phrases import sentence
from paper_repro.errors import UserError

TEXTS = [sentence(random.Random(i)) for i in range(60)]
BOTH = [text for pair in TEXTS for text in pair]
VOCABULARY = BPE.train(BOTH, 150)


def test_the_same_text_makes_the_same_vocabulary():
    again = BPE.train(BOTH, 150)
    assert again.description == VOCABULARY.description and again.digest == VOCABULARY.digest
    assert BPE(VOCABULARY.description).digest == VOCABULARY.digest
    assert BPE.train(BOTH[:-2], 150).digest != VOCABULARY.digest
    assert VOCABULARY.size == 150


@given(st.lists(st.text(alphabet=sorted(set("".join(BOTH))), min_size=1), max_size=5))
@settings(deadline=None)
def test_text_comes_back_as_it_was(texts):
    texts = [text for text in texts if text.strip() == text]
    encoding = list(VOCABULARY.encode(texts))
    assert VOCABULARY.decode(encoding) == texts
    assert all(0 <= token < VOCABULARY.size for ids in encoding for token in ids)
    assert not {PAD, BOS, EOS, UNKNOWN} & {token for ids in encoding for token in ids}


def test_a_character_that_was_never_seen_is_unknown_and_left_out_of_text():
    (ids,) = VOCABULARY.encode(["Der 龍 Hund"])
    assert UNKNOWN in ids
    assert VOCABULARY.decode([[BOS, *ids, EOS, PAD]]) == ["Der  Hund"]


def test_a_vocabulary_of_nothing_is_refused():
    with pytest.raises(UserError, match="at least 5 tokens, not 4"):
        BPE.train(BOTH, 4)


@pytest.mark.parametrize("special", ["<pad>", "<s>", "</s>", "<unk>"])
def test_a_special_tokens_name_is_text_like_any_other(special):
    text = f"The {special}old{special} dog {special}"
    bpe = BPE.train([text, *BOTH], 150)
    (ids,) = bpe.encode([text])
    assert not {PAD, BOS, EOS, UNKNOWN} & set(ids)
    assert bpe.decode([ids]) == [text]
    (ids,) = VOCABULARY.encode([text])  # which has no such characters
    assert not {PAD, BOS, EOS} & set(ids)


@given(st.lists(st.lists(st.integers(4, 30000), max_size=6), min_size=1, max_size=8), st.data())
@settings(deadline=None)
def test_padding_only_fills(sentences, data):
    stored = Sentences.of(sentences)
    picks = data.draw(st.lists(st.integers(0, len(sentences) - 1), min_size=1, max_size=5))
    rows = stored.padded(torch.tensor(picks))
    wanted = [[*sentences[i], EOS] for i in picks]
    assert rows.dtype == torch.int64 and rows.shape == (len(picks), max(map(len, wanted)))
    for row, want in zip(rows.tolist(), wanted, strict=True):
        assert row == want + [PAD] * (rows.shape[1] - len(want))
    assert stored.lengths.tolist() == [len(s) + 1 for s in sentences]
    size = data.draw(st.integers(1, len(sentences)))
    prefix = stored.prefix(size)
    assert prefix.padded(torch.arange(size)).equal(stored.padded(torch.arange(size)))
    keep = data.draw(st.lists(st.booleans(), min_size=len(stored), max_size=len(stored)))
    same = Sentences.of([s for s, k in zip(sentences, keep, strict=True) if k])
    keep = torch.tensor(keep)
    assert stored.kept(keep).tokens.equal(same.tokens) and stored.kept(keep).ends.equal(same.ends)


def test_a_target_is_taught_from_the_token_before():
    split = PairSplit(Sentences.of([[5, 6], [7]]), Sentences.of([[8], [9, 10, 11]]))
    inputs, target = split.teacher(torch.tensor([0, 1]), torch.device("cpu"))
    assert inputs.source.tolist() == [[5, 6, EOS], [7, EOS, PAD]]
    assert target.tolist() == [[8, EOS, PAD, PAD], [9, 10, 11, EOS]]
    assert inputs.target.tolist() == [[BOS, 8, EOS, PAD], [BOS, 9, 10, 11]]
    one = inputs[torch.tensor([1])]
    assert one.source.equal(inputs.source[1:]) and one.target.equal(inputs.target[1:])
    assert len(one) == 1


def write(folder, split, pairs, name="00000-of-00001", column="translation"):
    folder.mkdir(parents=True, exist_ok=True)
    rows = pa.array([{"en": en, "de": de} for en, de in pairs])
    pq.write_table(pa.table({column: rows}), folder / f"{split}-{name}.parquet")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    monkeypatch.delenv("PAPER_REPRO_DATA", raising=False)
    place = tmp_path / "data" / "multi30k"
    write(place, "train", TEXTS[:40])
    write(place, "validation", TEXTS[40:50])
    write(place, "test", TEXTS[50:])
    return place


def same(one, other):
    return all(
        getattr(getattr(one, split), side).tokens.equal(getattr(getattr(other, split), side).tokens)
        for split in ("train", "validation", "test")
        for side in ("source", "target")
    )


def test_parquet_files_become_pairs_and_are_encoded_once(folder, tmp_path, monkeypatch):
    data = load("multi30k", root=folder.parent, cache=tmp_path / "cache")
    assert (len(data.train), len(data.validation), len(data.test)) == (40, 10, 10)
    assert data.test.texts == tuple(TEXTS[50:]) and data.train.texts == ()
    decoded = data.bpe.decode([data.test.target.padded(torch.tensor([3]))[0].tolist()])
    assert decoded == [TEXTS[53][1]]
    assert data.device == torch.device("cpu") and data.to("meta").device == torch.device("meta")

    def never(*_):
        raise AssertionError("encoded twice")

    monkeypatch.setattr("paper_repro.data.parallel.from_texts", never)
    again = load("multi30k", root=folder, cache=tmp_path / "cache")  # the folder itself will do
    assert same(data, again) and again.bpe.description == data.bpe.description
    write(folder, "train", [*TEXTS[1:40], TEXTS[0]])
    with pytest.raises(AssertionError, match="encoded twice"):  # another content
        load("multi30k", root=folder, cache=tmp_path / "cache")


class Named(Exception):
    pass


@pytest.fixture
def key_of(monkeypatch):
    """The name under which a folder's tokens are kept, with those settings."""

    def cached(name, *_):
        raise Named(name)

    monkeypatch.setattr("paper_repro.data.parallel.cached", cached)

    def key(place, name="x", **changes):
        settings = {"source": "en", "target": "de", "vocabulary": 90, **changes}
        with pytest.raises(Named) as caught:
            encoded(name, place, place, **settings)
        return str(caught.value)

    return key


def test_kept_tokens_are_of_their_settings_alone(folder, key_of):
    others = [{"vocabulary": 91}, {"longest": 249}, {"source": "de"}, {"target": "en"}]
    keys = {key_of(folder, **changes) for changes in ({}, *others, {"name": "y"})}
    assert len(keys) == 6
    assert key_of(folder, longest=250, beam=7) == key_of(folder)  # beam changes no token


def test_kept_tokens_are_of_files_in_their_splits(tmp_path, key_of):
    def place(name, **splits):
        for split, parts in splits.items():
            for i, pairs in enumerate(parts):
                write(tmp_path / name, split, pairs, f"{i:05}-of-{len(parts):05}")
        return tmp_path / name

    a, b, c, d = TEXTS[:9], TEXTS[9:15], TEXTS[15:20], TEXTS[20:25]
    one = key_of(place("one", train=[a, b], validation=[c], test=[d]))
    assert one != key_of(place("two", train=[a], validation=[b, c], test=[d]))
    assert one == key_of(place("three", train=[a, b], validation=[c], test=[d]))


def test_only_training_text_makes_the_vocabulary(folder, tmp_path):
    first = load("multi30k", root=folder, cache=tmp_path / "cache").bpe.description
    write(folder, "test", [("Zebra zoo", "Zebrazoo")] * 10)
    write(folder, "validation", [("Quiz", "Jux")])
    assert load("multi30k", root=folder, cache=tmp_path / "cache").bpe.description == first


def test_wmt_lies_in_a_folder_of_its_languages_in_several_shards(tmp_path, monkeypatch):
    monkeypatch.setenv("PAPER_REPRO_DATA", str(tmp_path))
    place = tmp_path / "wmt14" / "de-en"
    write(place, "train", TEXTS[:20], "00000-of-00002")
    write(place, "train", TEXTS[20:40], "00001-of-00002")
    for split in ("validation", "test"):
        write(place, split, TEXTS[40:])
    data = load("wmt14", cache=tmp_path / "cache")
    assert len(data.train) == 40 and (data.beam, data.length_penalty) == (4, 0.6)
    (place / "train-00001-of-00002.parquet").unlink()
    with pytest.raises(UserError, match="1 of the 2 files"):
        load("wmt14", cache=tmp_path / "cache")


def test_long_and_empty_training_pairs_are_left_out_and_counted():
    texts = {
        "train": [*TEXTS[:30], ("", "Leer."), ("Empty.", ""), ("aqx7!" * 60, "kurz")],
        "validation": [("", "Leer.")],
        "test": TEXTS[30:],
    }
    data = from_texts("some", texts, 100, longest=80)
    lengths = torch.maximum(data.train.source.lengths, data.train.target.lengths)
    assert data.left_out == 33 - len(data.train) >= 3 and int(lengths.max()) <= 80
    assert len(data.validation) == 1  # what is scored is never left out
    with pytest.raises(UserError, match="no training pair of 2 to 2 tokens"):
        from_texts("some", texts, 100, longest=2)
    with pytest.raises(UserError, match="some has no test pairs"):
        from_texts("some", {**texts, "test": []}, 100)


def test_a_prefix_of_the_training_pairs():
    data = from_texts("some", {"train": TEXTS[:40], "validation": TEXTS, "test": TEXTS}, 100)
    few = data.prefix(7)
    rows = torch.arange(7)
    assert len(few.train) == 7 and few.bpe is data.bpe and few.test is data.test
    assert few.train.target.padded(rows).equal(data.train.target.padded(rows))
    for size in (0, 41):
        with pytest.raises(UserError, match="has 1 to 40 training pairs"):
            data.prefix(size)
    with pytest.raises(UserError, match="official test pairs only"):
        data.prefix(7, keep_rest=True)


def test_data_that_is_missing_or_damaged_is_said_in_a_sentence(folder, tmp_path):
    def get(root=folder.parent):
        return load("multi30k", root=root, cache=tmp_path / "cache")

    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"multi30k was not found in .*--profile smoke"):
        get(tmp_path / "empty")
    with pytest.raises(UserError, match="does not exist"):
        get(tmp_path / "nowhere")
    write(folder, "test", TEXTS, column="pairs")
    with pytest.raises(UserError, match=r"test-.* has no column `translation` of \{en, de\}"):
        get()
    pq.write_table(pa.table({"translation": [{"en": "a", "fr": "b"}]}), next(folder.glob("test-*")))
    with pytest.raises(UserError, match=r"of \{en, de\}"):
        get()
    write(folder, "test", [("a", None)])
    with pytest.raises(UserError, match="a row without a text"):
        get()
    next(folder.glob("test-*")).write_bytes(b"nothing")
    with pytest.raises(UserError, match="damaged"):
        get()
    next(folder.glob("test-*")).unlink()
    with pytest.raises(UserError, match=r"lacks test-\*\.parquet: the copy is incomplete"):
        get()


def test_pairs_keep_their_order_over_files(folder):
    write(folder, "extra", TEXTS[:3])
    files = [next(folder.glob("extra-*")), next(folder.glob("test-*"))]
    assert read(files, "en", "de") == TEXTS[:3] + TEXTS[50:]
    assert read(files[:1], "de", "en") == [(de, en) for en, de in TEXTS[:3]]
    assert find("multi30k", ["multi30k"], folder.parent, "") == folder
    other = encoded("x", folder, folder, source="de", target="en", vocabulary=90, beam=2)
    assert other.test.texts[0] == TEXTS[50][::-1] and other.beam == 2


def test_phrases_come_with_the_package_and_do_not_change():
    data = load("phrases")
    assert (len(data.train), len(data.validation), len(data.test)) == (1600, 100, 200)
    first = ("A teacher follows today the dog.", "Ein Lehrer verfolgt heute den Hund.")
    assert data.test.texts[0] == first
    english = [pair[0] for pair in (*data.validation.texts, *data.test.texts)]
    assert len(set(english)) == 300
    train = data.bpe.decode(data.train.source.padded(torch.arange(1600)).tolist())
    assert not set(train) & set(english) and len(set(train)) == 1600
    assert load("phrases").bpe.digest == data.bpe.digest


def test_phrases_decline_and_order_as_german_does():
    pairs = dict(sentence(random.Random(i)) for i in range(3000))
    german = list(pairs.values())
    # Adverbs and verbs: second in a main clause, last in a subordinate one.
    assert any("dass" in g and g.endswith("sieht.") for g in german)
    assert not any(", dass" in g and " sieht " in g for g in german)
    assert all(("that" in e.split()) == (", dass" in g) for e, g in pairs.items())
    # Articles by gender and case.
    assert any("den alten Hund" in g for g in german)
    assert any("neben einem kleinen Kind" in g for g in german)
    assert not any("den kleine" in g and "den kleinen" not in g for g in german)
    assert all(g[0].isupper() and g.endswith(".") for g in german)
