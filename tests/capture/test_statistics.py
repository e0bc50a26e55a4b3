"""Are the numbers of a tensor those that float64 numpy gives?"""

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from wdyn import bins, schema
from wdyn.capture import host_sums, statistics, threads
from wdyn.capture.device_sums import device_sums
from wdyn.capture.statistics import Measured, measure
from wdyn.capture.sums import NAMES
from wdyn.errors import InvalidArgument

RELATIVE = 1e-12
EXACT = ("min", "max", "abs_max", "count", "zeros", "nonfinite", "nans", "infs")
NARROW = [torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2]


def wide(tensor: torch.Tensor) -> np.ndarray:
    """The numbers that are to be measured, in float64."""
    host = tensor.detach()
    return (host.to(torch.complex128).abs() if host.is_complex() else host.double()).numpy()


def reference(values: np.ndarray) -> dict[str, float]:
    """The textbook, in long double."""
    flat = values.astype(np.longdouble).ravel()
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


def assert_equal_numbers(measured: Measured, values: np.ndarray, *, relative: float = RELATIVE, at: int = 0) -> None:
    expected, got = reference(values), measured.statistics()
    scale = float(expected["rms"])
    for name, value in expected.items():
        if name in EXACT:
            assert got[name][at] == float(value), name
        else:
            absolute = relative * scale if name == "mean" else relative
            np.testing.assert_allclose(got[name][at], float(value), rtol=relative, atol=absolute, err_msg=name)
    counts = np.bincount(bins.bin_of(values.astype(np.float64)).ravel(), minlength=bins.COUNT)
    np.testing.assert_array_equal(measured.histograms[at], counts)


def assert_right(tensor: torch.Tensor, *, relative: float = RELATIVE) -> None:
    assert_equal_numbers(measure([tensor]), wide(tensor), relative=relative)


def on_device(populations: list[tuple[torch.Tensor, ...]]) -> tuple[np.ndarray, np.ndarray]:
    """What an accelerator would do, done here."""
    return device_sums(populations)


@pytest.fixture(autouse=True, params=["compiled", "plain", "device"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """All ways of summing must give the same numbers."""
    if request.param == "compiled":
        pytest.importorskip("numba")
        monkeypatch.setattr(host_sums, "best_way", lambda elements: host_sums._compiled_or_plain())
        assert host_sums.best_way(1) is not host_sums.PLAIN
    elif request.param == "plain":
        monkeypatch.setattr(host_sums, "best_way", lambda elements: host_sums.PLAIN)
    else:
        monkeypatch.setattr(statistics, "host_sums", on_device)
    return request.param


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, *NARROW])
@pytest.mark.parametrize("shape", [(192, 576), (4, 3, 7, 7), (1000,)])
def test_measure__equals_long_double_numpy(
    dtype: torch.dtype, shape: tuple[int, ...], generator: torch.Generator
) -> None:
    assert_right((torch.randn(shape, generator=generator) * 0.02).to(dtype))


def test_measure__of_a_large_embedding_equals_float64_numpy(way: str, generator: torch.Generator) -> None:
    # Whole blocks summed in float32 would be off by 1e-3 here.
    tensor = torch.randn(50257, 768 if way == "compiled" else 96, generator=generator) * 0.02
    got, double = measure([tensor]), tensor.double().numpy()
    numbers = got.statistics()
    np.testing.assert_allclose(numbers["std"][0], double.std(), rtol=RELATIVE)
    np.testing.assert_allclose(numbers["l1"][0], np.abs(double).sum(), rtol=RELATIVE)
    np.testing.assert_allclose(numbers["l2"][0], np.sqrt((double * double).sum()), rtol=RELATIVE)
    assert got.histograms[0].sum() == double.size
    some = np.searchsorted(bins.magnitudes(), [0.01])[0]  # all between 0.01 and the edge above it, by comparison
    low, high = bins.magnitudes()[some : some + 2]
    assert got.histograms[0, bins.POSITIVE_UNDERFLOW + 1 + some] == ((double >= low) & (double < high)).sum()


