"""Does ``wdyn live`` serve a run, or draw it, until it is told to end?"""

import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest


def start(*arguments, **pipes):
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1", "TERM": "xterm-256color"}
    return subprocess.Popen([sys.executable, "-m", "wdyn", "live", *map(str, arguments)], env=environment, **pipes)


def test_live__serves_a_run_as_soon_as_there_is_one(place, original):
    process, url = serve(place)
    assert "Waiting" in read(url)
    Path(shutil.copytree(original, place.parent / "copy")).rename(place)
    until(lambda: "as of step 100" in read(url))
    assert ended(process, signal.SIGINT) == (0, "", "")  # also while it draws


def test_live__ends_when_it_is_asked_to_terminate(place):
    process, url = serve(place)
    assert ended(process, signal.SIGTERM) == (0, "", "")
    with pytest.raises(urllib.error.URLError, match="refused"):
        read(url)


def test_live__draws_a_run_and_leaves_the_terminal_clean(original):
    screen, terminal = pty.openpty()
    process = start(original, "--terminal", "--every", 0.2, stdin=terminal, stdout=terminal, stderr=terminal)
    os.close(terminal)
    sent = read_until(screen, b"as of step 100")
    process.send_signal(signal.SIGINT)
    sent += read_until(screen, None)
    assert process.wait(timeout=60) == 0
    os.close(screen)
    assert sent.count(b"\x1b[?1049h") == sent.count(b"\x1b[?1049l") == 1  # to the other screen, and back
    assert sent.rindex(b"\x1b[?25h") > sent.rindex(b"\x1b[?25l")  # the cursor shows again
    after = sent.rpartition(b"\x1b[?1049l")[2]
    assert b"run.zarr, step 100: " in after
    assert b"Traceback" not in sent


def test_live__says_why_it_draws_nothing_into_a_pipe(wdyn, saved):
    result = wdyn("live", saved, "--terminal")
    assert result.exit_code == 2
    assert "--terminal needs a terminal that can be redrawn" in result.stderr


def test_live__says_why_the_terminal_has_no_port(wdyn, saved):
    result = wdyn("live", saved, "--terminal", "--port", 8000)
    assert result.exit_code == 2
    assert "--terminal shows no page" in result.stderr


def test_live__refuses_what_can_be_no_run(wdyn, tmp_path):
    (tmp_path / "file").touch()
    result = wdyn("live", "file")
    assert result.exit_code == 2
    assert "it is a file, and a run is a folder" in result.stderr


def serve(place):
    process = start(place, "--every", 0.2, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    url = re.fullmatch(r"Live at (http://127\.0\.0\.1:\d+/\S+/)\n", process.stdout.readline())[1]
    assert process.stdout.readline() == "Ctrl-C ends it.\n"
    return process, url


def ended(process, number):
    """Send a signal; give the exit code and what was still written."""
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def read(url):
    with urllib.request.urlopen(url, timeout=60) as reply:
        return reply.read().decode()


def until(holds):
    end = time.monotonic() + 120
    while not holds():
        assert time.monotonic() < end, "it never came to that"
        time.sleep(0.2)


def read_until(screen, words):
    """Read what was sent to a terminal, until it holds some words, or until nobody sends any more."""
    sent = b""
    while words is None or words not in sent:
        assert select.select([screen], [], [], 120)[0], "nothing came"
        try:
            some = os.read(screen, 65536)
        except OSError:  # how Linux tells that the other side was closed
            some = b""
        if not some:
            assert words is None, sent
            return sent
        sent += some
    return sent
