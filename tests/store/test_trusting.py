"""Is metadata that cannot be refused in words, before anything is loaded or any path is followed?"""

import copy
import json
import shutil
import tracemalloc
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import wdyn
from wdyn.errors import DamagedRun, WdynError
from wdyn.store.root import read_root
from wdyn.store.verifying import verify
from wdyn.testing import make_run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    path = tmp_path_factory.mktemp("trusting") / "run.zarr"
    make_run(path, layers=1, width=4, vocab=8, steps=(0, 1))
    return path


@pytest.fixture
def document(run):
    """The root of the run, which is put back afterwards."""
    text = (run / "zarr.json").read_bytes()
    yield json.loads(text)
    (run / "zarr.json").write_bytes(text)


def write(run, document):
    (run / "zarr.json").write_text(json.dumps(document))


def nodes_of(document):
    return document["consolidated_metadata"]["metadata"]


LOSS = "scalars/loss"
CHUNKS = ("chunk_grid", "configuration", "chunk_shape")


@pytest.mark.parametrize(
    ("path", "value", "match"),
    [
        (("shape",), [-1], r"its shape is \[-1\]"),
        (("shape",), [1.5], r"its shape is \[1.5\]"),
        (("shape",), [True], r"its shape is \[True\]"),
        (("shape",), "2", "its shape is '2'"),
        (("shape",), [2**40, 2**40], "beyond what can be counted"),
        (("shape",), [2, 2], r"its dimensions \['step'\] do not fit its shape \[2, 2\]"),
        (("dimension_names",), [None], "'dimension_names', a list of texts"),
        (("dimension_names",), None, "'dimension_names', a list of texts"),
        (("data_type",), "object", "its type 'object' is none of a run"),
        (("data_type",), {"name": "numpy.datetime64"}, "none of a run"),
        (CHUNKS, [0], r"its chunk_shape is \[0\]"),
        (CHUNKS, [], r"its chunks \[\] do not fit"),
        (("codecs",), [], "it has no codecs"),
        (("codecs",), [3], "'codecs', a list of objects"),
        (("attributes",), [], "its attributes are no object"),
        (("attributes",), {"bits_of": "int4"}, "float64 holds no bits of 'int4'"),
        (("attributes",), {"longest": 2**60}, "its longest text"),
        (("attributes",), {"missing_value": "x"}, "its missing value is 'x'"),
        (("attributes",), {"unwritten": [[[3, 1]]]}, r"never written are \[\[3, 1\]\]"),
        (("node_type",), "link", "it is a 'link'"),
    ],
)
def test_metadata__that_cannot_be_is_refused_by_name(run, document, path, value, match):
    node = nodes_of(document)[LOSS]
    for name in path[:-1]:
        node = node[name]
    node[path[-1]] = value
    write(run, document)
    with pytest.raises(
        DamagedRun, match=rf"zarr\.json is damaged: the metadata of 'scalars/loss' cannot be: .*{match}"
    ):
        wdyn.open_run(run)


@pytest.mark.parametrize(
    "name", ["../evil", "scalars/../../evil", "/etc/x", "scalars//x", "scalars/.x", "a\0b", "é", ""]
)
def test_metadata__names_no_path_out_of_the_run(run, document, name):
    nodes_of(document)[name] = nodes_of(document)[LOSS]
    write(run, document)
    with pytest.raises(DamagedRun, match="this is no path within a run"):
        wdyn.open_run(run)


def test_metadata__of_a_few_hundred_bytes_can_claim_petabytes(tmp_path):
    """It opens, since a sparse run may be large; reading tells, and takes no memory."""
    loss = {
        "zarr_format": 3, "node_type": "array", "shape": [2**49], "data_type": "float64",
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [2**20]}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "."}},
        "fill_value": "NaN", "codecs": [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}],
        "attributes": {}, "dimension_names": ["x"],
    }  # fmt: skip
    scalars = {"node_type": "group", "attributes": {}}
    about = {"format": 1, "attempts": [{"number": 0, "resumed_from_step": -1}]}
    root = {
        "zarr_format": 3, "node_type": "group", "attributes": {"wdyn": about},
        "consolidated_metadata": {"metadata": {"scalars": scalars, LOSS: loss}},
    }  # fmt: skip
    text = json.dumps(root, separators=(",", ":"))
    assert len(text) < 700
    (tmp_path / "zarr.json").write_text(text)
    run = wdyn.open_run(tmp_path)
    tracemalloc.start()
    with pytest.raises(
        DamagedRun, match=r"scalars/loss claims 4,503,\d+,\d+,\d+,\d+ bytes .*raise the limit: wdyn\.open_run"
    ):
        run[LOSS].load()
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()
    assert run[LOSS][-3:].isnull().all()


