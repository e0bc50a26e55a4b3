"""Is every damage found, and told by parameter, step and file?"""

import json
import random
import shutil

import numpy as np
import pytest

import wdyn
from wdyn.errors import InvalidArgument, NewerFormat, NotARun
from wdyn.store.verifying import verify
from wdyn.testing import make_run

FLIPS = 12


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    path = tmp_path_factory.mktemp("original") / "run.zarr"
    make_run(path, layers=2, width=8, vocab=16)
    return path


@pytest.fixture
def run(original, tmp_path):
    return shutil.copytree(original, tmp_path / "run.zarr")


def files_of(run):
    return sorted(file for file in run.rglob("*") if file.is_file() and file.parent.name != ".wdyn")


def told_of(run, file):
    """Give the damages that name a file."""
    return [one for one in verify(run).damages if one.file == file.relative_to(run).as_posix()]


def flipped(data, bit):
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << (bit % 8)
    return bytes(changed)


DAMAGES = {
    "flip": lambda data, rng: flipped(data, rng.randrange(8 * len(data))),
    "truncated": lambda data, rng: data[: rng.randrange(len(data))],
    "longer": lambda data, rng: data + b"\0",
    "empty": lambda data, rng: b"",
    "zeroed": lambda data, rng: bytes(len(data)),
    "missing": lambda data, rng: None,
}


def damage(file, how, rng):
    """Damage a file; give what it held."""
    data = file.read_bytes()
    changed = DAMAGES[how](data, rng)
    if changed is None:
        file.unlink()
    else:
        file.write_bytes(changed)
    return data


def all_are_told(run, how, count, seed):
    rng, files = random.Random(seed), files_of(run)
    for number in range(count):
        file = rng.choice(files)
        held = damage(file, how, rng)
        told = told_of(run, file)
        assert told, f"{how} number {number} of {file} was not told"
        if file.parent.name == "value" and file.name != "zarr.json":  # metadata is of all rows
            assert told[0].parameters
            assert told[0].steps
        file.write_bytes(held)
    assert verify(run).is_whole


def test_verify__finds_nothing_in_a_whole_run(run):
    found = verify(run)
    assert found.is_whole
    assert found.damages == ()
    chunks = [file for file in files_of(run) if file.name != "zarr.json"]
    assert (found.files, found.nbytes) == (len(chunks), sum(file.stat().st_size for file in chunks))
    assert verify(wdyn.open_run(run)) == found


@pytest.mark.parametrize("how", DAMAGES)
def test_verify__tells_of_damage_anywhere(run, how):
    all_are_told(run, how, FLIPS if how == "flip" else 4, seed=1)


@pytest.mark.long
@pytest.mark.parametrize("how", DAMAGES)
def test_verify__tells_of_200_damages(run, how):
    all_are_told(run, how, 200, seed=2)


def test_verify__names_the_parameter_the_steps_and_the_file(run):
    value = next(run.glob("weights/blocks-attn-qkv*/value"))
    (value / "c.1.0.0.0").write_bytes(b"")
    (one,) = verify(run).damages
    assert one.parameters == ("blocks.0.attn.qkv.weight", "blocks.1.attn.qkv.weight")
    assert one.steps == (10, 10)
    assert one.file == f"{(value / 'c.1.0.0.0').relative_to(run)}"
    assert str(one).startswith(
        f"{value.relative_to(run)} of blocks.0.attn.qkv.weight, blocks.1.attn.qkv.weight at step 10:"
    )


