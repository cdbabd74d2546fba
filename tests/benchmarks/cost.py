"""Run a command and append what it took to a file: `python cost.py FILE COMMAND...`. Small, so that its own memory, which
Linux counts as the child's before it becomes another program, is smaller than that of any command.
"""

import os
import sys
import time

begin = time.perf_counter()
child = os.spawnvp(os.P_NOWAIT, sys.argv[2], sys.argv[2:])
_, status, usage = os.wait4(child, 0)
memory_mb = usage.ru_maxrss / (1 << 20 if sys.platform == "darwin" else 1 << 10)
with open(sys.argv[1], "a") as file:
    file.write(f'["{sys.argv[3].rpartition("/")[2]}", {time.perf_counter() - begin}, ')
    file.write(f"{usage.ru_utime + usage.ru_stime}, {memory_mb}]\n")
sys.exit(os.waitstatus_to_exitcode(status))
