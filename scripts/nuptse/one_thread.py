"""Imported before NumPy by programs that multiply no matrices: its OpenBLAS then starts no threads.

Such threads, one for each core, wait busily for work at first: on two cores 60 ms of CPU time for nothing.
"""

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
