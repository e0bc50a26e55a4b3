"""Are inner products those of float64 numpy, wherever they are taken?"""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from wdyn.capture import statistics
from wdyn.capture.products import device_products
from wdyn.capture.statistics import products
from wdyn.errors import InvalidArgument


@pytest.fixture(autouse=True, params=["host", "device"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """What an accelerator would do gives the same numbers."""
    if request.param == "device":
        monkeypatch.setattr(statistics, "host_products", device_products)


@pytest.fixture
def draw() -> Callable[..., torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return lambda *shape, **options: torch.randn(*shape, generator=generator, **options)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_products__equal_float64_numpy(dtype: torch.dtype, draw: Callable[..., torch.Tensor]) -> None:
    after, before, other = draw(300, 400).to(dtype), draw(300, 400).to(dtype), draw(300, 400).to(dtype)
    update = after.double().numpy() - before.double().numpy()
    against = other.double().numpy()
    got = products([after, after.t(), after[:, ::3]], minus=[before, before.t(), before[:, ::3]],
                   others=[other, other.t(), other[:, ::3]])  # fmt: skip
    expected = [[(update * against).sum(), (against**2).sum()]] * 2
    expected += [[(update * against)[:, ::3].sum(), (against[:, ::3] ** 2).sum()]]
    np.testing.assert_allclose(got, expected, rtol=1e-11)


def test_products__of_tiny_updates_of_large_weights_keep_their_digits() -> None:
    # In float32 the update of 1 by 1e-9 would be lost.
    before = torch.ones(1000, dtype=torch.float64)
    got = products([before + 1e-9], minus=[before], others=[before])
    np.testing.assert_allclose(got, [[1e-6, 1000]], rtol=1e-6)


def test_products__of_complex_numbers_take_the_real_part(draw: Callable[..., torch.Tensor]) -> None:
    after, before, other = (draw(3, 50, dtype=torch.complex64) for _ in range(3))
    got = products([after], minus=[before], others=[other.conj()])
    update = after.to(torch.complex128) - before.to(torch.complex128)
    inner = (update * other.to(torch.complex128)).sum().real  # conjugated twice
    np.testing.assert_allclose(got, [[inner, other.to(torch.complex128).abs().square().sum()]], rtol=1e-11)


def test_products__are_nan_where_anything_is_absent_or_nan() -> None:
    one = torch.ones(2)
    got = products(
        [one, None, one, one, one], minus=[None, one, one, one, one], others=[one, one, None, one * torch.nan, one]
    )
    assert np.isnan(got).all(1).tolist() == [True, True, True, True, False]
    np.testing.assert_array_equal(got[4], [0, 2])


def test_products__of_empty_tensors_are_zero() -> None:
    nothing = torch.empty(0, 3)
    np.testing.assert_array_equal(products([nothing], minus=[nothing], others=[nothing]), [[0, 0]])


def test_products__of_unequal_shapes_are_refused() -> None:
    with pytest.raises(InvalidArgument, match=r"\(2,\) and \(2,\) and \(3,\)"):
        products([torch.ones(2)], minus=[torch.ones(2)], others=[torch.ones(3)])


def test_products__of_infinities_are_not_finite_and_warn_of_nothing() -> None:
    infinite = torch.tensor([torch.inf, 1.0])
    got = products([infinite, infinite], minus=[infinite, torch.ones(2)], others=[torch.ones(2), torch.zeros(2)])
    assert np.isnan(got[:, 0]).all()
    np.testing.assert_array_equal(got[:, 1], [2, 0])