@pytest.mark.parametrize(
    "values",
    [
        pytest.param(lambda g: torch.randn(1000, generator=g) * 1e-40, id="denormals"),
        pytest.param(lambda g: torch.randn(1000, generator=g).clamp(-3, 3) * 1e38, id="near the largest float32"),
        pytest.param(lambda g: torch.randn(1000, generator=g, dtype=torch.float64) * 1e60, id="beyond float32"),
        pytest.param(lambda g: torch.randn(1000, generator=g, dtype=torch.float64) * 1e-60, id="below float32"),
        pytest.param(lambda g: torch.randn(400, 300, generator=g).t(), id="transposed"),
        pytest.param(lambda g: torch.randn(400, 300, generator=g)[::3, 1::2], id="strided"),
        pytest.param(lambda g: torch.randn(90, 3, 8, 30, generator=g)[:, 1, ::2, 3:20], id="four axes"),
        pytest.param(lambda g: torch.randn(60, 1800, generator=g)[:, 600:1200], id="part of a fused weight"),
        pytest.param(lambda g: torch.randn(60, 9, 16, generator=g).half()[:, 1::3], id="part by head, float16"),
        pytest.param(lambda g: torch.randn(7, generator=g).expand(50, 7), id="expanded"),
        pytest.param(lambda g: torch.randint(-128, 127, (999,), generator=g, dtype=torch.int8), id="int8"),
        pytest.param(lambda g: torch.randint(0, 255, (999,), generator=g, dtype=torch.uint8), id="uint8"),
        pytest.param(lambda g: torch.randint(-30000, 30000, (999,), generator=g, dtype=torch.int16), id="int16"),
        pytest.param(lambda g: torch.randint(-(2**40), 2**40, (999,), generator=g), id="int64"),
        pytest.param(lambda g: torch.randn(999, generator=g, dtype=torch.complex64), id="complex, by modulus"),
        pytest.param(lambda g: torch.randn(40, 30, generator=g, dtype=torch.complex64).t().conj(), id="conjugated"),
        pytest.param(lambda g: torch.randn(999, generator=g) * (torch.rand(999, generator=g) > 0.5), id="half zero"),
        pytest.param(lambda g: -torch.zeros(99) * torch.randn(99, generator=g).sign(), id="zeros of either sign"),
        pytest.param(lambda g: torch.tensor([True, False, True]), id="bool"),
        pytest.param(lambda g: torch.tensor([0.5, -2.0]), id="two"),
        pytest.param(lambda g: torch.cat([torch.randn(4000, generator=g) + far for far in (0, 1e3, -1e5)]), id="jumps"),
    ],
)
def test_measure__holds_for_odd_tensors(values: object, generator: torch.Generator) -> None:
    assert_right(values(generator))


def test_measure__holds_where_the_mean_is_far_larger_than_the_deviation(generator: torch.Generator) -> None:
    # A mean of 1e4 beside a std of 1e-3 is itself rounded to 1e-9 of the std, which is what skewness is measured in.
    tensor = 1e4 + 1e-3 * torch.randn(300_000, generator=generator, dtype=torch.float64)
    assert_right(tensor, relative=1e-8)
    np.testing.assert_allclose(measure([tensor]).statistics()["std"][0], tensor.numpy().std(), rtol=RELATIVE)


def test_std__of_a_huge_mean_does_not_collapse() -> None:
    # E[x^2] - E[x]^2 in float32 gives 0 here.
    tensor = 1e4 + torch.tensor([-0.25, 0.25]).repeat(50_000)
    assert measure([tensor]).statistics()["std"][0] == pytest.approx(0.25, rel=1e-9)


def test_l2__of_squares_beyond_float32_stays_finite() -> None:
    assert measure([torch.full((4,), 1e38)]).statistics()["l2"][0] == pytest.approx(2e38, rel=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, *NARROW])
def test_measure__counts_nan_and_inf_and_measures_the_rest(dtype: torch.dtype, generator: torch.Generator) -> None:
    tensor = torch.randn(100_000, generator=generator).to(dtype)
    tensor[[0, 7, 70_000]] = torch.nan
    infinite = tensor[1:2].clone().fill_(torch.inf).float().isinf().item()  # e4m3fn has no infinity
    if infinite:
        tensor[1], tensor[99_999] = torch.inf, -torch.inf
    assert_right(tensor)
    got = measure([tensor])
    assert (got.statistics()["nans"][0], got.statistics()["infs"][0]) == (3, 2 * infinite)
    assert got.histograms[0, [bins.NAN, bins.NEGATIVE_OVERFLOW, bins.POSITIVE_OVERFLOW]].tolist() == [
        3, infinite, infinite
    ]  # fmt: skip


