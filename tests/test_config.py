import dataclasses
import hashlib
import inspect
import json
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st
from workplaces import lottery, tiny

from paper_repro.config import RunConfig
from paper_repro.errors import UserError
from paper_repro.optim import OPTIMIZERS
from paper_repro.sparse import METHODS


def paper_run(**changes):
    """The run of the pinned fingerprint."""
    return RunConfig(
        **{
            "profile": "paper",
            "dataset": "cifar10",
            "model": "resnet32x2",
            "method": METHODS.spec("random", sparsity=0.9),
            "optimizer": OPTIMIZERS.spec("s2sam", rho=0.05),
            "seed": 0,
            "epochs": 160,
            **changes,
        }
    )


OTHER = {
    "profile": "cpu",
    "dataset": "cifar100",
    "model": "resnet20",
    "method": METHODS.spec("random", sparsity=0.95),
    "optimizer": OPTIMIZERS.spec("sgd"),
    "seed": 1,
    "epochs": 161,
    "batch_size": 65,
    "lr": 0.2,
    "lr_min": 0.0,
    "momentum": 0.8,
    "weight_decay": 1e-4,
    "label_smoothing": 0.1,
    "precision": "bf16",
    "augment": False,
    "train_size": 5,
    "init": "released",
    "rho_start": 0.9,
    "evaluate_every": 5,
    "test_on": "wide",
    "label_noise": 0.2,
    "base": "adam",
    "schedule": "inverse-sqrt",
    "warmup": 100,
    "average": 5,
    "mask_stream": "own",
}


def test_the_fingerprint_of_a_run_never_changes():
    # Every record under results/ is addressed by such a value: a change here orphans them.
    assert paper_run().fingerprint == "2a17b3104624991b"


def test_the_fingerprint_covers_every_field():
    assert set(OTHER) == {f.name for f in dataclasses.fields(RunConfig)}
    fingerprints = {paper_run(**{name: value}).fingerprint for name, value in OTHER.items()}
    assert len(fingerprints | {paper_run().fingerprint}) == len(OTHER) + 1


def test_the_fingerprint_covers_every_option():
    def run(**options):
        return paper_run(method=METHODS.spec("random", sparsity=0.9, **options)).fingerprint

    assert run(distribution="erk") != run()
    assert paper_run(optimizer=OPTIMIZERS.spec("s2sam", rho=0.06)).fingerprint != run()


def test_an_option_younger_than_a_record_leaves_the_record_its_run(monkeypatch):
    old = {k: v for k, v in paper_run().to_dict().items() if k not in RunConfig.FIELD_BEFORE}
    assert old["method"]["distribution"] == "uniform"
    fingerprint = paper_run().fingerprint
    # As if the option had come later, and all runs before had been "erk".
    monkeypatch.setattr(METHODS["random"], "OPTION_BEFORE", {"distribution": "erk"}, raising=False)
    del old["method"]["distribution"]
    then = RunConfig.from_dict(old)
    assert then.method["distribution"] == "erk"
    assert then == paper_run(method=METHODS.spec("random", sparsity=0.9, distribution="erk"))
    # Left out of what is hashed where it is as before, and only there.
    canonical = json.dumps(old, sort_keys=True, separators=(",", ":"))
    assert then.fingerprint == hashlib.sha256(canonical.encode()).hexdigest()[:16]
    assert paper_run().fingerprint == fingerprint != then.fingerprint
    assert RunConfig.from_dict(then.to_dict()) == then


def test_a_field_younger_than_a_record_leaves_the_record_its_run():
    younger = {"init", "rho_start", "evaluate_every", "test_on", "label_noise"}
    younger |= {"base", "schedule", "warmup", "average", "mask_stream"}
    assert set(RunConfig.FIELD_BEFORE) == younger
    old = {k: v for k, v in paper_run().to_dict().items() if k not in RunConfig.FIELD_BEFORE}
    then = RunConfig.from_dict(old)
    assert (then.init, then.rho_start) == ("fan_in", 0.0)
    assert then == paper_run()
    canonical = json.dumps(old, sort_keys=True, separators=(",", ":"))
    assert then.fingerprint == hashlib.sha256(canonical.encode()).hexdigest()[:16]
    # In what is written down it is said, and read back alike.
    assert then.to_dict()["init"] == "fan_in"
    for changes in (
        {"init": "released"},
        {"rho_start": 0.5},
        {"evaluate_every": 2},
        {"test_on": "wide"},
        {"base": "adam"},
        {"schedule": "inverse-sqrt"},
        {"warmup": 100},
        {"average": 5},
        {"mask_stream": "own"},
    ):
        new = paper_run(**changes)
        assert new.fingerprint != then.fingerprint
        assert RunConfig.from_dict(new.to_dict()) == new


