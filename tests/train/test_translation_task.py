"""Translation through the one trainer: batches, loss, scores, sparsity, and going on."""

import itertools
import random
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from toys import same_state, through_disk
from workplaces import tiny, untimed, workplace

from paper_repro.data import load
from paper_repro.data.bpe import PAD
from paper_repro.data.parallel import from_texts
from paper_repro.data.phrases import sentence
from paper_repro.errors import UserError
from paper_repro.experiment import runs
from paper_repro.experiment.cost import Cost
from paper_repro.experiment.runs import execute
from paper_repro.measure.bleu import score
from paper_repro.optim import OPTIMIZERS
from paper_repro.sparse import METHODS
from paper_repro.sparse.distribution import layer_counts, prunable
from paper_repro.train import Trainer
from paper_repro.train.translation import Translation, loss_fn, partition

TEXTS = [sentence(random.Random(i)) for i in range(140)]
DATA = from_texts(
    "phrases",
    {"train": TEXTS[:100], "validation": TEXTS[100:110], "test": TEXTS[110:125]},
    250,
    beam=2,
)


def run(method="dense", optimizer="sgd", rho=None, **changes):
    options = {} if method == "dense" else {"sparsity": 0.8}
    if method in ("mest", "random"):
        options["distribution"] = "uniform-all"
    settings = {
        "dataset": "phrases",
        "model": "transformer_toy",
        "method": METHODS.spec(method, **options),
        "optimizer": OPTIMIZERS.spec(optimizer, **({} if rho is None else {"rho": rho})),
        "epochs": 3,
        "batch_size": 300,
        "train_size": None,
        "lr": 3e-3,
        "lr_min": 0.0,
        "weight_decay": 0.0,
        "label_smoothing": 0.1,
        "init": "xavier",
        "base": "adam",
        "schedule": "inverse-sqrt",
        "warmup": 4,
        "average": 2,
        "evaluate_every": 3,
    }
    return tiny(**{**settings, **changes})


def make(*args, data=DATA, **changes):
    return Trainer(run(*args, **changes), data)


@given(st.lists(st.integers(2, 60), min_size=1, max_size=200), st.integers(1, 300), st.randoms())
def test_batches_have_as_many_tokens_as_fit(lengths, tokens, rng):
    ordered = torch.tensor(sorted(lengths))
    sizes = partition(ordered, tokens)
    assert sum(sizes) == len(lengths) and all(size >= 1 for size in sizes)
    parts = ordered.split(sizes)
    assert all(len(p) == 1 or len(p) * int(p.max()) <= tokens for p in parts)
    # None could take the next pair too.
    for part, following in itertools.pairwise(parts):
        assert (len(part) + 1) * int(following[0]) > tokens


def test_an_epoch_has_every_pair_once_in_batches_of_like_lengths():
    task = Translation(run(), DATA)
    lengths = torch.maximum(DATA.train.source.lengths, DATA.train.target.lengths)
    generator = torch.Generator().manual_seed(0)
    one, two = (list(task.begin_epoch(generator)) for _ in range(2))
    for batches in (one, two):
        assert len(batches) == task.steps_per_epoch
        assert sorted(torch.cat(batches).tolist()) == list(range(100))
        assert all(len(b) * int(lengths[b].max()) <= 300 or len(b) == 1 for b in batches)
    # Filling is little: of all pairs together it would be more than a third.
    tokens = sum(len(b) * int(lengths[b].max()) for b in one)
    assert tokens < 1.15 * int(lengths.sum()) < 0.8 * 100 * int(lengths.max())
    assert [b.tolist() for b in one] != [b.tolist() for b in two]
    assert {frozenset(b.tolist()) for b in one} != {frozenset(b.tolist()) for b in two}
    again = list(task.begin_epoch(torch.Generator().manual_seed(0)))
    assert [b.tolist() for b in again] == [b.tolist() for b in one]
    assert task.units_per_epoch == int(DATA.train.target.lengths.sum())


