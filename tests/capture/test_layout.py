"""Are tensors cut into views that hold each element once, and equal places together?"""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from wdyn.capture.layout import pieces
from wdyn.errors import InvalidArgument


def whole() -> torch.Tensor:
    return torch.arange(6 * 8 * 10.0).view(6, 8, 10)


VIEWS = {
    "contiguous": lambda t: t,
    "transposed": lambda t: t.transpose(0, 2),
    "rows of a fused weight": lambda t: t[:, 2:5],
    "columns": lambda t: t[..., 3:7],
    "every second": lambda t: t[:, :, ::2],
    "every second of every axis": lambda t: t[::2, 1::2, ::3],
    "repeated": lambda t: t[:1].expand(6, 8, 10),
    "one element": lambda t: t[1, 1, 1],
    "empty": lambda t: t[:0],
}


@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
@pytest.mark.parametrize("size", [1, 7, 33, 1000])
def test_pieces__hold_each_element_once_and_share_its_memory(view, size: int) -> None:
    base = whole()
    tensor = view(base)
    cut = [piece for (piece,) in pieces((tensor,), size=size)]
    assert all(0 < piece.numel() <= size for piece in cut)
    assert all(piece.untyped_storage().data_ptr() == base.untyped_storage().data_ptr() for piece in cut)
    found = torch.cat([piece.reshape(-1) for piece in cut]) if cut else torch.empty(0)
    assert torch.equal(found.sort().values, tensor.reshape(-1).sort().values)


@given(st.sampled_from([name for name in VIEWS if name != "repeated"]), st.permutations([0, 1, 2]), st.integers(1, 500))
def test_pieces__keep_equal_places_of_tensors_together(name: str, order: list[int], size: int) -> None:
    tensor = VIEWS[name](whole())
    other = torch.empty(tensor.shape)
    if tensor.dim() == 3:
        lengths = [tensor.shape[axis] for axis in order]
        other = torch.empty(lengths).permute([order.index(axis) for axis in range(3)])
    other.copy_(2 * tensor)
    seen = 0
    for one, two in pieces((tensor, other), size=size):
        assert torch.equal(two, 2 * one)
        seen += one.numel()
    assert seen == tensor.numel()


@pytest.mark.parametrize(
    ("view", "axes"),
    [(lambda t: t.transpose(0, 2), 1), (lambda t: t[:, 2:5], 2), (lambda t: t.transpose(0, 1)[2:5], 2)],
)
def test_pieces__have_as_few_axes_as_the_memory_allows(view, axes: int) -> None:
    ((piece,),) = pieces((view(whole()),), size=1000)
    assert piece.dim() == axes
    assert piece.stride(-1) == 1


def test_pieces__of_unequal_shapes_are_refused() -> None:
    with pytest.raises(InvalidArgument, match=r"shapes \(2, 3\) and \(3, 2\)"):
        list(pieces((torch.ones(2, 3), torch.ones(3, 2)), size=9))


def test_pieces__of_a_conjugated_or_negated_view_hold_its_values() -> None:
    tensor = torch.tensor([1 + 2j, 3 - 4j])
    ((piece,),) = pieces((tensor.conj().imag,), size=9)
    assert piece.tolist() == [-2, 4]
