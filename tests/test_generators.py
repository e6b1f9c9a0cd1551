"""A generator goes on from a state of its own kind exactly, and from any other's repeatably."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from paper_repro.generators import go_on


def drawn(generator):
    return torch.rand(5, generator=generator).tolist()


@given(st.integers(0, 2**32), st.integers(0, 5))
def test_from_its_own_kind_it_draws_what_that_one_would_have(seed, before):
    one = torch.Generator().manual_seed(seed)
    torch.rand(before, generator=one)
    other = torch.Generator().manual_seed(seed + 1)
    go_on(other, one.get_state())
    assert drawn(other) == drawn(one)


@given(st.binary(min_size=16, max_size=16), st.binary(min_size=16, max_size=16))
def test_from_another_kind_it_draws_the_same_from_the_same_state_alone(a, b):
    ends = []
    for state in (a, a, b):
        generator = torch.Generator().manual_seed(len(ends))
        go_on(generator, torch.frombuffer(bytearray(state), dtype=torch.uint8))
        ends.append(drawn(generator))
    assert ends[0] == ends[1] and (ends[0] == ends[2]) == (a == b)
