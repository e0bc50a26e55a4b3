"""Is what `make_run` plants really there, by numpy in float64 alone?"""

import numpy as np
import pytest

import wdyn
from wdyn import bins
from wdyn.errors import InvalidArgument
from wdyn.testing import make_run

STEPS = (0, 10, 40)


def weights(run, name):
    """Float64 weights (step, ...) of one full name, from the array that holds them."""
    for node in run["weights"].children.values():
        about = node.attrs["wdyn"]
        if name in about["names"]:
            value = node["value"].astype(np.float64)
            return value.sel(layer=about["layers"][about["names"].index(name)]) if about["layers"] else value
    raise AssertionError(name)


def stds(run, name):
    values = weights(run, name).values
    return values.reshape(len(values), -1).std(axis=1)


def test_std__is_the_one_planted():
    run = make_run(std={"tok.weight": 0.5, "*.mlp.*": 0.1}, steps=STEPS)
    np.testing.assert_allclose(stds(run, "tok.weight")[0], 0.5, rtol=1e-6)
    np.testing.assert_allclose(stds(run, "blocks.3.mlp.up.weight")[0], 0.1, rtol=1e-6)
    np.testing.assert_allclose(stds(run, "blocks.0.attn.qkv.weight")[0], 0.02, rtol=1e-6)


def test_growth__is_the_one_planted_and_linear_between():
    factors = (3.0, 2.0, 1.0, 0.5)
    run = make_run(growth_by_layer=factors, steps=STEPS)
    for layer, factor in enumerate(factors):
        for path in ("attn.qkv", "attn.proj", "mlp.up", "mlp.down"):
            grown = stds(run, f"blocks.{layer}.{path}.weight")
            np.testing.assert_allclose(grown / grown[0], 1 + (factor - 1) * np.array(STEPS) / 40, rtol=1e-5)


def test_tie__holds_until_it_breaks():
    run = make_run(steps=STEPS, tie_breaks_at=40)
    names = wdyn.parameters(run)["parameter"].values.tolist()
    shares = run["states"]["shares_with"].sel(parameter="head.weight").values.tolist()
    assert shares == [names.index("tok.weight")] * 2 + [names.index("head.weight")]
    head = weights(run, "head.weight")
    assert head["step"].values.tolist() == [40]
    assert not np.array_equal(head.sel(step=40), weights(run, "tok.weight").sel(step=40))
    assert wdyn.parameters(run)["tied_to"].sel(parameter="head.weight") == "tok.weight"


def test_tie__is_whole_without_a_break():
    run = make_run(steps=STEPS)
    both = run["statistics/weights"]["std"].sel(parameter=["tok.weight", "head.weight"]).values
    np.testing.assert_array_equal(both[:, 0], both[:, 1])
    with pytest.raises(AssertionError, match=r"head\.weight"):
        weights(run, "head.weight")


def test_untied_head__has_weights_of_its_own():
    run = make_run(steps=STEPS, tied=False)
    assert weights(run, "head.weight").sizes["step"] == 3
    assert set(wdyn.parameters(run)["tied_to"].values.tolist()) == {""}


@pytest.mark.parametrize(
    ("what", "trainable", "moves"),
    [("frozen", 0, False), ("moved", 0, True), ("still", 1, False), ("decayed", 1, True)],
)
def test_movement__is_the_one_planted(what, trainable, moves):
    run = make_run(steps=STEPS, **{what: ("blocks.1.*",)})
    for path in ("ln.weight", "attn.qkv.weight", "mlp.down.weight"):
        name = f"blocks.1.{path}"
        values = weights(run, name).values
        assert (run["states"]["trainable"].sel(parameter=name) == trainable).all()
        assert wdyn.parameters(run)["trainable"].sel(parameter=name) == bool(trainable)
        assert (not np.array_equal(values[0], values[-1])) == moves
        if what == "decayed":
            np.testing.assert_allclose(values[-1], 0.9 * values[0], rtol=1e-6)
        other = weights(run, f"blocks.0.{path}").values
        assert not np.allclose(other[0], other[-1], rtol=1e-3)


