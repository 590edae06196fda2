import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fourdnex.model.fusion import _FUSIONS, get_fusion

JOINED = {
    "width": lambda b, c, f, h, w: (b, c, f, h, 2 * w),
    "height": lambda b, c, f, h, w: (b, c, f, 2 * h, w),
    "frame": lambda b, c, f, h, w: (b, c, 2 * f, h, w),
    "batch": lambda b, c, f, h, w: (2 * b, c, f, h, w),
    "batch-cross-modal": lambda b, c, f, h, w: (2 * b, c, f, h, w),
    "channel": lambda b, c, f, h, w: (b, 2 * c, f, h, w),
}
sizes = st.tuples(*[st.integers(1, 4)] * 5)


def test_every_fusion_is_tested():
    assert JOINED.keys() == _FUSIONS.keys()


@pytest.mark.parametrize("name", JOINED)
@given(size=sizes)
def test_split_inverts_join(name, size):
    rgb, xyz = torch.arange(2 * torch.Size(size).numel()).view(2, *size)
    fusion = get_fusion(name)
    joined = fusion.join(rgb, xyz)
    assert joined.shape == JOINED[name](*size)
    first, second = fusion.split(joined)
    assert torch.equal(first, rgb) and torch.equal(second, xyz)


@pytest.mark.parametrize("name", ["width", "height", "frame"])
@given(grid=st.tuples(*[st.integers(1, 4)] * 3))
def test_shared_positions_are_those_of_each_modality(name, grid):
    """Splitting the joined table gives the table of one modality twice."""
    count = torch.Size(grid).numel()
    table = torch.arange(2 * count).view(1, count, 1, 2)
    fusion = get_fusion(name)
    joined_grid = JOINED[name](1, 2, *grid)[2:]
    joined = fusion.share_positions(table, grid).view(1, *joined_grid, 2).permute(0, 4, 1, 2, 3)
    expected = table.view(1, *grid, 2).permute(0, 4, 1, 2, 3)
    assert all(torch.equal(half, expected) for half in fusion.split(joined))


@pytest.mark.parametrize("name", JOINED)
@given(batch=st.integers(1, 4))
def test_there_is_one_condition_per_sequence(name, batch):
    fusion = get_fusion(name)
    shared = fusion.share_condition(torch.arange(batch))
    assert shared.tolist() == [pair for pair in range(batch) for _ in range(fusion.sequences_per_pair)]