def test_measure__counts_signalling_nans_without_a_warning() -> None:
    bits = torch.tensor([0x7F800001, 0x7FC00000, 0x3F800000, -1], dtype=torch.int32)
    got = measure([bits.view(torch.float32)])
    assert (got.statistics()["nans"][0], got.statistics()["max"][0], got.histograms[0, bins.NAN]) == (3, 1.0, 3)


def test_measure__of_a_difference_of_infinities_counts_a_nan() -> None:
    got = measure([torch.tensor([torch.inf, 2.0])], minus=[torch.tensor([torch.inf, 1.0])])
    assert (got.statistics()["nans"][0], got.statistics()["mean"][0], got.histograms[0, bins.NAN]) == (1, 1.0, 1)


def test_measure__of_nothing_finite_gives_nan_with_the_count_kept() -> None:
    got = measure([torch.full((5,), torch.nan), torch.ones(3)]).statistics()
    assert got["count"][0] == got["nans"][0] == 5
    assert all(np.isnan(got[name][0]) for name in ("mean", "std", "rms", "min", "max", "abs_max", "kurtosis"))
    assert got["mean"][1] == 1


def test_measure__of_an_empty_tensor_gives_nan_with_count_zero() -> None:
    measured = measure([torch.empty(0, 5)])
    got = measured.statistics()
    assert got["count"][0] == got["zeros"][0] == got["nonfinite"][0] == measured.histograms.sum() == 0
    assert got["l1"][0] == got["l2"][0] == 0
    assert np.isnan([got[name][0] for name in ("mean", "std", "min", "max")]).all()


@pytest.mark.parametrize("tensor", [torch.tensor(3.5), torch.tensor([3.5]), torch.tensor([[3.5]]).half()])
def test_measure__of_one_element(tensor: torch.Tensor) -> None:
    got = measure([tensor]).statistics()
    assert got["mean"][0] == got["rms"][0] == got["min"][0] == got["max"][0] == 3.5
    assert got["std"][0] == 0
    assert np.isnan(got["kurtosis"][0])


@pytest.mark.parametrize("value", [0.1, -7e30, 3e-39, 0.0, -0.0])
def test_measure__of_equal_elements_has_std_zero_exactly(value: float) -> None:
    tensor = torch.full((200_001,), value)
    got = measure([tensor, tensor[:3]]).statistics()
    assert got["std"].tolist() == [0, 0]
    assert got["mean"].tolist() == [tensor[0].item()] * 2


def test_measure__marks_absent_tensors_and_keeps_their_place() -> None:
    measured = measure([None, torch.ones(3), None])
    got = measured.statistics()
    assert np.isnan(got["mean"]).tolist() == [True, False, True]
    assert got["count"].tolist() == [-1, 3, -1]
    assert got["count"].dtype == np.int64
    assert measured.histograms.sum(-1).tolist() == [0, 3, 0]
    assert np.isnan(measured.sums[[0, 2]]).all()


def test_measure__of_many_small_and_large_tensors_keeps_them_apart(generator: torch.Generator) -> None:
    sizes = [3, 0, 1, 70_000, 5, 131_072, 9, *[7] * 80]
    dtypes = [torch.float32, torch.float64, torch.bfloat16, torch.float32]
    tensors = [
        (torch.randn(n, generator=generator) + n % 10).to(dtypes[at % 4]) for at, n in enumerate(sizes)
    ]  # fmt: skip
    measured = measure(tensors)
    for at, tensor in enumerate(tensors):
        if tensor.numel() > 1:
            assert_equal_numbers(measured, wide(tensor), at=at, relative=1e-11)
        assert measured.histograms[at].sum() == tensor.numel()