def test_verify__names_the_one_layer_of_a_shard_that_is_damaged(tmp_path, monkeypatch):
    monkeypatch.setattr("wdyn.store.weights._INNER_BYTES", 64)
    run = tmp_path / "run.zarr"
    make_run(run, layers=3, width=8, vocab=16)
    file = next(run.glob("weights/blocks-mlp-up*/value")) / "c.2.0.0.0"
    data = file.read_bytes()
    file.write_bytes(flipped(data, 8 * (len(data) // 2)))
    (one,) = verify(run).damages
    assert one.parameters == ("blocks.1.mlp.up.weight",)
    assert one.steps == (100, 100)


def test_verify__knows_which_chunks_were_never_written(oracle, place):
    """Nothing is said of `late` before step 260; a chunk in which nothing is recorded is none that is lost."""
    with oracle.writer(place) as writer:
        writer.append(oracle.batch(0, declare=oracle.declaration()))
        for step in range(1, 300):
            late = {"late": np.array(float(step))} if step >= 260 else {}
            writer.append(oracle.Batch(step, (oracle.Row("scalars", step, {**oracle.scalars(step), **late}),)))
    assert not (place / "scalars/late/c.0").exists()
    node = json.loads((place / "zarr.json").read_text())["consolidated_metadata"]["metadata"]["scalars/late"]
    assert node["attributes"]["unwritten"] == [[[0, 1]]]
    assert verify(place).is_whole
    with oracle.writer(place, resume=True, attempt={"resumed_from_step": 299}) as writer:
        writer.append(oracle.batch(300, snapshot=False))
    assert verify(place).is_whole
    (place / "scalars/late/c.1").unlink()
    (one,) = verify(place).damages
    assert (one.file, one.steps, one.reason) == ("scalars/late/c.1", (256, 300), "it is missing")


def test_verify__of_a_run_that_is_being_written(oracle, place):
    with oracle.writer(place) as writer:
        for step in range(3):
            writer.append(oracle.batch(step, declare=oracle.declaration() if step == 0 else None))
            writer.commit()
            assert verify(place).is_whole


def edit(run, change):
    """Edit the root as its writer would have written it."""
    from wdyn.store import sealing

    root = json.loads((run / "zarr.json").read_text())
    change(root["attributes"]["wdyn"], root["consolidated_metadata"]["metadata"])
    root["attributes"] = sealing.with_room(root["attributes"])
    (run / "zarr.json").write_bytes(sealing.seal(json.dumps(root, separators=(",", ":")).encode()))


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda about, nodes: about["rows"].update(states=7), "it has 3 rows, and the run tells 7"),
        (lambda about, nodes: nodes["weights/tok-weight-0000"]["attributes"]["wdyn"].update(names=["x"]), "lacks x"),
        (
            lambda about, nodes: nodes["weights/blocks-ln-bias-0003"]["attributes"]["wdyn"].update(layers=[0, 4]),
            r"its layers are not \[0, 4\]",
        ),
    ],
)  # fmt: skip
def test_verify__tells_what_does_not_agree(run, change, match):
    edit(run, change)
    assert any(np.char.find([str(one)], match.replace("\\", ""))[0] >= 0 for one in verify(run).damages)


def rewrite(file, values):
    from wdyn.store import encoding

    file.write_bytes(b"".join(encoding.small_chunk(values)))


def test_verify__tells_of_steps_that_do_not_rise(run):
    steps = np.full(256, -1, dtype=np.int64)
    steps[:3] = 0, 100, 100
    length = json.loads((run / "states/step/zarr.json").read_text())["chunk_grid"]["configuration"]["chunk_shape"][0]
    rewrite(run / "states/step/c.0", steps[:length])
    (one,) = verify(run).damages
    assert "its steps do not rise: 100 comes before 100" in one.reason
    assert one.file == "states/step/c.0"


def test_verify__tells_of_names_that_are_not_those_of_the_table(run):
    shutil.copy(run / "parts/parameter/c.0", run / "statistics/weights/parameter/c.0")
    told = told_of(run, run / "statistics/weights/parameter/c.0")
    assert "its names are not those of the table parameters/parameter" in told[0].reason


def test_verify__bounds_what_it_tells_of_files_that_are_claimed(run):
    edit(run, lambda about, nodes: nodes["scalars/loss"].update(shape=[10**15]))
    told = [one for one in verify(run).damages if one.array == "scalars/loss"]
    assert 1000 < len(told) < 1010
    assert any("more of its files are missing" in one.reason for one in told)


def test_verify__tells_of_a_root_that_is_gone_from_a_run(run):
    (run / "zarr.json").unlink()
    assert [one.file for one in verify(run).damages] == ["zarr.json"]


def test_verify__refuses_what_is_no_run(tmp_path, run):
    with pytest.raises(NotARun, match="it does not exist"):
        verify(tmp_path / "gone")
    with pytest.raises(InvalidArgument, match="This run is in memory"):
        verify(make_run(layers=1, width=4, vocab=8))
    edit(run, lambda about, nodes: about.update(format=2))
    with pytest.raises(NewerFormat, match="upgrade with: pip install --upgrade wdyn"):
        verify(run)


def test_verify__tells_how_far_it_is(run):
    told = []
    verify(run, progress=lambda done, total: told.append((done, total)))
    assert told[-1][0] == told[-1][1] == len(told)