def test_open_run__reads_no_more_than_it_was_told_it_may(run):
    with pytest.raises(DamagedRun, match=r"parameter claims 8,192 bytes .* and one reading may take 1,000\."):
        wdyn.open_run(run, size_limit=1000)
    value = "weights/tok-weight-0000/value"
    small = wdyn.open_run(run, size_limit=2**20)
    assert small[value].load().equals(wdyn.open_run(run)[value])


def test_labels__cannot_claim_more_than_there_is(run, document):
    nodes_of(document)["states/step"]["shape"] = [2**55]
    write(run, document)
    with pytest.raises(DamagedRun, match="states/step claims"):
        wdyn.open_run(run)


@pytest.mark.parametrize("text", ["[" * 10**6, '{"a":' * 10**5, "1" * 10**5, '"' + "x" * 100])
def test_root__that_is_a_bomb_is_refused(tmp_path, text):
    (tmp_path / "zarr.json").write_text(text)
    with pytest.raises(WdynError, match=r"damaged|no run that wdyn wrote"):
        wdyn.open_run(tmp_path)


def test_root__of_gigabytes_is_not_read(tmp_path):
    with (tmp_path / "zarr.json").open("wb") as file:
        file.truncate(2**34)
    with pytest.raises(DamagedRun, match="it has 17,179,869,184 bytes, and can have"):
        wdyn.open_run(tmp_path)


def test_root__that_is_a_pipe_keeps_nobody_waiting(tmp_path):
    import os

    os.mkfifo(tmp_path / "zarr.json")
    with pytest.raises(DamagedRun, match="it is no file"):
        wdyn.open_run(tmp_path)


def test_chunk__that_is_a_pipe_keeps_nobody_waiting(run, tmp_path):
    import os

    copied = shutil.copytree(run, tmp_path / "run.zarr")
    (copied / LOSS / "c.0").unlink()
    os.mkfifo(copied / LOSS / "c.0")
    with pytest.raises(DamagedRun, match="it is no file"):
        wdyn.open_run(copied)[LOSS].load()


def places(value, path=()):
    """Give the path of everything within JSON."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inside in items:
        yield from places(inside, (*path, key))


HOSTILE = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(), st.text(max_size=20),
    st.sampled_from(["../../x", "\x1b[2J", "NaN", "string", "uint16", "sharding_indexed", "step", 2**31, -1]),
    st.lists(st.one_of(st.integers(-(2**63), 2**63), st.none(), st.text(max_size=3)), max_size=4),
    st.dictionaries(st.text(max_size=8), st.integers(), max_size=3),
)  # fmt: skip


def everything(path):
    """Do with a run what readers do."""
    opened = wdyn.open_run(path, size_limit=2**26)  # so that an example which claims much is a quick one
    opened.load()
    wdyn.parameters(opened)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.data())
def test_root__that_was_changed_anywhere_raises_nothing_but_our_own(run, document, data):
    changed = copy.deepcopy(document)
    at = data.draw(st.sampled_from(list(places(changed))[1:]), label="place")
    inside = changed
    for key in at[:-1]:
        inside = inside[key]
    if data.draw(st.booleans(), label="deleted") and isinstance(inside, dict):
        del inside[at[-1]]
    else:
        inside[at[-1]] = data.draw(HOSTILE, label="value")
    write(run, changed)
    for read in (everything, verify, read_root):
        with suppress(WdynError):
            read(run)


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200), st.floats(0, 1))
@example(b"", 0.0)
def test_root__of_any_bytes_raises_nothing_but_our_own(run, document, junk, where):
    text = json.dumps(document).encode()
    cut = int(where * len(text))
    (run / "zarr.json").write_bytes(text[:cut] + junk + text[cut + len(junk) :])
    for read in (everything, verify):
        with suppress(WdynError):
            read(run)


@pytest.mark.long
@settings(max_examples=2000, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.data())
def test_root__that_was_changed_in_several_places(run, document, data):
    changed = copy.deepcopy(document)
    for at in data.draw(st.lists(st.sampled_from(list(places(changed))[1:]), min_size=1, max_size=4), label="places"):
        inside = changed
        try:
            for key in at[:-1]:
                inside = inside[key]
            inside[at[-1]] = data.draw(HOSTILE, label="value")
        except (KeyError, IndexError, TypeError):
            continue
    write(run, changed)
    for read in (everything, verify):
        with suppress(WdynError):
            read(run)
