"""What a program does to its process."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from nuptse import runtime

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


@pytest.mark.parametrize(("kind", "precision"), [("cpu", "highest"), ("mps", "highest"), ("cuda", "high")])
def test_only_a_gpu_rounds_the_operands_of_a_product(kind, precision, monkeypatch):
    import torch

    freed = []
    monkeypatch.setattr(runtime, "keep_freed_memory", lambda: freed.append(kind))
    try:
        runtime.prepare_device(kind)
        assert torch.get_float32_matmul_precision() == precision
    finally:
        torch.set_float32_matmul_precision("highest")
    assert freed == (["cpu"] if kind == "cpu" else [])


@pytest.mark.parametrize(
    ("threads", "idle", "given", "spins"),
    [
        (2, 2.0, {}, runtime.SPINS),
        (2, 1.5, {}, None),
        (1, 8.0, {}, None),
        (4, 8.0, {"GOMP_SPINCOUNT": "7"}, "7"),
        (4, 8.0, {"OMP_WAIT_POLICY": "ACTIVE"}, None),
    ],
)
def test_threads_spin_only_where_nothing_else_runs(threads, idle, given, spins, monkeypatch):
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT"):
        monkeypatch.setenv(name, "")  # so that what is set below does not stay
        monkeypatch.delenv(name)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(runtime, "idle_cpus", lambda: idle)
    runtime.set_waiting(threads)
    assert os.environ.get("GOMP_SPINCOUNT") == spins
    assert os.environ["OMP_WAIT_POLICY"] == given.get("OMP_WAIT_POLICY", "PASSIVE")


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="Linux tells what each CPU does")
def test_a_cpu_with_a_busy_process_is_not_idle():
    ours = os.sched_getaffinity(0)
    busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        os.sched_setaffinity(busy.pid, {min(ours)})
        os.sched_setaffinity(0, {min(ours)})
        assert runtime.idle_cpus() == 0
    finally:
        busy.kill()
        busy.wait()
        os.sched_setaffinity(0, ours)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="Linux tells what each CPU does")
@pytest.mark.parametrize("stat", ["cpu  9 9 9 9 9 9\ncpu0 1 1 1 1 1 1\n", "cpu0 ?\n", None])
def test_of_cpus_that_a_container_does_not_show_none_is_idle(tmp_path, monkeypatch, stat):
    path = tmp_path / "stat"
    if stat:
        path.write_text(stat)
    ticks = runtime._idle_ticks
    monkeypatch.setattr(runtime, "_idle_ticks", lambda: ticks(path))
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {8, 9})
    assert runtime.idle_cpus(0.01) == 0
