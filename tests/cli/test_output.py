"""Does waiting show on a terminal, and on a terminal only?"""

import os
import pty
import subprocess
import sys
import threading

CODE = """
import time
from wdyn.cli.output import questions, stages
with stages(2) as begin:
    begin("Opening [red]x")
    time.sleep(0.3)
with questions() as begin:
    begin(2, 9, "Is [red]it so?")
    time.sleep(0.3)
print("done")
"""


def read_all(terminal, into):
    try:
        while chunk := os.read(terminal, 1024):
            into.append(chunk)
    except OSError:  # the other end was closed
        pass


def test_bars__show_on_a_terminal():
    terminal, end = pty.openpty()
    shown = []
    reader = threading.Thread(target=read_all, args=(terminal, shown))
    reader.start()
    try:
        done = subprocess.run([sys.executable, "-c", CODE], stdout=subprocess.PIPE, stderr=end, text=True, timeout=60)
    finally:
        os.close(end)
        reader.join()
        os.close(terminal)
    assert "Opening [red]x" in b"".join(shown).decode()
    assert "2 of 9: Is [red]it so?" in b"".join(shown).decode()
    assert done.stdout == "done\n"


def test_bars__are_silent_elsewhere():
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("done\n", "")
