import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from paper_repro import models
from paper_repro.errors import UserError
from paper_repro.sparse import ChannelGroup, channel_groups, channel_masks, live_channels, prunable
from paper_repro.train.replicas import join_batch_norm


def network(name, channels=3):
    return models.build(name, classes=10, channels=channels, seed=0)


def test_a_residual_network_has_the_channels_within_its_blocks():
    groups = channel_groups(network("resnet_digits", 1))
    assert groups == (
        ChannelGroup(
            "stages.0.0.conv1.weight", ("stages.0.0.bn1",), ("stages.0.0.conv2.weight",), 16
        ),
        ChannelGroup(
            "stages.1.0.conv1.weight", ("stages.1.0.bn1",), ("stages.1.0.conv2.weight",), 32
        ),
    )
    assert groups[0].name == "stages.0.0.conv1"


def test_the_paper_s_networks():
    groups = channel_groups(network("resnet32x2"))
    assert [g.size for g in groups] == [32] * 5 + [64] * 5 + [128] * 5
    assert all(g.producer.endswith("conv1.weight") for g in groups)
    # A plain network is one chain, whose last channels the classifier reads.
    chain = channel_groups(network("vgg19"))
    assert len(chain) == 16
    assert all(a.consumers == (b.producer,) for a, b in itertools.pairwise(chain))
    assert chain[-1].consumers == ("fc.weight",)
    # Those that meet a depthwise convolution or a sum stay.
    assert [g.size for g in channel_groups(network("mobilenetv2"))] == [16, 320, 1280]


class Zoo(nn.Module):
    """One way out of the stem; ``path`` decides what its channels meet."""

    def __init__(self, path):
        super().__init__()
        self.path = path
        self.stem = nn.Conv2d(1, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.next = nn.Conv2d(4, 4, 1)
        self.other = nn.Conv2d(4, 3, 1)
        self.depthwise = nn.Conv2d(4, 4, 1, groups=4)
        self.layer_norm = nn.LayerNorm(6)
        self.out = nn.Linear(4, 2)
        self.wide = nn.Linear(4, 4)
        self.pool = nn.AdaptiveAvgPool2d(1)

    def forward(self, x):
        return getattr(self, self.path)(F.relu(self.norm(self.stem(x))))

    def two_readers(self, x):
        return self.next(F.max_pool2d(x, 2)), self.other(F.dropout(x.relu(), 0.1))

    def pooled(self, x):
        return self.out(self.pool(x).flatten(1))

    def averaged(self, x):
        return self.out(torch.mean(x, [-1, -2]))

    def output_too(self, x):
        return self.next(x), x

    def summed(self, x):
        return self.next(x) + x

    def grouped(self, x):
        return self.depthwise(x)

    def mixed_norm(self, x):
        return self.next(self.layer_norm(x))

    def twice(self, x):
        return self.next(self.next(x))

    def rows(self, x):
        return self.wide(x)  # reads the image's columns, four of them, not channels

    def averaged_channels(self, x):
        return self.wide(x.mean((1, 2)))

    def branching(self, x):
        return self.next(x) if x.sum() > 0 else x


@pytest.mark.parametrize(
    ("path", "consumers"),
    [
        ("two_readers", {"next.weight", "other.weight"}),
        ("pooled", {"out.weight"}),
        ("averaged", {"out.weight"}),
    ],
)
def test_what_treats_channels_one_by_one_is_followed(path, consumers):
    groups = channel_groups(Zoo(path))
    assert groups[0].producer == "stem.weight"
    assert groups[0].norms == ("norm",)
    assert set(groups[0].consumers) == consumers


@pytest.mark.parametrize(
    "path",
    ["output_too", "summed", "grouped", "mixed_norm", "twice", "rows", "averaged_channels"],
)
def test_channels_that_are_needed_elsewhere_are_in_no_group(path):
    with pytest.raises(UserError, match="no channels that can be removed"):
        channel_groups(Zoo(path))


def test_a_tied_weight_is_in_no_group():
    model = Zoo("two_readers")
    model.other = nn.Conv2d(4, 4, 1)
    model.other.weight = model.next.weight
    with pytest.raises(UserError, match="no channels"):
        channel_groups(model)


def test_a_forward_pass_that_depends_on_data_cannot_be_traced():
    with pytest.raises(UserError, match="cannot be traced"):
        channel_groups(Zoo("branching"))


def test_batch_norm_of_ranks_that_train_together_is_followed_too():
    model = network("resnet_digits", 1)
    groups = channel_groups(model)
    join_batch_norm(model)
    assert channel_groups(model) == groups


def test_tracing_leaves_the_model_as_it_was():
    model = network("resnet_digits", 1)
    model.stages[0].eval()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    modes, random = [m.training for m in model.modules()], torch.get_rng_state()
    channel_groups(model)
    assert modes == [m.training for m in model.modules()]
    assert torch.equal(random, torch.get_rng_state())
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_masks_cover_filters_and_what_reads_them():
    model = nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Conv2d(3, 2, 3), nn.ReLU(), nn.Conv2d(2, 2, 1)
    )
    groups = channel_groups(model)
    kept = {"0": torch.tensor([True, False, True]), "2": torch.tensor([False, True])}
    masks = channel_masks(model, groups, kept)
    assert set(masks) == {"0.weight", "2.weight", "4.weight"}
    assert masks["0.weight"].flatten(1).all(1).tolist() == [True, False, True]
    assert masks["0.weight"].flatten(1).any(1).tolist() == [True, False, True]
    middle = masks["2.weight"]
    assert middle[1, 0].all() and middle[1, 2].all()
    assert middle.sum() == 2 * 9
    assert masks["4.weight"][:, :, 0, 0].tolist() == [[False, True]] * 2
    assert {n: m.shape for n, m in masks.items()} == {
        n: w.shape for n, w in prunable(model).items()
    }


def test_a_channel_lives_as_long_as_something_live_reads_it():
    model = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 2), nn.Tanh(), nn.Linear(2, 1))
    with torch.no_grad():
        for w in prunable(model).values():
            w.fill_(1.0)
        model[0].weight[0] = 0  # a zero filter still has a bias
        model[2].weight[:, 1] = 0  # nobody reads hidden channel 1
        model[2].weight[1, 2] = 0  # channel 2 is read by the first filter alone ...
        model[4].weight[0, 0] = 0  # ... which nobody reads
    live = live_channels(model, channel_groups(model))
    assert live["2"].tolist() == [False, True]
    assert live["0"].tolist() == [True, False, False]
