"""Is a safetensors file that is written in pieces what the library itself reads, whatever the names and shapes?"""

import tempfile
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open

from wdyn.checkpoints.headers import SAFETENSORS_DTYPES
from wdyn.checkpoints.placing import check_dtypes, write_safetensors
from wdyn.errors import InvalidArgument

NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=30).filter(lambda name: name != "__metadata__")
FORMS = st.tuples(st.sampled_from(list(SAFETENSORS_DTYPES.values())), st.lists(st.integers(0, 4), max_size=3))


def noise(dtype, shape):
    count = torch.Size(shape).numel() * dtype.itemsize
    return torch.randint(0, 2 if dtype == torch.bool else 256, (count,), dtype=torch.uint8).view(dtype).reshape(shape)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(NAMES, FORMS, max_size=8))
def test_write_safetensors__is_read_by_the_library(forms):
    tensors = {name: noise(*form) for name, form in forms.items()}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "m.safetensors"
        headers = {name: one.to("meta") for name, one in tensors.items()}
        write_safetensors(file, headers, read=tensors.__getitem__, metadata={"a": "b"})
        with safe_open(file, framework="pt") as opened:
            assert opened.metadata() == {"a": "b"}
            found = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - it is no mapping
    assert found.keys() == tensors.keys()
    for name, one in tensors.items():
        assert (found[name].dtype, found[name].shape) == (one.dtype, one.shape)
        assert found[name].reshape(-1).view(torch.uint8).tolist() == one.reshape(-1).view(torch.uint8).tolist()


def test_check_dtypes__refuses_the_name_that_means_something_else():
    with pytest.raises(InvalidArgument, match=r"safetensors cannot hold __metadata__\. Export to a \.pt file"):
        check_dtypes({"__metadata__": torch.ones(1)})