@pytest.mark.parametrize("name", ["tok.weight", "head.weight", "blocks.2.ln.bias"])
def test_nan__is_there_from_its_step_on(name):
    run = make_run(steps=STEPS, nan_at={name: 10})
    nans = run["statistics/weights"]["nans"].sel(parameter=name)
    assert nans.values.tolist() == [0, 1, 1]
    held = weights(run, "tok.weight" if name == "head.weight" else name).values
    assert [int(np.isnan(values).sum()) for values in held] == [0, 1, 1]
    if name != "blocks.2.ln.bias":  # tied names are one tensor, sick or not
        tied = run["statistics/weights"].sel(parameter=["tok.weight", "head.weight"])
        np.testing.assert_array_equal(tied["nans"][:, 0], tied["nans"][:, 1])
        np.testing.assert_array_equal(tied["std"][:, 0], tied["std"][:, 1])


def test_statistics__are_those_of_the_weights():
    run = make_run(steps=STEPS, growth_by_layer=2.0)
    found = wdyn.statistics(run)
    for name in found["parameter"].values.tolist():
        values = weights(run, "tok.weight" if name == "head.weight" else name).values
        flat = values.reshape(len(values), -1)
        own = found.sel(parameter=name)
        np.testing.assert_allclose(own["mean"], flat.mean(1), rtol=1e-12, atol=1e-15)
        np.testing.assert_allclose(own["std"], flat.std(1), rtol=1e-12)
        np.testing.assert_allclose(own["rms"], np.sqrt((flat**2).mean(1)), rtol=1e-12)
        np.testing.assert_allclose(own["l1"], np.abs(flat).sum(1), rtol=1e-12)
        np.testing.assert_allclose(own["l2"], np.linalg.norm(flat, axis=1), rtol=1e-12)
        np.testing.assert_array_equal(own["max"], flat.max(1))
        np.testing.assert_array_equal(own["min"], flat.min(1))
        np.testing.assert_array_equal(own["zeros"], (flat == 0).sum(1))
        assert (own["count"] == flat.shape[1]).all()


def test_run__is_the_same_on_disk_and_in_memory(tmp_path):
    held, kept = make_run(steps=STEPS), make_run(tmp_path / "run.zarr", steps=STEPS)
    assert kept.attrs["path"] == str(tmp_path / "run.zarr")
    assert "path" not in held.attrs
    for node in held.subtree:
        assert (
            node.to_dataset(inherit=False)
            .drop_attrs()
            .identical(kept[node.path].to_dataset(inherit=False).load().drop_attrs())
        )


def test_seed__makes_another_run():
    one, same, other = make_run(seed=1), make_run(seed=1), make_run(seed=2)
    np.testing.assert_array_equal(weights(one, "tok.weight"), weights(same, "tok.weight"))
    assert not np.array_equal(weights(one, "tok.weight"), weights(other, "tok.weight"))


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"frozen": ("blcks.*",)}, r"'blcks\.\*' matches no parameter; there are: tok\.weight"),
        ({"std": {"nothing": 1.0}}, "'nothing' matches no parameter"),
        ({"nan_at": {"gone": 3}}, "'gone' matches no parameter"),
        ({"growth_by_layer": (1.0,)}, "has 1 factors for 4 layers; give one for each"),
        ({"steps": ()}, "needed is at least one step, rising"),
        ({"steps": (3, 1)}, "needed is at least one step, rising"),
        ({"what": ("weights", "grads")}, r"what=\['grads'\]: these words are not known; give some of weights, updates"),
    ],
)
def test_what_cannot_be_planted__is_refused(options, match):
    with pytest.raises(InvalidArgument, match=match):
        make_run(**options)


def test_histograms__count_the_planted_weights_and_their_parts():
    run = make_run(steps=STEPS, nan_at={"blocks.1.attn.qkv.weight": 10})
    name = "blocks.1.attn.qkv.weight"
    for step in STEPS:
        fused = weights(run, name).sel(step=step).values
        slices = {"q": fused[:16], "k": fused[16:32], "v": fused[32:]}
        expected = np.bincount(bins.bin_of(fused).ravel(), minlength=bins.COUNT)
        np.testing.assert_array_equal(run["histograms/weights"]["count"].sel(step=step, parameter=name), expected)
        for part, values in slices.items():
            column = {"step": step, "part": f"{name}[{part}]"}
            counted = np.bincount(bins.bin_of(values).ravel(), minlength=bins.COUNT)
            np.testing.assert_array_equal(run["parts/histograms/weights"]["count"].sel(column), counted)
            std = run["parts/statistics/weights"]["std"].sel(column)
            np.testing.assert_allclose(std, np.nanstd(values), rtol=1e-9)
            assert run["parts"]["role"].sel(part=column["part"]) == part


