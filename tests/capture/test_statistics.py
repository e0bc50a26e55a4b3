"""Are the numbers of a tensor those that float64 numpy gives?"""

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from wdyn import schema
from wdyn.capture import host_sums
from wdyn.capture.statistics import statistics

RELATIVE = 1e-12


def reference(values: np.ndarray) -> dict[str, float]:
    """The textbook, in float64 (longdouble where it must be)."""
    wide = np.abs(values) if np.iscomplexobj(values) else values.astype(np.longdouble)
    flat = wide.astype(np.longdouble).ravel()
    x = flat[np.isfinite(flat)]
    d = x - x.mean()
    m2 = (d**2).mean()
    return {
        "mean": x.mean(),
        "std": np.sqrt(m2),
        "rms": np.sqrt((x**2).mean()),
        "min": x.min(),
        "max": x.max(),
        "abs_max": np.abs(x).max(),
        "l1": np.abs(x).sum(),
        "l2": np.sqrt((x**2).sum()),
        "skewness": (d**3).mean() / m2**1.5 if m2 else np.nan,
        "kurtosis": (d**4).mean() / m2**2 if m2 else np.nan,
        "count": flat.size,
        "zeros": (flat == 0).sum(),
        "nonfinite": flat.size - x.size,
        "nans": np.isnan(flat).sum(),
        "infs": np.isinf(flat).sum(),
    }


def assert_right(tensor: torch.Tensor, *, relative: float = RELATIVE) -> None:
    got = {name: values[0] for name, values in statistics([tensor]).items()}
    host = tensor.detach().cpu()
    expected = reference((host.to(torch.complex128) if host.is_complex() else host.double()).numpy())
    scale = float(expected["rms"])
    for name, value in expected.items():
        absolute = relative * scale if name in ("mean", "min", "max") else relative
        np.testing.assert_allclose(got[name], float(value), rtol=relative, atol=absolute, err_msg=name)


