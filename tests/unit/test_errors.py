"""What commands print, and where to."""

import subprocess
import sys
from pathlib import Path

SCRIPTS = Path(__file__).parents[2] / "scripts"
PROGRAM = """
import os, subprocess, sys
from pathlib import Path
from nuptse.errors import announce, log_to, say
log_to(Path(sys.argv[1]))
say("only in the log: ä")
announce("step 1/2")
subprocess.run(["echo", "a child"])
os.write(2, b"a library\\n")
announce("step 2/2")
raise ValueError("a bug")
"""


def test_the_log_gets_everything_and_the_terminal_the_progress(tmp_path):
    log = tmp_path / "logs" / "a.log"
    command = [sys.executable, "-c", PROGRAM, str(log)]
    found = subprocess.run(command, cwd=SCRIPTS, capture_output=True, text=True, check=False)
    assert found.returncode == 1
    assert found.stdout == ""
    assert found.stderr.splitlines() == ["step 1/2", "step 2/2"]
    lines = log.read_text().splitlines()
    assert lines[:5] == ["only in the log: ä", "step 1/2", "a child", "a library", "step 2/2"]
    assert lines[-1] == "ValueError: a bug"


def test_a_terminal_that_is_gone_stops_nothing(tmp_path):
    log = tmp_path / "a.log"
    process = subprocess.Popen([sys.executable, "-c", PROGRAM, str(log)], cwd=SCRIPTS, stderr=subprocess.PIPE)
    process.stderr.close()  # as when the connection to the machine is lost
    assert process.wait(60) == 1
    assert log.read_text().splitlines()[-1] == "ValueError: a bug"