@given(st.integers(1, 4), st.integers(1, 5), st.floats(0, 0.5), st.integers(0, 1000))
@settings(deadline=None)
def test_the_loss_is_the_mean_over_tokens_that_are_no_filling(pairs, longest, smoothing, seed):
    generator = torch.Generator().manual_seed(seed)
    outputs = torch.randn(pairs, longest, 6, generator=generator, dtype=torch.float64)
    target = torch.randint(1, 6, (pairs, longest), generator=generator)
    lengths = torch.randint(1, longest + 1, (pairs,), generator=generator)
    target[torch.arange(longest) >= lengths[:, None]] = PAD
    terms = []
    for i in range(pairs):
        for t in range(int(lengths[i])):
            log_p = torch.log_softmax(outputs[i, t], 0)
            terms.append(-(1 - smoothing) * log_p[target[i, t]] - smoothing * log_p.mean())
    mean = loss_fn(outputs, target, label_smoothing=smoothing)
    torch.testing.assert_close(mean, torch.stack(terms).mean())
    each = loss_fn(outputs, target, reduction="none", label_smoothing=smoothing)
    assert each.shape == (pairs,)
    torch.testing.assert_close(each.mean(), mean)
    alone = F.cross_entropy(outputs[0, : lengths[0]], target[0, : lengths[0]], reduction="sum")
    scale = pairs / int(lengths.sum())
    torch.testing.assert_close(loss_fn(outputs, target, reduction="none")[0], alone * scale)


@pytest.mark.parametrize("optimizer", ["sgd", "s2sam", "sam", "esam", "zosam"])
@pytest.mark.parametrize("method", ["dense", "mest"])
def test_every_linear_layer_can_be_masked_under_every_optimizer(method, optimizer):
    trainer = make(method, optimizer)
    assert trainer.engine == "dense" and not trainer.graphed
    lines = [trainer.run_epoch() for _ in range(3)]
    assert lines[-1]["train_loss"] < lines[0]["train_loss"] - 0.3
    assert lines[-1]["tokens_per_second"] > 0 and "test_bleu" not in lines[0]
    left = trainer.outcome()
    masks = trainer.method.masks
    if method == "mest":
        assert set(masks) == {n for n, _ in trainer.model.named_parameters() if is_linear(n)}
        assert all(d == pytest.approx(0.2, abs=0.01) for d in masks.densities().values())
        assert trainer.method.updates > 0
    for name, mask in left["masks"].items():
        assert not left["weights"][name][~mask].any()


def is_linear(name):
    parts = ("query", "key", "value", "out", "up", "down")
    return name.endswith(".weight") and name.split(".")[-2] in parts


@pytest.mark.parametrize("method", ["rigl", "snip", "grasp", "set"])
def test_other_sparse_methods_know_no_text_either(method):
    trainer = make(method, "s2sam")
    trainer.run_epoch()
    assert trainer.method.masks.sparsity(overall=True) == pytest.approx(0.8, abs=0.05)


def test_which_layers_a_preset_leaves_dense():
    model = Translation(run(), DATA).build_model()
    weights = prunable(model)
    assert "embedding.weight" not in weights and "out.weight" not in weights
    assert len(weights) == 2 * 6 + 2 * 10
    for preset in ("uniform-all", "uniform"):  # the stem and the output are the embedding
        counts = layer_counts(model, 0.75, preset)
        assert all(counts[n] == w.numel() / 4 for n, w in weights.items())
    model.out.weight = torch.nn.Parameter(model.out.weight.detach().clone())
    assert layer_counts(model, 0.75, "uniform")["out.weight"] == model.out.weight.numel()
    assert layer_counts(model, 0.75, "uniform-all")["out.weight"] == model.out.weight.numel() / 4


def test_adam_steps_at_the_schedules_rates():
    trainer = make()
    group = trainer.optimizer.param_groups[0]
    assert isinstance(trainer.optimizer, torch.optim.Adam)
    assert (group["betas"], group["eps"]) == ((0.9, 0.98), 1e-9)
    seen = []
    for index in trainer.begin_epoch():
        trainer.step(index)
        seen.append(group["lr"])
    rates = [3e-3 * min((t + 1) / 4, (4 / (t + 1)) ** 0.5) for t in range(len(seen))]
    assert seen == pytest.approx(rates)