@pytest.fixture(autouse=True, params=["compiled", "numpy"])
def kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways of summing must give the same numbers."""
    if request.param == "compiled":
        pytest.importorskip("numba")
        monkeypatch.setattr(host_sums, "WORTH_COMPILING", 0)
        assert host_sums.kernel(1) is not host_sums.numpy_sums


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn])
@pytest.mark.parametrize("shape", [(768, 2304), (4, 3, 7, 7), (1000,)])
def test_statistics__equal_float64_numpy(
    dtype: torch.dtype, shape: tuple[int, ...], generator: torch.Generator
) -> None:
    assert_right((torch.randn(shape, generator=generator) * 0.02).to(dtype))


@pytest.mark.parametrize(
    "values",
    [
        pytest.param(lambda g: 1e4 + 1e-3 * torch.randn(300_000, generator=g, dtype=torch.float64), id="huge mean"),
        pytest.param(lambda g: torch.randn(1000, generator=g) * 1e-40, id="denormals"),
        pytest.param(lambda g: torch.randn(1000, generator=g).clamp(-3, 3) * 1e38, id="near the largest float32"),
        pytest.param(lambda g: torch.randn(400, 300, generator=g).t(), id="transposed"),
        pytest.param(lambda g: torch.randn(400, 300, generator=g)[::3, 1::2], id="strided"),
        pytest.param(lambda g: torch.randint(-128, 127, (999,), generator=g, dtype=torch.int8), id="int8"),
        pytest.param(lambda g: torch.randn(999, generator=g, dtype=torch.complex64), id="complex, by modulus"),
        pytest.param(lambda g: torch.randn(999, generator=g) * (torch.rand(999, generator=g) > 0.5), id="half zero"),
        pytest.param(lambda g: torch.tensor([True, False, True]), id="bool"),
    ],
)
def test_statistics__hold_for_odd_tensors(values: object, generator: torch.Generator) -> None:
    # A mean of 1e4 beside a std of 1e-3 is itself rounded to 1e-9 of the std, which is what skewness is measured in.
    assert_right(values(generator), relative=5e-9)


def test_statistics__std_of_a_huge_mean_does_not_collapse() -> None:
    # E[x^2] - E[x]^2 in float32 gives 0 here.
    tensor = 1e4 + torch.tensor([-0.25, 0.25]).repeat(50_000)
    assert statistics([tensor])["std"][0] == pytest.approx(0.25, rel=1e-9)


def test_statistics__sum_of_squares_beyond_float32_stays_finite() -> None:
    assert statistics([torch.full((4,), 1e38)])["l2"][0] == pytest.approx(2e38, rel=1e-6)


def test_statistics__nan_and_inf_are_counted_and_the_rest_still_measured(generator: torch.Generator) -> None:
    tensor = torch.randn(600_000, generator=generator)
    tensor[[0, 7, 300_000]] = torch.nan
    tensor[1], tensor[599_999] = torch.inf, -torch.inf
    assert_right(tensor)
    got = statistics([tensor])
    assert (got["nans"][0], got["infs"][0], got["nonfinite"][0]) == (3, 2, 5)


def test_statistics__count_signalling_nans_without_a_warning() -> None:
    bits = torch.tensor([0x7F800001, 0x7FC00000, 0x3F800000], dtype=torch.int32)
    got = statistics([bits.view(torch.float32)])
    assert (got["nans"][0], got["max"][0]) == (2, 1.0)


def test_statistics__of_a_difference_of_infinities_count_a_nan() -> None:
    got = statistics([torch.tensor([torch.inf, 2.0])], minus=[torch.tensor([torch.inf, 1.0])])
    assert (got["nans"][0], got["mean"][0]) == (1, 1.0)


def test_statistics__of_nothing_finite_are_nan_with_the_count_kept() -> None:
    got = statistics([torch.full((5,), torch.nan)])
    assert got["count"][0] == got["nans"][0] == 5
    assert all(np.isnan(got[name][0]) for name in ("mean", "std", "rms", "min", "max", "abs_max", "kurtosis"))


def test_statistics__of_an_empty_tensor_are_nan_with_count_zero() -> None:
    got = statistics([torch.empty(0, 5)])
    assert got["count"][0] == got["zeros"][0] == got["nonfinite"][0] == 0
    assert got["l1"][0] == got["l2"][0] == 0
    assert np.isnan([got[name][0] for name in ("mean", "std", "min", "max")]).all()


@pytest.mark.parametrize("tensor", [torch.tensor(3.5), torch.tensor([3.5])])
def test_statistics__of_one_element(tensor: torch.Tensor) -> None:
    got = statistics([tensor])
    assert got["mean"][0] == got["rms"][0] == got["min"][0] == got["max"][0] == 3.5
    assert got["std"][0] == 0
    assert np.isnan(got["kurtosis"][0])


def test_statistics__of_equal_elements_have_std_zero_exactly() -> None:
    assert statistics([torch.full((700_001,), 0.1)])["std"][0] == 0


def test_statistics__absent_tensors_are_marked_and_keep_their_place() -> None:
    got = statistics([None, torch.ones(3), None])
    assert np.isnan(got["mean"]).tolist() == [True, False, True]
    assert got["count"].tolist() == [-1, 3, -1]
    assert got["count"].dtype == np.int64


def test_statistics__know_every_name_of_the_schema() -> None:
    assert set(statistics([torch.ones(2)])) == set(schema.STATISTIC_NAMES)


def test_statistics__of_a_difference_are_taken_in_float64(generator: torch.Generator) -> None:
    before = torch.randn(5000, generator=generator).to(torch.bfloat16)
    after = (before.double() * 1.01).to(torch.bfloat16)
    got = statistics([after], minus=[before])
    expected = np.linalg.norm(after.double().numpy() - before.double().numpy())
    np.testing.assert_allclose(got["l2"][0], expected, rtol=1e-13)


def test_statistics__of_a_complex_difference_are_of_its_modulus() -> None:
    before, after = torch.tensor([1 + 1j, 2 + 0j]), torch.tensor([1 + 4j, 2 + 4j])
    assert statistics([after], minus=[before])["max"][0] == 4


def test_statistics__leave_the_tensor_and_the_random_state_alone(generator: torch.Generator) -> None:
    tensor = torch.randn(100, generator=generator, requires_grad=True)
    kept, state = tensor.detach().clone(), torch.get_rng_state()
    statistics([tensor])
    assert torch.equal(tensor, kept)
    assert tensor.grad is None
    assert torch.equal(torch.get_rng_state(), state)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    hnp.arrays(np.float64, st.integers(2, 50), elements=st.floats(-1, 1).filter(lambda x: x == 0 or abs(x) > 1e-3)),
    st.floats(0.125, 8),
)
def test_std__scales_with_the_weights(values: np.ndarray, factor: float) -> None:
    one, scaled = (statistics([torch.from_numpy(x)])["std"][0] for x in (values, factor * values))
    np.testing.assert_allclose(scaled, factor * one, rtol=1e-9, atol=1e-12)