def test_a_config_can_be_sent_to_another_process():
    config = paper_run(init="released")
    assert pickle.loads(pickle.dumps(config)) == config
    assert set(vars(config)) == {f.name for f in dataclasses.fields(RunConfig)}


def test_fields_before_are_fields_of_the_right_type():
    names = {f.name for f in dataclasses.fields(RunConfig)}
    assert set(RunConfig.FIELD_BEFORE) <= names
    paper_run(**RunConfig.FIELD_BEFORE)


def test_options_before_are_options_of_the_right_type():
    for registry in (METHODS, OPTIMIZERS):
        for name in registry:
            before = registry.before(name)
            needed = {
                option: {"sparsity": 0.9, "round": 1}[option]
                for option, default in registry.defaults(name).items()
                if default is inspect.Parameter.empty
            }
            spec = registry.spec(name, **needed, **before)
            assert all(spec[option] == value for option, value in before.items())


def test_a_default_said_and_unsaid_is_one_run():
    plain = paper_run().to_dict()
    assert {f.name for f in dataclasses.fields(RunConfig)} == set(plain)
    assert plain["method"] == {"name": "random", "sparsity": 0.9, "distribution": "uniform"}
    said = paper_run(
        method=METHODS.spec("random", distribution="uniform", sparsity=0.9), batch_size=64, lr=0.1
    )
    assert said.fingerprint == paper_run().fingerprint


def test_a_whole_number_where_a_float_is_due_is_the_same_run():
    whole = paper_run(lr=1, momentum=0, optimizer=OPTIMIZERS.spec("s2sam", rho=1))
    point = paper_run(lr=1.0, momentum=0.0, optimizer=OPTIMIZERS.spec("s2sam", rho=1.0))
    assert whole == point and whole.fingerprint == point.fingerprint


@given(
    st.sampled_from(["rigl", "mest", "random", "snip"]),
    st.floats(0, 0.99),
    st.sampled_from(["sgd", "s2sam", "sam"]),
    st.integers(0, 2**32 - 1),
    st.floats(0, 10),
    st.booleans(),
)
def test_a_config_survives_json(method, sparsity, optimizer, seed, lr, augment):
    config = tiny(
        method=METHODS.spec(method, sparsity=sparsity),
        optimizer=OPTIMIZERS.spec(optimizer),
        seed=seed,
        lr=lr,
        augment=augment,
    )
    back = RunConfig.from_dict(json.loads(json.dumps(config.to_dict())))
    assert back == config and back.fingerprint == config.fingerprint


def test_the_order_of_a_files_lines_does_not_matter():
    plain = paper_run().to_dict()
    plain["method"] = dict(reversed(plain["method"].items()))
    assert RunConfig.from_dict(dict(reversed(plain.items()))) == paper_run()


def without(plain, name):
    return {k: v for k, v in plain.items() if k != name}


PLAIN = paper_run().to_dict()


