"""What a program does to its process."""

import subprocess
import sys
from pathlib import Path

import pytest

ROUNDS = """
import resource
from nuptse.runtime import keep_freed_memory

{call}
for _ in range(4):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    block = b"x" * (64 << 20)
    del block
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="mallopt is glibc's")
def test_freed_memory_is_not_fetched_from_linux_again():
    def pages(call):
        scripts = Path(__file__).parents[2] / "scripts"
        command = [sys.executable, "-c", ROUNDS.format(call=call)]
        return [int(line) for line in subprocess.check_output(command, cwd=scripts, text=True).split()]

    assert min(pages("")) > 1000, "by itself glibc gives 64 MB back, and gets them page by page"
    first, *later = pages("keep_freed_memory()")
    assert first > 1000
    assert max(later) < 10