WHAT = ("weights", "updates", "displacement", "gradients", "moments")


def test_updates__are_those_of_one_step_and_stand_to_the_weights_as_recorded():
    run = make_run(steps=(0, 9, 10), what=WHAT, growth_by_layer=2.0, still=("blocks.0.mlp.up.weight",))
    name = "blocks.1.mlp.up.weight"
    held = weights(run, name)
    moved = (held.sel(step=10) - held.sel(step=9)).values
    before = held.sel(step=9).values
    updates, related = run["statistics/updates"].sel(parameter=name), wdyn.relations(run).sel(parameter=name)
    np.testing.assert_allclose(updates["l2"].sel(step=10), np.linalg.norm(moved), rtol=1e-12)
    np.testing.assert_allclose(related["update_ratio"].sel(step=10), np.linalg.norm(moved) / np.linalg.norm(before))
    cosine = (moved * before).sum() / np.linalg.norm(moved) / np.linalg.norm(before)
    np.testing.assert_allclose(related["weight_cosine"].sel(step=10), cosine)
    assert related["update_gap"].sel(step=10) == 1
    assert related["update_cosine"].sel(step=10) > 0.999  # a straight way
    away = (held - held.sel(step=0)).values.reshape(3, -1)
    np.testing.assert_allclose(related["displacement"], np.linalg.norm(away, axis=1), rtol=1e-12)
    assert run["statistics/updates"]["l2"].sel(parameter="blocks.0.mlp.up.weight", step=10) == 0
    assert np.isnan(updates["l2"].sel(step=0))


def test_moments__are_those_of_adam_for_a_gradient_that_never_changes():
    run = make_run(steps=(0, 1, 7), what=WHAT, frozen=("blocks.0.*",), still=("blocks.1.mlp.up.weight",))
    result = wdyn.optimizer_state(run)
    trained = result.sel(parameter="blocks.2.attn.proj.weight")
    for name in ("gradient", "first_moment", "second_moment"):
        np.testing.assert_allclose(trained[name].sel(step=[1, 7]), 0.01, rtol=1e-9)
    np.testing.assert_allclose(trained["effective_step"].sel(step=[1, 7]), 1e-3, rtol=1e-4)
    np.testing.assert_allclose(run["statistics/exp_avg"]["rms"].sel(step=7)[0], 0.01 * (1 - 0.9**7))
    assert result["gradient"].sel(parameter=["blocks.0.ln.weight", "blocks.1.mlp.up.weight"]).isnull().all()


def test_weights__are_the_same_whatever_else_is_recorded():
    plain, full = make_run(steps=STEPS), make_run(steps=STEPS, what=WHAT)
    assert set(plain["statistics"].children) == {"weights"}
    for name in ("tok.weight", "blocks.3.mlp.down.weight"):
        np.testing.assert_array_equal(weights(plain, name), weights(full, name))


def test_copies__differ_where_planted_and_nowhere_else():
    made = make_run(steps=STEPS, layers=2, replicas_differ={"blocks.1.*": (0, 2, -1), "blocks.*": (0, 0, 1)})
    differ = made["states"]["replicas_differ"]
    np.testing.assert_array_equal(differ.sel(parameter="blocks.1.ln.weight"), [0, 2, np.nan])
    np.testing.assert_array_equal(differ.sel(parameter="blocks.0.ln.weight"), [0, 0, 1])
    assert not differ.sel(parameter=["tok.weight", "head.weight"]).any()
    assert made.attrs["wdyn"]["attempts"][0]["processes"] == 3
    assert make_run(replicas_differ={}).attrs["wdyn"]["attempts"][0]["processes"] == 2
    assert "replicas_differ" not in make_run()["states"]
    with pytest.raises(InvalidArgument, match=r"has \{2\} counts for 3 steps"):
        make_run(steps=STEPS, replicas_differ={"blocks.*": (0, 1)})
