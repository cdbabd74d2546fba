"""A real SLURM of two nodes on loopback, with GPUs that are none, for tests: as root on Debian and its relatives.

    python tests/slurm/two_nodes.py up FOLDER      # prints the variables that its users need, as `export` lines
    python tests/slurm/two_nodes.py down FOLDER    # stops its daemons, removes its traces

Both nodes are this machine, each with a daemon, a port and two GPUs of its own.

Nothing is installed: the packages are unpacked below FOLDER. Outside of it there are only links in /etc/slurm and the socket
of munge, both gone after `down`. Partitions: cpu; gpu; and urgent, whose jobs stop those of gpu and have them queue again.
"""

from __future__ import annotations

import os
import secrets
import shlex
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

PACKAGES = ("slurmctld", "slurmd", "slurm-client", "munge")
DAEMONS = ("slurmd-node1", "slurmd-node2", "slurmctld", "munged")  # in the order in which they are stopped
CONFIGURATION = Path("/etc/slurm")  # compiled in; SLURM_CONF does not reach a step inside of a job of Snakemake
SOCKET = Path("/run/munge/munge.socket.2")
NODES = {"node1": "gpu[0-1]", "node2": "gpu[2-3]"}  # and the devices of their GPUs
GPUS, CPUS = 4, 8

SLURM_CONF = """\
ClusterName=two-nodes
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={socket},cred_expire=5
{plugins}
SlurmctldPort={ports[0]}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
AccountingStorageType=accounting_storage/none
# Without cgroups, as in a container; linuxproc would lose a process whose parent is gone.
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=0,requeue_delay=1
GresTypes=gpu
ReturnToService=2
KillWait=20
MinJobAge=600
SlurmdParameters=config_overrides
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
NodeName=DEFAULT CPUs={cpus} RealMemory={memory_mb} Gres=gpu:2
NodeName=node1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]}
NodeName=node2 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]}
PartitionName=cpu    Nodes=ALL Default=YES MaxTime=1440 State=UP PriorityTier=5 PreemptMode=OFF
PartitionName=gpu    Nodes=ALL MaxTime=1440 State=UP PriorityTier=1 PreemptMode=REQUEUE GraceTime=20
PartitionName=urgent Nodes=ALL MaxTime=1440 State=UP PriorityTier=9 PreemptMode=OFF
"""


class NotHereError(Exception):
    """This machine cannot run it; the message says why."""


def up(folder: Path) -> dict[str, str]:
    """Start the cluster; return the environment variables that its users need.

    Raises:
        NotHereError: no root, no Debian, packages that cannot be had, or another SLURM or munge.
    """
    if os.getuid() != 0:
        raise NotHereError("SLURM's daemons want root")
    if not shutil.which("apt-get") or not shutil.which("dpkg-deb"):
        raise NotHereError("no Debian: apt-get and dpkg-deb are missing")
    if SOCKET.exists() or any((CONFIGURATION / name).exists() for name in ("slurm.conf", "gres.conf")):
        raise NotHereError(f"another munge ({SOCKET}) or SLURM ({CONFIGURATION}) is here")
    for part in ("state", *(f"spool-{node}" for node in NODES), "debs/partial"):
        (folder / part).mkdir(parents=True)
    environment = _unpack(folder)
    try:
        _configure(folder)
        _start(folder, os.environ | environment)
    except BaseException:
        down(folder)
        raise
    return environment


def down(folder: Path) -> None:
    """Stop the daemons that run from this folder, and remove it and the links to it."""
    for daemon in DAEMONS:
        pid_file = folder / f"{daemon}.pid"
        if not pid_file.exists():
            continue
        pid = int(pid_file.read_text())
        if not _runs(pid, daemon):
            continue
        os.kill(pid, 15)
        _wait(lambda pid=pid, daemon=daemon: not _runs(pid, daemon), 20, f"{daemon} ({pid}) does not end")
    for link in CONFIGURATION.glob("*.conf"):
        if link.is_symlink() and link.readlink().parent == folder:
            link.unlink()
    for made in (CONFIGURATION, SOCKET.parent):
        if made.is_dir() and not any(made.iterdir()):
            made.rmdir()
    shutil.rmtree(folder)


