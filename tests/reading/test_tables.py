"""Are the table and the statistics labelled as promised?"""

import numpy as np
import pytest

from wdyn import parameters, statistics
from wdyn.errors import InvalidArgument, NoMatch
from wdyn.reading.tables import dataset


def test_parameters__are_the_table_in_memory(record):
    table = parameters(record().run)
    assert table["parameter"].values.tolist()[0] == "wte.weight"
    assert table["tied_to"].sel(parameter="head.weight") == "wte.weight"
    assert {"path", "role", "kind", "stack", "layer", "shape", "dims", "dtype", "numel", "trainable", "in_optimizer",
            "group", "module", "parts", "heads", "kv_heads", "head_dim", "weights"} <= set(table)  # fmt: skip
    assert all(isinstance(column.variable._data, np.ndarray) for column in table.data_vars.values())


def test_statistics__carry_the_address_of_each_parameter(record):
    found = statistics(record().run)
    assert found["std"].dims == ("step", "parameter")
    assert found["role"].sel(parameter="h.1.attn.o.weight") == "o"
    assert found["layer"].sel(parameter="h.1.attn.o.weight") == 1
    assert found["std"].sel(step=10, parameter="head.weight") == 1.0
    assert set(found["std"].groupby("role").groups) == {"embedding", "qkv", "o", "unembedding"}


def test_statistics__say_what_was_recorded(record):
    with pytest.raises(NoMatch, match=r"No statistics of 'gradients' in this run; it has: weights\. Record them with"):
        statistics(record().run, "gradients")
    with pytest.raises(NoMatch, match=r"it has: none"):
        statistics(record().run.drop_nodes("statistics"))


def test_dataset__says_what_groups_there_are(record):
    run = record().run
    with pytest.raises(NoMatch, match=r"This run has no group 'moments'; it has: .*parameters"):
        dataset(run, "moments")
    with pytest.raises(NoMatch, match="'scalars/loss' is an array, not a group"):
        dataset(run, "scalars/loss")
    assert dataset(run, "scalars").sizes == {"step": 2, "group": 1}


@pytest.mark.parametrize("read", [parameters, statistics])
def test_tables__of_a_path_say_that_a_run_must_be_opened(read):
    with pytest.raises(InvalidArgument, match=r"not 'run\.zarr'; open it with wdyn\.open_run"):
        read("run.zarr")