@pytest.mark.parametrize("method", ["dense", "mest"])
def test_resumed_it_ends_bit_identical(method):
    whole = make(method, "s2sam", epochs=4)
    states = []
    while not whole.finished:
        whole.run_epoch()
        states.append(through_disk(whole.state_dict()))
    for state in states[:-1]:  # also in the midst of what is averaged
        torch.manual_seed(77)
        again = make(method, "s2sam", epochs=4)
        again.load_state_dict(state)
        while not again.finished:
            again.run_epoch()
        assert same_state(whole.outcome(), again.outcome())
        assert strip(whole.curve) == strip(again.curve)


def strip(curve):
    return [{k: v for k, v in line.items() if k != "tokens_per_second"} for line in untimed(curve)]


def test_the_last_evaluation_is_of_the_average_and_says_what_it_would_be_without():
    def trained(**changes):
        trainer = make(**changes)  # which seeds dropout
        while not trainer.finished:
            trainer.run_epoch()
        return trainer

    averaged, single = trained(), trained(average=1)
    last, own = averaged.curve[-1], single.curve[-1]
    assert last["unaveraged_test_loss"] == own["test_loss"] != last["test_loss"]
    assert last["train_loss"] == own["train_loss"]  # training itself knows nothing of it
    before, after = single.outcome()["weights"], averaged.outcome()["weights"]
    assert not torch.equal(before["embedding.weight"], after["embedding.weight"])
    assert averaged.task.evaluate(averaged.model)["test_loss"] == last["unaveraged_test_loss"]


def test_scores_are_sacrebleus_of_the_translations_that_are_kept():
    trainer = make()
    model, task = trainer.model, trainer.task
    scores = task.evaluate(model)
    assert model.training
    rows = [line.split("\t") for line in task.files()["translations.tsv"].splitlines()]
    assert rows[0] == ["source", "reference", "ours"] and len(rows) == 16
    assert [(a, b) for a, b, _ in rows[1:]] == list(DATA.test.texts)
    found = score([ours for *_, ours in rows[1:]], [reference for _, reference, _ in rows[1:]])
    assert (scores["test_bleu"], scores["test_chrf"]) == (found.bleu, found.chrf)
    facts = task.facts()
    assert facts["signatures"] == found.signatures and facts["beam"] == 2
    assert facts["vocabulary_digest"] == DATA.bpe.digest
    # The loss by hand: of each pair alone, unsmoothed.
    total = 0.0
    model.eval()
    with torch.no_grad():
        for i in range(15):
            inputs, target = DATA.test.teacher(torch.tensor([i]), task.device)
            total += float(loss_fn(model(inputs), target)) * target.numel()
    tokens = int(DATA.test.target.lengths.sum())
    assert scores["test_loss"] == pytest.approx(total / tokens, rel=1e-5)


def test_diagnostics_differentiate_attention_twice():
    trainer = Trainer(run(optimizer="s2sam", epochs=2, average=1), DATA, diagnostics=True)
    line = trainer.run_epoch()
    assert line["diagnostics"]["sharpness"] > 0 and line["diagnostics"]["rho"] == 0.05


def test_flops_are_of_a_target_token_with_its_share_of_the_source():
    task = Translation(run(), DATA)
    model = task.build_model()
    macs = task.macs(model)
    ratio = len(DATA.train.source.tokens) / len(DATA.train.target.tokens)
    assert macs["out.weight"] == 64 * DATA.bpe.size
    assert macs["decoder.0.feed_forward.up.weight"] == 64 * 128
    assert macs["decoder.1.cross.query.weight"] == macs["decoder.1.attention.key.weight"] == 64 * 64
    assert macs["decoder.1.cross.key.weight"] == round(64 * 64 * ratio)
    assert macs["encoder.0.feed_forward.down.weight"] == round(64 * 128 * ratio)
    assert set(macs) == {*prunable(model), "out.weight"}
    trainer = make()
    line = trainer.run_epoch()
    assert trainer.work.training == pytest.approx(6 * sum(macs.values()) * task.units_per_epoch)
    assert line["tokens_per_second"] == pytest.approx(task.units_per_epoch / line["seconds"])


