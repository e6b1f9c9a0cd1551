import math

import pytest
import torch
from torch import nn

from paper_repro import models
from paper_repro.data.pairs import Teacher
from paper_repro.models.init import depth_scaled_, xavier_
from paper_repro.models.transformer import Transformer

SHAPE = {"width": 16, "layers": 2, "heads": 4, "inner": 24, "dropout": 0.0}


def make(pre_norm=False, **changes):
    torch.manual_seed(0)
    return Transformer(11, pre_norm=pre_norm, **{**SHAPE, **changes}).double()


def batch():
    """Three sentences of different lengths, filled up at their ends."""
    generator = torch.Generator().manual_seed(1)
    source = torch.randint(4, 11, (3, 7), generator=generator)
    target = torch.randint(4, 11, (3, 5), generator=generator)
    source[1, 4:] = 0
    target[2, 3:] = 0
    return Teacher(source, target)


def attention_into(theirs, own):
    parts = (own.query, own.key, own.value)
    theirs.in_proj_weight.copy_(torch.cat([p.weight for p in parts]))
    theirs.in_proj_bias.copy_(torch.cat([p.bias for p in parts]))
    theirs.out_proj.load_state_dict(own.out.state_dict())


@torch.no_grad()
def theirs(model, pre_norm):
    """``torch.nn.Transformer`` with a model's weights."""
    # Its own stacks would end in a norm in any case, which the original Transformer does not have.
    finals = [nn.LayerNorm(16) if pre_norm else None for _ in range(2)]
    options = {"dropout": 0.0, "batch_first": True, "norm_first": pre_norm}
    encoder = nn.TransformerEncoder(
        nn.TransformerEncoderLayer(16, 4, 24, **options), 2, finals[0], enable_nested_tensor=False
    )
    decoder = nn.TransformerDecoder(nn.TransformerDecoderLayer(16, 4, 24, **options), 2, finals[1])
    whole = nn.Transformer(16, 4, custom_encoder=encoder, custom_decoder=decoder, batch_first=True)
    for layer, own in (*zip(encoder.layers, model.encoder), *zip(decoder.layers, model.decoder)):  # noqa: B905
        attention_into(layer.self_attn, own.attention)
        if hasattr(own, "cross"):
            attention_into(layer.multihead_attn, own.cross)
        layer.linear1.load_state_dict(own.feed_forward.up.state_dict())
        layer.linear2.load_state_dict(own.feed_forward.down.state_dict())
        for i, norm in enumerate(own.norms, 1):
            getattr(layer, f"norm{i}").load_state_dict(norm.state_dict())
    for final, own in zip(finals, (model.encoder_norm, model.decoder_norm), strict=True):
        if final is not None:
            final.load_state_dict(own.state_dict())
    return whole.double()