def _unpack(folder: Path) -> dict[str, str]:
    """Fetch the packages that are missing and unpack them: installed ones would outlive the tests."""
    options = ["-qq", "-y", "--no-install-recommends", "-o", f"Dir::Cache::archives={folder}/debs"]
    for command in (["update", "-qq"], ["install", "--download-only", *options, *PACKAGES]):
        done = subprocess.run(["apt-get", *command], capture_output=True, text=True, timeout=300)
        if done.returncode:
            raise NotHereError(f"apt-get {command[0]} failed: {done.stderr.strip()[-300:]}")
    for package in (folder / "debs").glob("*.deb"):
        subprocess.run(["dpkg-deb", "-x", package, folder / "root"], check=True)
    usr = folder / "root/usr"
    libraries = [path for path in usr.glob("lib/*-linux-gnu") if path.is_dir()]
    for daemon in usr.glob("sbin/*-wlm"):  # the packages' own scripts make these links
        daemon.with_name(daemon.name.removesuffix("-wlm")).symlink_to(daemon.name)
    found = {
        "PATH": [f"{usr}/bin", f"{usr}/sbin", os.environ["PATH"], "/usr/sbin"],
        "LD_LIBRARY_PATH": [*libraries, *(path / "slurm-wlm" for path in libraries)],
    }
    return {name: ":".join(map(str, values)) for name, values in found.items()}


def _configure(folder: Path) -> None:
    plugins = list(folder.glob("root/usr/lib/*-linux-gnu/slurm-wlm"))
    with socket.socket() as first, socket.socket() as second, socket.socket() as third:
        for free in (first, second, third):
            free.bind(("127.0.0.1", 0))
        ports = [free.getsockname()[1] for free in (first, second, third)]
    text = SLURM_CONF.format(
        host=socket.gethostname().partition(".")[0],
        socket=SOCKET,
        plugins=f"PluginDir={plugins[0]}" if plugins else "",
        ports=ports,
        folder=folder,
        cpus=CPUS,
        memory_mb=200_000,  # more than any machine has: jobs ask for much and take little
    )
    (folder / "slurm.conf").write_text(text)
    for number in range(GPUS):  # a device of its own that nobody minds: a copy of /dev/null
        subprocess.run(["mknod", "-m", "666", folder / f"gpu{number}", "c", "1", "3"], check=True)
    gpus = (f"NodeName={node} Name=gpu File={folder}/{devices}\n" for node, devices in NODES.items())
    (folder / "gres.conf").write_text("AutoDetect=off\n" + "".join(gpus))
    CONFIGURATION.mkdir(exist_ok=True)
    for name in ("slurm.conf", "gres.conf"):
        (CONFIGURATION / name).unlink(missing_ok=True)  # the link of a test that was killed, to nothing
        (CONFIGURATION / name).symlink_to(folder / name)
    key = folder / "munge.key"
    key.write_bytes(secrets.token_bytes(1024))
    key.chmod(0o400)
    SOCKET.parent.mkdir(exist_ok=True)
    SOCKET.parent.chmod(0o755)


def _start(folder: Path, environment: dict[str, str]) -> None:
    def run(*command: str) -> str:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30)
        return done.stdout if done.returncode == 0 else ""

    stepd = shutil.which("slurmstepd", path=environment["PATH"])
    files = {kind: f"{folder}/{name}" for kind, name in (("key", "munge.key"), ("pid", "munged.pid"))}
    files |= {"log": f"{folder}/munged.log", "seed": f"{folder}/munged.seed"}
    run("munged", "--force", f"--socket={SOCKET}", *(f"--{kind}-file={path}" for kind, path in files.items()))
    _wait(SOCKET.exists, 10, "munged does not start")
    run("slurmctld")
    _wait(lambda: "UP" in run("scontrol", "ping"), 20, "slurmctld does not start")
    for node in NODES:
        run("slurmd", "-N", node, "-d", str(stepd))
    # One line for each state of nodes.
    _wait(lambda: set(run("sinfo", "--noheader", "--format=%T").split()) == {"idle"}, 30, "slurmd does not start")


def _runs(pid: int, daemon: str) -> bool:
    """Whether the process is this daemon, and no other that has got its number."""
    try:
        return Path(f"/proc/{pid}/exe").readlink().name.removesuffix("-wlm") == daemon.partition("-")[0]
    except OSError:
        return False


def _wait(condition, limit_s: float, complaint: str) -> None:
    deadline = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > deadline:
            raise NotHereError(complaint)
        time.sleep(0.1)


if __name__ == "__main__":
    action, where = sys.argv[1:]
    try:
        made = {"up": up, "down": down}[action](Path(where).resolve())
    except NotHereError as reason:
        sys.exit(str(reason))
    for name, value in (made or {}).items():
        print(f"export {name}={shlex.quote(value)}")