def test_measure__on_several_threads_equals_one(monkeypatch: pytest.MonkeyPatch, generator: torch.Generator) -> None:
    monkeypatch.setattr(threads, "_WORTH_THREADS", 0)
    tensor = torch.randn(1_100_001, generator=generator)
    found = []
    for count in (1, 3):
        monkeypatch.setattr(torch, "get_num_threads", lambda count=count: count)
        found.append(measure([tensor, None, tensor[:9], tensor[9:99].double()]))
    np.testing.assert_array_equal(found[0].sums, found[1].sums)
    np.testing.assert_array_equal(found[0].histograms, found[1].histograms)


def test_statistics__know_every_name_of_the_schema() -> None:
    assert set(statistics.statistics([torch.ones(2)])) == set(schema.STATISTIC_NAMES)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int8])
def test_measure__takes_differences_in_float64(dtype: torch.dtype, generator: torch.Generator) -> None:
    before = (50 * torch.randn(3, 5000, generator=generator)).to(dtype)
    after = (before.double() * 1.01).to(dtype)
    got = measure([after, after.t(), after[:, :0]], minus=[before, before.t(), before[:, :0]])
    assert_equal_numbers(got, wide(after) - wide(before))
    assert_equal_numbers(got, (wide(after) - wide(before)).T, at=1)
    assert got.histograms[2].sum() == 0


def test_measure__takes_differences_of_unlike_tensors(generator: torch.Generator) -> None:
    after, before = torch.randn(40, 50, generator=generator), torch.randn(50, 40, generator=generator).bfloat16().t()
    assert_equal_numbers(measure([after], minus=[before]), wide(after) - wide(before))
    assert_equal_numbers(measure([after, before], minus=[None, after]), wide(before) - wide(after), at=1)


def test_measure__of_a_complex_difference_is_of_its_modulus() -> None:
    before, after = torch.tensor([1 + 1j, 2 + 0j]), torch.tensor([1 + 4j, 2 + 4j])
    assert measure([after], minus=[before]).statistics()["max"][0] == 4


def test_measure__of_a_difference_of_unequal_shapes_is_refused() -> None:
    with pytest.raises(InvalidArgument, match=r"\(2, 3\) and \(3,\)"):
        measure([torch.ones(2, 3)], minus=[torch.ones(3)])


def test_measure__leaves_the_tensor_and_the_random_state_alone(generator: torch.Generator) -> None:
    tensor = torch.randn(100, generator=generator, requires_grad=True)
    kept, state = tensor.detach().clone(), torch.get_rng_state()
    measure([tensor], minus=[kept])
    assert torch.equal(tensor, kept)
    assert tensor.grad is None
    assert torch.equal(torch.get_rng_state(), state)


finite = st.floats(-1e3, 1e3).map(lambda x: x if abs(x) > 1e-30 else 0.0)
several = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=30)


@several
@given(hnp.arrays(np.float64, st.integers(2, 80), elements=finite), st.lists(st.integers(0, 80), max_size=5))
def test_joined__parts_of_any_partition_are_the_whole(values: np.ndarray, cuts: list[int]) -> None:
    parts = [torch.from_numpy(part) for part in np.split(values, sorted(min(cut, len(values)) for cut in cuts))]
    measured, order = measure([*parts, torch.from_numpy(values)]), list(range(len(parts)))
    got = measured.joined([order, order[::-1], [len(parts)]])
    bound = RELATIVE * len(values) * max(np.abs(values).max(), 1e-70) ** np.array([0, 1, 2, 3, 4, 1, 1, 1, 0, 0, 0])
    for one in got.sums[:2]:
        assert (np.abs(one - got.sums[2]) <= bound).all()
    np.testing.assert_array_equal(got.histograms[:2], got.histograms[[2, 2]])


def test_joined__thirds_of_a_fused_weight_are_the_whole(generator: torch.Generator) -> None:
    fused = torch.randn(64, 192, generator=generator) * torch.tensor([0.01, 1, 5]).repeat_interleave(64)
    parts = [fused.narrow(1, 64 * part, 64) for part in range(3)]
    got = measure(parts).joined([[0, 1, 2], [1]])
    assert_equal_numbers(got, wide(fused))
    assert_equal_numbers(got, wide(parts[1]), at=1)