def test_what_cannot_be_translated_with_is_refused_in_a_sentence():
    said = "resnet_digits is made for classification, but phrases is there for translation"
    with pytest.raises(UserError, match=said):
        make(model="resnet_digits")
    with pytest.raises(UserError, match="transformer_toy is made for translation, but digits"):
        Trainer(tiny(model="transformer_toy"), load("digits"))
    with pytest.raises(UserError, match="saf keeps every sample's outputs"):
        make(optimizer="saf")
    with pytest.raises(UserError, match="without batch norm"):
        Trainer(tiny(average=2), load("digits", train_size=96))
    with pytest.raises(UserError, match="it trains on images only"):
        Trainer(run(), DATA, engine="sparse")


def test_a_run_leaves_a_record_with_its_signature_and_its_translations(tmp_path):
    config = run("mest", "s2sam", epochs=2, train_size=60, warmup=2, evaluate_every=1)
    place = workplace(tmp_path)
    record = execute(config, place)
    assert record.status == "finished" and record.score == "test_bleu"
    body = record.body
    assert record.accuracy() == body["curve"][-1]["test_bleu"]
    assert body["task_facts"]["signatures"]["bleu"].startswith("nrefs:1|case:mixed")
    assert body["task_facts"]["training_pairs"] == 60
    assert body["speed"]["tokens_per_second"] > 0
    assert body["environment"]["engine_reason"] == "it trains on images only"
    kept = place.folder(config) / "translations.tsv"
    assert len(kept.read_text().splitlines()) == 201
    assert body["environment"]["data"] == load("phrases", train_size=60).digest()
    cost = Cost(place)
    dense, sparse = replace(config, method=METHODS.spec("dense")), config
    assert cost(dense) == cost(sparse) > 0  # no engine skips zeros here


def test_a_run_killed_before_its_record_keeps_signature_log_and_translations(tmp_path, monkeypatch):
    config = run("dense", "sgd", epochs=1, average=1, train_size=60, evaluate_every=1)
    place = workplace(tmp_path)

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(runs, "outcome", killed)
    with pytest.raises(KeyboardInterrupt):
        execute(config, place)
    monkeypatch.undo()
    folder = place.folder(config)
    assert (folder / "checkpoint.pt").exists() and place.records.get(config) is None
    body = execute(config, place).body  # nothing is left to train or to evaluate
    assert body["task_facts"]["signatures"]["bleu"].startswith("nrefs:1|case:mixed")
    assert len((folder / "translations.tsv").read_text().splitlines()) == 201
    assert len((folder / "log.jsonl").read_text().splitlines()) == 1


def test_the_checkpoint_is_written_after_all_else_of_its_epoch(tmp_path, monkeypatch):
    written = []
    monkeypatch.setattr(runs, "write_text", lambda path, text: written.append(path.name))
    save = runs.save_tensors
    monkeypatch.setattr(runs, "save_tensors", lambda p, s: (written.append(p.name), save(p, s)))
    execute(
        run("dense", "sgd", epochs=1, average=1, train_size=60, evaluate_every=1),
        workplace(tmp_path),
    )
    assert written[:3] == ["log.jsonl", "translations.tsv", "checkpoint.pt"]


def test_in_bfloat16_the_average_is_scored_and_not_what_was_cast_before_it():
    trainer = Trainer(run(precision="bf16", average=3), DATA)
    while not trainer.finished:
        line = trainer.run_epoch()
    with trainer.average.in_place(), trainer._autocast():
        alone = trainer.task.evaluate(trainer._scored)
    assert line["test_loss"] == alone["test_loss"]
    assert line["test_loss"] != line["unaveraged_test_loss"]
