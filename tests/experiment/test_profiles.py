import dataclasses
from pathlib import Path

import pytest

from paper_repro import models
from paper_repro.errors import UserError
from paper_repro.experiment.profiles import PROFILES, profile
from paper_repro.experiment.records import Records
from paper_repro.optim import OPTIMIZERS

SGD = OPTIMIZERS.spec("sgd")


def run(name, dataset="cifar10", **settings):
    size = profile(name)
    return size.config(dataset, "resnet32x2", size.method("dense"), SGD, 0, **settings)


def test_the_paper_profile_is_the_papers_setting():
    config, size = run("paper"), profile("paper")
    assert (config.dataset, config.model, config.epochs) == ("cifar10", "resnet32x2", 160)
    assert (config.batch_size, config.lr, config.lr_min) == (64, 0.1, 4e-8)
    assert (config.momentum, config.weight_decay, config.label_smoothing) == (0.9, 5e-4, 0.0)
    assert config.augment and config.train_size is None and len(size.seeds) == 3
    assert list(size.datasets) == ["cifar10", "cifar100", "imagenet", "wmt14"]
    assert size.prune_ratio == 0.2
    network = models.build(config.model, classes=10, channels=3, seed=0)
    assert sum(p.numel() for p in network.parameters()) == 1_860_522


def test_a_data_set_has_settings_of_its_own():
    def translate(name, **settings):
        size = profile(name)
        return size.config("wmt14", "transformer_base", size.method("dense"), SGD, 0, **settings)

    base = translate("paper")
    assert (base.dataset, base.model, base.base) == ("wmt14", "transformer_base", "adam")
    assert (base.schedule, base.warmup, base.label_smoothing) == ("inverse-sqrt", 4000, 0.1)
    assert base.precision == "tf32" and run("paper").base == "sgd"  # the others are the profile's
    assert translate("cpu").dataset == "multi30k" and translate("cpu").model == "transformer_tiny"
    assert translate("smoke").dataset == "phrases" and translate("smoke", warmup=3).warmup == 3
    with pytest.raises(UserError, match="the cpu-bf16-12 profile has nothing"):
        translate("cpu-bf16-12")


def test_only_the_smoke_profile_is_no_evidence():
    assert [name for name, size in PROFILES.items() if not size.evidence] == ["smoke"]
    assert run("smoke").dataset == "digits" and run("smoke").model == "resnet_digits"


def test_a_profile_is_known_by_its_name_and_its_runs_bear_it():
    for name, size in PROFILES.items():
        assert size.name == name and size.seeds
        assert run(name).profile == (size.runs_as or name)


def test_profiles_do_not_share_runs():
    assert len({run(name).fingerprint for name in PROFILES}) == len(PROFILES)


def test_evidence_is_trained_in_an_arithmetic_that_epsilon_survives():
    assert run("cpu").precision == "float32"
    assert run("paper").precision == "tf32"  # the authors' GPUs' convolutions


def test_the_first_records_are_runs_of_their_own_profile_still():
    """What `cpu` was when they were made is `cpu-bf16-12` now; they stay in results/cpu."""
    size = profile("cpu-bf16-12")
    records = Records(Path(__file__).parents[2] / "results")
    mest = size.method("mest", sparsity=0.9)
    for optimizer in ("sgd", "s2sam", "sam"):
        spec = OPTIMIZERS.spec(optimizer)
        config = size.config("cifar10", "resnet32x2", mest, spec, 0)
        assert records.path(config).parent.name == "cpu"
        assert records.get(config) is not None
        now = profile("cpu").config("cifar10", "resnet32x2", mest, spec, 0)
        assert now.fingerprint != config.fingerprint


def test_options_win_over_the_profiles_and_those_over_the_methods():
    size = profile("smoke")
    assert size.method("rigl", sparsity=0.9)["delta_t"] == 20
    assert size.method("rigl", sparsity=0.9, delta_t=3)["delta_t"] == 3
    assert profile("paper").method("rigl", sparsity=0.9)["delta_t"] == 100
    assert run("smoke", epochs=3).epochs == 3 and run("smoke").epochs == 20


