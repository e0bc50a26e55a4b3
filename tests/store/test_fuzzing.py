"""Does a root of bytes that a coverage-guided fuzzer makes up raise nothing but our own errors?"""

import subprocess
import sys

import pytest

from wdyn.testing import make_run

FUZZ = """
import sys
from contextlib import suppress
from pathlib import Path
import atheris
with atheris.instrument_imports(include=["wdyn.store.root", "wdyn.store.trusting", "wdyn.store.layout"]):
    import wdyn
    from wdyn.errors import WdynError
    from wdyn.store.verifying import verify
place = Path(sys.argv.pop(1))
def once(data):
    (place / "zarr.json").write_bytes(data)
    for read in (lambda: wdyn.open_run(place, size_limit=2**26).load(), lambda: verify(place)):
        with suppress(WdynError):
            read()
atheris.Setup(sys.argv, once)
atheris.Fuzz()
"""


@pytest.mark.long
def test_root__of_bytes_that_a_fuzzer_makes_up(tmp_path):
    pytest.importorskip("atheris", reason="atheris is not installed")
    run, corpus = tmp_path / "run.zarr", tmp_path / "corpus"
    make_run(run, layers=1, width=4, vocab=8, steps=(0, 1))
    corpus.mkdir()
    (corpus / "root").write_bytes((run / "zarr.json").read_bytes())
    options = ["-max_total_time=60", "-max_len=65536", str(corpus)]
    command = [sys.executable, "-c", FUZZ, str(run), *options]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", cwd=tmp_path, timeout=300)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    assert "Done " in done.stderr