def test_joined__with_a_part_that_is_absent_is_absent_and_of_nothing_is_empty() -> None:
    got = measure([torch.ones(2), None]).joined([[0, 1], [], [0]])
    assert got.statistics()["count"].tolist() == [-1, 0, 2]
    assert np.isnan(got.sums[0]).all()
    assert got.histograms.sum(-1).tolist() == [0, 0, 2]


@several
@given(hnp.arrays(np.float32, st.integers(1, 60), elements=st.floats(width=32, allow_subnormal=True)))
def test_histogram__counts_each_value_in_its_bin(values: np.ndarray) -> None:
    measured = measure([torch.from_numpy(values)])
    lower, upper = bins.edges()
    for value in values.astype(np.float64):
        (at,) = bins.bin_of(np.array([value]))
        assert np.isnan(value) or lower[at] <= value <= upper[at]
    expected = np.bincount(bins.bin_of(values.astype(np.float64)), minlength=bins.COUNT)
    np.testing.assert_array_equal(measured.histograms[0], expected)
    zeros, nans = (measured.sums[0, NAMES.index(name)] for name in ("zeros", "nans"))
    assert (zeros, nans) == (expected[bins.ZERO], expected[bins.NAN])


@several
@given(
    hnp.arrays(np.float64, st.integers(2, 50), elements=st.floats(-1, 1).filter(lambda x: x == 0 or abs(x) > 1e-3)),
    st.floats(0.125, 8),
)
def test_std__scales_with_the_weights(values: np.ndarray, factor: float) -> None:
    one, scaled = measure([torch.from_numpy(x) for x in (values, factor * values)]).statistics()["std"]
    np.testing.assert_allclose(scaled, factor * one, rtol=1e-9, atol=1e-12)


@pytest.mark.long
def test_measure__counts_beyond_the_range_of_int32(way: str) -> None:
    if way == "device":
        pytest.skip("takes minutes on a processor")
    numbers = torch.arange(-3, 5, dtype=torch.int8)
    count = (1 << 28) + 1
    got = measure([numbers.repeat(count), numbers[:, None].expand(8, count)])
    for at in range(2):
        numbers_of = {name: values[at] for name, values in got.statistics().items()}
        assert numbers_of["count"] == 8 * count > 1 << 31
        assert numbers_of["zeros"] == got.histograms[at, bins.ZERO] == count
        np.testing.assert_allclose(numbers_of["std"], np.arange(-3, 5).std(), rtol=RELATIVE)
        np.testing.assert_allclose(numbers_of["mean"], 0.5, rtol=RELATIVE)


@pytest.mark.parametrize("cut", [False, True])
def test_statistics__of_numbers_whose_powers_leave_float64_are_infinite_and_warn_of_nothing(cut: bool) -> None:
    values = torch.tensor([1e100, -1e100, 3e100, 2e100], dtype=torch.float64)
    whole = measure([values[:3], values[3:]]).joined([[0, 1]]) if cut else measure([values])
    found = {name: one[0] for name, one in whole.statistics().items()}
    wide = values.numpy().astype(np.longdouble)
    for name, right in {"mean": wide.mean(), "std": wide.std(), "l1": np.abs(wide).sum(), "max": wide.max()}.items():
        np.testing.assert_allclose(found[name], float(right), rtol=1e-12)
    assert not np.isfinite(found["kurtosis"])  # its fourth powers are beyond 1e400
    assert found["nonfinite"] == 0


def test_joined__adds_the_counts_of_each_group_and_none_to_an_empty_one() -> None:
    random = torch.Generator().manual_seed(0)
    parts = [torch.randn(size, generator=random) for size in (5, 0, 7, 3)]
    groups = [[], [2], [], [0, 3, 1], [1], []]
    found = measure(parts).joined(groups)
    expected = measure([torch.cat([*(parts[at] for at in group), torch.empty(0)]) for group in groups])
    np.testing.assert_array_equal(found.histograms, expected.histograms)
    np.testing.assert_allclose(found.sums, expected.sums, rtol=1e-12, atol=1e-12)
    assert found.histograms.sum(1).tolist() == [0, 7, 0, 8, 0, 0]