def positions(length, width):
    """Section 3.5 of Vaswani et al., term by term."""
    rows = [
        [
            (math.sin if i % 2 == 0 else math.cos)(at / 10_000 ** (2 * (i // 2) / width))
            for i in range(width)
        ]
        for at in range(length)
    ]
    return torch.tensor(rows, dtype=torch.float64)


@pytest.mark.parametrize("pre_norm", [False, True])
def test_it_is_torchs_transformer_to_rounding_with_its_gradients(pre_norm):
    model, data = make(pre_norm), batch()
    with torch.no_grad():  # away from what norms and biases start as
        for p in model.parameters():
            p.add_(0.1 * torch.randn_like(p))
    other = theirs(model, pre_norm)
    table = model.embedding.weight.detach().clone().requires_grad_()

    def embed(tokens):
        # Positions are made in float32, as a network's activations are.
        return table[tokens] * 4.0 + positions(tokens.shape[1], 16)

    hidden = other(
        embed(data.source),
        embed(data.target),
        tgt_mask=nn.Transformer.generate_square_subsequent_mask(5, dtype=torch.float64),
        src_key_padding_mask=data.source == 0,
        memory_key_padding_mask=data.source == 0,
    )
    reference = hidden @ table.T
    ours = model(data)
    real = data.target != 0
    torch.testing.assert_close(ours[real], reference[real], rtol=0, atol=3e-6)
    ours[real].logsumexp(-1).sum().backward()
    reference[real].logsumexp(-1).sum().backward()
    torch.testing.assert_close(model.embedding.weight.grad, table.grad, rtol=1e-5, atol=1e-5)
    for own, layer in zip(model.decoder, other.decoder.layers, strict=True):
        parts = (own.cross.query, own.cross.key, own.cross.value)
        joined = torch.cat([p.weight.grad for p in parts])
        torch.testing.assert_close(
            joined, layer.multihead_attn.in_proj_weight.grad, rtol=1e-5, atol=1e-5
        )


@pytest.mark.parametrize("pre_norm", [False, True])
def test_filling_changes_nothing(pre_norm):
    model, data = make(pre_norm), batch()
    whole = model(data)
    alone = model(Teacher(data.source[1:2, :4], data.target[1:2]))
    torch.testing.assert_close(whole[1:2], alone)
    longer = torch.cat([data.target, torch.zeros(3, 4, dtype=torch.int64)], 1)
    torch.testing.assert_close(model(Teacher(data.source, longer))[:, :5], whole)


def test_no_target_token_sees_a_later_one():
    model, data = make(), batch()
    changed = data.target.clone()
    changed[:, 3:] = 9
    before, after = model(data), model(Teacher(data.source, changed))
    assert torch.equal(before[:, :3], after[:, :3]) and not torch.equal(before[:, 3], after[:, 3])


@pytest.mark.parametrize("pre_norm", [False, True])
def test_decoding_step_by_step_with_a_cache_is_the_whole_pass(pre_norm):
    model, data = make(pre_norm).eval(), batch()
    with torch.no_grad():
        whole = model(data)
        caches = model.begin(data.source)
        steps = [model.step(data.target[:, t], t, caches) for t in range(5)]
        torch.testing.assert_close(torch.stack(steps, 1), whole)
        # Two hypotheses of each sentence, then one of the third and the first sentence alone.
        caches = model.begin(data.source)
        model.step(data.target[:, 0], 0, caches)
        for cache in caches:
            cache.select(torch.tensor([0, 0, 1, 1, 2, 2]), None)
        model.step(data.target[:, 1].repeat_interleave(2), 1, caches)
        for cache in caches:
            cache.select(torch.tensor([4, 1]), torch.tensor([2, 0]))
        last = model.step(data.target[[2, 0], 2], 2, caches)
        torch.testing.assert_close(last, whole[[2, 0], 2])


def test_source_target_and_output_share_one_embedding():
    model = make()
    assert model.out.weight is model.embedding.weight
    assert sum("weight" in n and p.shape == (11, 16) for n, p in model.named_parameters()) == 1


def test_dropout_acts_in_training_alone_and_only_there_draws():
    model, data = make(dropout=0.5), batch()
    torch.manual_seed(3)
    one = model(data)
    torch.manual_seed(3)
    assert torch.equal(one, model(data)) and not torch.equal(one, model(data))
    model.eval()
    state = torch.get_rng_state()
    assert torch.equal(model(data), model(data)) and torch.equal(state, torch.get_rng_state())


SIZES = {
    # Embedding, encoder, decoder: a layer's projections with biases, feed-forward, norms.
    "transformer_base": 37_000 * 512 + 6 * (4 * 262_656 + 2_099_712 + 2 * 1024)
    + 6 * (8 * 262_656 + 2_099_712 + 3 * 1024),
    "transformer_tiny": 4_000 * 128 + 4 * (4 * 16_512 + 65_920 + 2 * 256)
    + 4 * (8 * 16_512 + 65_920 + 3 * 256),
    "transformer_toy": 374 * 64 + 2 * (4 * 4_160 + 16_576 + 2 * 128)
    + 2 * (8 * 4_160 + 16_576 + 3 * 128),
}  # fmt: skip
VOCABULARIES = {"transformer_base": 37_000, "transformer_tiny": 4_000, "transformer_toy": 374}


@pytest.mark.parametrize("name", SIZES)
def test_parameters(name):
    with torch.device("meta"):  # to be counted, no more
        network = models.MODELS[name](classes=VOCABULARIES[name])
    assert sum(p.numel() for p in network.parameters()) == SIZES[name]


def test_weights_are_a_function_of_the_seed_and_drawn_as_asked():
    def weights(seed=0, init="xavier"):
        network = models.build("transformer_toy", classes=50, seed=seed, init=init)
        return network.state_dict()

    once, again, other = weights(), weights(), weights(1)
    assert all(torch.equal(once[name], again[name]) for name in once)
    name = "encoder.0.feed_forward.up.weight"
    assert not torch.equal(once[name], other[name])
    bound = math.sqrt(6 / (64 + 128))
    assert 0.9 * bound < once[name].abs().max() <= bound
    assert once["embedding.weight"].std() == pytest.approx(64**-0.5, rel=0.1)
    assert not once["encoder.0.feed_forward.up.bias"].any()
    assert weights(init="fan_in")[name].std() == pytest.approx(math.sqrt(2 / 64), rel=0.1)
    assert weights(init="released")[name].std() == pytest.approx(0.01, rel=0.1)


def test_depth_scaled_weights_shorten_with_depth_and_join_an_attentions_projections():
    ours, plain = (models.build("transformer_toy", classes=50, seed=0) for _ in range(2))
    for network, draw in ((ours, depth_scaled_), (plain, xavier_)):
        torch.manual_seed(0)
        draw(network)
    # The toy has two layers a stack. What lies in none is drawn as without it.
    for (name, weight), other in zip(ours.named_parameters(), plain.parameters(), strict=True):
        scale = 1.0
        if name.startswith(("encoder", "decoder")) and weight.ndim == 2:
            depth, layer = int(name.split(".")[1]) + 1, name.split(".")[-2]
            scale = depth**-0.5 * (2**-0.5 if layer in ("query", "key", "value") else 1)
        torch.testing.assert_close(weight, scale * other, rtol=1e-6, atol=0)
    torch.manual_seed(0)
    theirs = nn.MultiheadAttention(64, 4).in_proj_weight  # [3 x 64, 64]
    for attention in (ours.encoder[0].attention, ours.decoder[0].cross):
        parts = torch.cat([p.weight for p in (attention.query, attention.key, attention.value)])
        assert parts.abs().max().item() == pytest.approx(theirs.abs().max().item(), rel=1e-3)


def test_an_exported_program_leaves_nothing_behind():
    class Bare(nn.Module):
        def __init__(self):
            super().__init__()
            self.model = Transformer(11, **{**SHAPE, "width": 20})  # a width that no test has used

        def forward(self, source, target):
            return self.model(Teacher(source, target))

    torch.manual_seed(0)
    bare, data = Bare().eval(), batch()
    program = torch.export.export(bare, (data.source, data.target))
    assert type(bare(data.source, data.target)) is torch.Tensor
    torch.testing.assert_close(
        program.module()(data.source, data.target), bare(data.source, data.target)
    )