@pytest.mark.parametrize(
    ("plain", "said"),
    [
        (None, "dictionary"),
        ([1], "dictionary"),
        ({}, "lacks 'augment'"),
        (without(PLAIN, "lr"), "lacks 'lr'"),  # it has a default, but nothing is filled in
        (without(PLAIN, "method"), "lacks 'method'"),
        ({**PLAIN, "dropout": 5}, "unknown 'dropout'"),
        ({**PLAIN, "method": "random"}, "no name"),
        ({**PLAIN, "method": without(PLAIN["method"], "name")}, "no name"),
        ({**PLAIN, "method": {"name": ["random"]}}, "no name"),
        ({**PLAIN, "method": without(PLAIN["method"], "distribution")}, "lacks 'distribution'"),
        ({**PLAIN, "method": {**PLAIN["method"], "zeta": 1}}, "unknown 'zeta'"),
        ({**PLAIN, "method": {"name": "prune-it-all"}}, "prune-it-all"),
        ({**PLAIN, "lr": "fast"}, "lr must be a number"),
        ({**PLAIN, "lr": None}, "lr must be a number"),
    ],
)
def test_what_is_no_config_is_refused_in_a_sentence(plain, said):
    with pytest.raises(UserError, match=said) as caught:
        RunConfig.from_dict(plain)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"dataset": "mnist"}, "unknown dataset 'mnist'; known are cifar10"),
        ({"model": "resnet9"}, "unknown model 'resnet9'"),
        ({"epochs": 0}, "epochs must be at least 1"),
        ({"epochs": 2.5}, "epochs must be a whole number"),
        ({"epochs": True}, "epochs must be a whole number"),
        ({"batch_size": -1}, "batch_size must be at least 1"),
        ({"lr": -0.1}, "lr must be at least 0"),
        ({"lr": float("nan")}, "lr must be finite"),
        ({"weight_decay": float("inf")}, "weight_decay must be finite"),
        ({"momentum": "much"}, "momentum must be a number"),
        ({"label_smoothing": 1.0}, "label_smoothing"),
        ({"label_noise": 1.0}, "label_noise"),
        ({"label_noise": -0.1}, "label_noise"),
        ({"precision": "fp8"}, "unknown precision 'fp8'"),
        ({"seed": -1}, "seed"),
        ({"seed": 2**32}, "seed"),
        ({"train_size": 0}, "train_size"),
        (
            {"init": "zeros"},
            "unknown init 'zeros'; known are fan_in, released, xavier, depth-scaled",
        ),
        ({"base": "lion"}, "unknown base 'lion'; known are sgd, adam"),
        ({"schedule": "steps"}, "unknown schedule 'steps'; known are cosine, inverse-sqrt"),
        ({"warmup": -1}, "warmup must be at least 0"),
        ({"warmup": 0.5}, "warmup must be a whole number"),
        ({"average": 0}, "average must be at least 1"),
        ({"mask_stream": "other"}, "unknown mask_stream .other.; known are own, weights"),
        ({"average": 161}, "average is 161, but the training has 160 epochs"),
        ({"rho_start": 1.5}, "rho_start must lie in"),
        ({"rho_start": -0.1}, "rho_start must lie in"),
        ({"rho_start": 0.5, "optimizer": OPTIMIZERS.spec("sgd")}, "sgd has no rho"),
        ({"rho_start": 0.5, "optimizer": OPTIMIZERS.spec("saf")}, "saf has no rho"),
        ({"augment": 1}, "augment must be true or false"),
        ({"method": METHODS.spec("random", sparsity=1.0)}, "sparsity must be at least 0"),
        ({"method": METHODS.spec("random", sparsity=-0.1)}, "sparsity must be at least 0"),
    ],
)
def test_a_value_out_of_range_is_refused_before_anything_is_trained(changes, said):
    with pytest.raises(UserError, match=said):
        paper_run(**changes)


def test_a_round_starts_from_the_round_before_and_the_first_from_dense_training():
    chain = [lottery(0.9, seed=3)]
    while (parent := chain[-1].parent()) is not None:
        chain.append(parent)
    assert [c.method.name for c in chain] == ["lt", "lt", "lt", "lt", "dense"]
    assert [c.method.get("round") for c in chain] == [4, 3, 2, 1, None]
    assert [c.method.get("sparsity") for c in chain] == [0.9, None, None, None, None]
    assert [round(c.sparsity, 4) for c in chain] == [0.9, 0.875, 0.75, 0.5, 0.0]
    assert {c.seed for c in chain} == {3}


def test_sparsities_of_one_chain_share_their_rounds():
    def ancestors(config):
        parent = config.parent()
        return [] if parent is None else [parent.fingerprint, *ancestors(parent)]

    assert set(ancestors(lottery(0.7))) < set(ancestors(lottery(0.9)))
    assert set(ancestors(lottery(0.7))) & set(ancestors(lottery(0.9, seed=1))) == set()


def test_a_run_that_starts_from_nothing_has_no_parent():
    assert tiny().parent() is None


def test_a_config_says_what_it_is():
    assert str(paper_run()) == "cifar10 resnet32x2 random 90.0% s2sam seed 0 (paper)"