def test_a_multiplier_lengthens_the_training():
    assert run("paper", multiplier=1.7).epochs == 272
    assert run("smoke", epochs=1, multiplier=0.5).epochs == 1
    with pytest.raises(UserError, match=r"a multiplier of 0.1 makes 0.1 epochs"):
        run("smoke", epochs=1, multiplier=0.1)
    with pytest.raises(UserError, match="epochs must be at least 1"):
        run("smoke", epochs=0)
    for multiplier in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(UserError, match="multiplier"):
            run("paper", multiplier=multiplier)


def imagenet(name, model="resnet50", **settings):
    size = profile(name)
    return size.config("imagenet", model, size.method("dense"), SGD, 0, **settings)


@pytest.mark.usefixtures("imagenets")
def test_the_papers_imagenet_has_settings_of_its_own():
    config = imagenet("paper")
    assert (config.dataset, config.model, config.epochs) == ("imagenet", "resnet50", 150)
    assert (config.batch_size, config.lr, config.weight_decay) == (256, 0.1, 1e-4)
    assert (config.label_smoothing, config.precision) == (0.1, "tf32")
    assert (profile("paper").rho("imagenet"), profile("paper").rho("cifar10")) == (1.0, 0.05)
    assert imagenet("paper", epochs=3).epochs == 3


@pytest.mark.usefixtures("imagenets")
def test_a_network_may_differ_on_any_data_set():
    """350 epochs of MobileNet-V2 and EfficientNet-B0, the data set's other settings as they are."""
    efficient = imagenet("paper", "efficientnet_b0")
    assert (efficient.epochs, efficient.weight_decay) == (350, 1e-4)
    size = profile("paper")
    mobile = size.config("cifar10", "mobilenetv2", size.method("dense"), SGD, 0)
    assert (mobile.epochs, mobile.weight_decay) == (350, 5e-4)


@pytest.mark.usefixtures("imagenets")
def test_a_data_set_with_settings_of_its_own_has_nothing_of_the_profiles_others():
    size = dataclasses.replace(
        profile("cpu"), settings={"epochs": 7, "train_size": 100, "test_on": "wide", "lr": 3.0}
    )
    method = size.method("dense")
    assert size.config("cifar10", "resnet32x2", method, SGD, 0).train_size == 100
    config = size.config("imagenet", "resnet32x2", method, SGD, 0)
    assert (config.train_size, config.test_on, config.lr) == (None, "official", 0.1)
    config = size.config("cifar100", "resnet32x2", method, SGD, 0)
    assert (config.train_size, config.lr) == (5_000, 0.1)


@pytest.mark.usefixtures("imagenets")
@pytest.mark.parametrize("name", ["smoke", "cpu", "paper"])
def test_every_network_of_the_paper_can_be_built_at_every_size(name):
    size = profile(name)
    pairs = [("cifar10", m) for m in ("resnet32x2", "vgg19", "mobilenetv2")]
    pairs += [("imagenet", m) for m in ("resnet34", "resnet50", "efficientnet_b0")]
    for dataset, model in pairs:
        config = size.config(dataset, model, size.method("dense"), SGD, 0)
        assert config.model in models.MODELS
        assert config.dataset == size.datasets[dataset]
    assert imagenet("smoke").dataset == "digits"


def test_an_unknown_profile_is_answered_with_the_known_ones():
    with pytest.raises(UserError, match="unknown profile 'huge'; known are smoke, cpu, "):
        profile("huge")


def test_a_data_set_without_a_stand_in_is_refused():
    with pytest.raises(UserError, match=r"the cpu-bf16-12 profile has nothing .* 'cifar100'"):
        run("cpu-bf16-12", dataset="cifar100")


def test_a_profile_cannot_be_changed_by_accident():
    size = profile("smoke")
    with pytest.raises(TypeError):
        size.settings["epochs"] = 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        size.seeds = (0,)
