"""The quickstart on a real SLURM of two nodes: trainings are cut off in every way that a cluster knows, and still finish."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TWO_NODES = [sys.executable, str(ROOT / "tests/slurm/two_nodes.py")]
pytestmark = pytest.mark.slow

# To a minute in all: the profile's signal, which comes before the end, comes within half a minute.
OUT_OF_TIME = "scontrol update JobId={job} TimeLimit=1"
# What befalls a training once it has made three steps; `{job}` is its SLURM job.
FAULTS = {
    "finetune_from_cutset": OUT_OF_TIME,
    "finetune_from_nemo_json": "scontrol requeue {job}",
    "finetune_from_nemo_tarred": "scancel {job}",
    # Wants all GPUs, in a partition that stops the jobs of the other.
    "finetune_from_nemo_multidataset": "sbatch --partition=urgent --nodes=2 --gpus=4 --output=/dev/null --wrap='sleep 1'",
}
STEPS = {name: 200 if name == "finetune_from_cutset" else 40 for name in FAULTS}
OVERLAY = {
    "defaults": {"checkpoint": {"every_n_steps": 1}, "trainer": {"log_every_n_steps": 1, "val_check_interval": 40}},
    "experiments": {name: {"trainer": {"max_steps": steps}} for name, steps in STEPS.items()},
}
OVERLAY["experiments"]["finetune_from_cutset"]["train_ds"] = {"num_workers": 1}  # to be told to end as well
TARGETS = ["finetune", "results/scores/finetune_from_nemo_json/quickstart_test.json"]
# What befalls trainings on two nodes while they are at these steps: the rank of the second node is killed, and then, as SLURM
# does before a time limit, where a node is lost, and where a job is preempted or runs out of time.
ON_TWO_NODES = [
    ("finetune_from_cutset", (3, 10), ""),
    ("finetune_from_cutset", (10, 20), "scancel --signal=TERM {job}"),
    ("finetune_from_cutset", (20, 30), "scontrol requeue {job}"),
    ("finetune_from_cutset", (30, 40), FAULTS["finetune_from_nemo_multidataset"]),
    ("finetune_from_nemo_tarred", (3, 150), OUT_OF_TIME),
]
# All layouts on two nodes, one of them on two GPUs of each; the first again on two GPUs of one node.
RANKS = {
    "defaults": {
        "checkpoint": {"every_n_steps": 1},
        "train_ds": {"batch_duration": 30, "quadratic_duration": None, "perturb_speed": False, "num_workers": 1},
        "trainer": {"max_steps": 40, "val_check_interval": 40, "log_every_n_steps": 1, "num_nodes": 2},
    },
    "experiments": {
        "finetune_from_nemo_json": {"trainer": {"max_steps": 4, "val_check_interval": 4, "devices": 2}},
        "finetune_from_nemo_tarred": {"trainer": {"max_steps": 250, "val_check_interval": 250}},
        "finetune_from_nemo_multidataset": {"trainer": {"max_steps": 4, "val_check_interval": 4}},
        "on_one_node": {"layout": "cutset", "trainer": {"num_nodes": 1, "devices": 2}},
    },
}
PROFILE = ["--workflow-profile", "profiles/slurm"]
# The profile is for clusters: a test on two cores looks more often and computes with less.
FASTER = ["--slurm-init-seconds-before-status-checks", "1", "--latency-wait", "5"]
FASTER += ["--set-threads", "finetune_model=1", "transcribe=1", "prepare_manifests=1", "check_audio=1"]


@pytest.fixture(scope="module")
def checkout(make_checkout):
    """One for all tests: what an earlier one made, a later one need not."""
    return make_checkout("on a cluster")


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    """The environment of a user of the cluster."""
    folder = tmp_path_factory.mktemp("slurm") / "two_nodes"
    started = subprocess.run([*TWO_NODES, "up", folder], capture_output=True, text=True)
    if started.returncode:
        pytest.skip(started.stderr.strip())
    script = f"{started.stdout}\nenv -0"
    lines = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True).stdout.split("\0")
    environment = dict(line.split("=", 1) for line in lines if line)
    yield environment
    # A test that failed may have left jobs, which would outlive the daemons.
    cancel = ["scancel", "--full", "--signal=KILL", f"--user={os.getuid()}"]
    subprocess.run(cancel, env=environment, check=True)
    subprocess.run([*TWO_NODES, "down", folder], check=True)
    assert not folder.exists()
    assert not list(Path("/etc").glob("slurm/*.conf"))


class Run:
    """A run of the workflow through the profile, and what one does to its trainings meanwhile."""

    def __init__(self, checkout, slurm, overlay, targets):
        self.checkout, self.targets = checkout, targets
        self.environment = slurm | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{slurm['PATH']}"}
        self.output = checkout.folder / "snakemake.txt"
        self.overlay = ["--configfile", checkout.overlay(overlay)]
        for log in checkout.folder.glob("logs/finetune_model/*"):  # steps of an earlier test are none of this
            log.unlink()

    def command(self, *arguments):
        words = [sys.executable, "-m", "snakemake", *self.targets, *PROFILE, *FASTER, *arguments, *self.overlay]
        return [str(word) for word in words]

    def start(self):
        with self.output.open("w") as output:
            return subprocess.Popen(
                self.command(), cwd=self.checkout.folder, env=self.environment, stdout=output, stderr=output
            )

    def shell(self, command):
        return subprocess.run(
            command, shell=True, env=self.environment, capture_output=True, text=True, check=True
        ).stdout

    def jobs(self):
        """SLURM job, by experiment, of the trainings that run."""
        return {experiment: job for experiment, (job, _) in self.launches().items()}

    def launches(self):
        """SLURM job and when it began, which a requeued job does again, by experiment, of the trainings that run."""
        lines = self.shell("squeue --noheader --states=RUNNING --format='%i %S %k'").splitlines()
        jobs = (line.split() for line in lines if "finetune_model" in line)
        return {comment.rpartition("wildcards_")[2]: (job, began) for job, began, comment in jobs}

    def steps_made(self, experiment):
        log = self.checkout.folder / f"logs/finetune_model/{experiment}.log"
        found = re.findall(r": step (\d+)/", log.read_text()) if log.exists() else []
        return int(found[-1]) if found else 0

    def report(self, experiment):
        return json.loads((self.checkout.folder / f"results/{experiment}/train.json").read_text())


def test_trainings_survive_all_that_a_cluster_does_to_them(checkout, slurm):
    run = Run(checkout, slurm, OVERLAY, TARGETS)
    process, hit, slowed = run.start(), {}, None
    deadline = time.monotonic() + 900
    try:
        while process.poll() is None:
            assert time.monotonic() < deadline, run.output.read_text()[-20000:]
            time.sleep(0.2)
            slowed = slowed if slowed and slowed.goes_on() else None
            for experiment in FAULTS.keys() - hit.keys():
                step = run.steps_made(experiment)
                if 3 <= step < STEPS[experiment] and (job := run.jobs().get(experiment)):
                    run.shell(FAULTS[experiment].format(job=job))
                    slowed = Slowed(training(experiment)) if FAULTS[experiment] == OUT_OF_TIME else slowed
                    hit[experiment] = (job, step)
    finally:
        process.kill()
    output = run.output.read_text()
    assert process.returncode == 0, output[-20000:]
    assert hit.keys() == FAULTS.keys()

    for experiment, steps in STEPS.items():
        report = run.report(experiment)
        assert [row["step"] for row in report["train"]] == list(range(1, steps + 1)), (
            "one history, without gap or repeat"
        )
        assert max(report["resumed"]) >= hit[experiment][1], "it went on from where it was hit, not from the start"
        assert report["validation"][-1]["step"] == steps
    # Broken at different places in different ways, both layouts saw the batches that an undisturbed run sees.
    batches = [
        [(row["utterances"], row["audio_seconds"]) for row in run.report(name)["train"][:40]]
        for name in ("finetune_from_cutset", "finetune_from_nemo_json")
    ]
    assert batches[0] == batches[1]

    # The job whose time ran out was asked to end, saved its state, and was submitted again with more memory.
    first, step = hit["finetune_from_cutset"]
    assert max(run.report("finetune_from_cutset")["resumed"]) > step, "it had saved its state when it was asked to end"
    assert "interrupted: " in output and "killed by signal" not in output
    submitted = re.findall(r"SLURM jobid (\d+) \(log: .*/rule_finetune_model/finetune_from_cutset/", output)
    assert submitted[0] == first and len(submitted) >= 2
    jobs = [run.shell(f"scontrol show job {job}") for job in submitted]
    assert "Partition=gpu" in jobs[0] and "gres:gpu:1" in jobs[0] and "TimeLimit=12:00:00" in jobs[1]
    assert ["MinMemoryNode=16000M" in jobs[0], "MinMemoryNode=24000M" in jobs[1]] == [True, True]

    # What takes a second, or needs the network, did not queue.
    on_nodes = set(re.findall(r"^rule (\w+):", output, re.MULTILINE))
    # The Snakemake inside of a job, whose log is shown when it fails, calls the rule of the job local.
    beside = set(re.findall(r"^localrule (\w+):", output, re.MULTILINE)) - {"finetune_model"}
    assert {"build_cutset", "tar_shards", "finetune_model", "transcribe"} <= on_nodes
    assert {"download_archive", "download_model", "plan_shards", "index_shards", "score_wer"} <= beside
    assert not on_nodes & beside

    again = subprocess.run(
        run.command("--dry-run"), cwd=checkout.folder, env=run.environment, capture_output=True, text=True
    )
    assert "Nothing to be done" in again.stdout + again.stderr


def training(experiment, node=""):
    """The process of a training, on this node if one is named: of those that look the same, as those that load its data do,
    the one that no other of them started."""
    alike, parents = set(), {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes().split(b"\0")
            environment = (folder / "environ").read_bytes().split(b"\0")
            parents[folder.name] = re.search(r"^PPid:\t(\d+)", (folder / "status").read_text(), re.MULTILINE)[1]
        except OSError:
            continue
        of_it = command[1:2] and command[1].endswith(b"scripts/finetune.py") and experiment.encode() in command
        if of_it and (not node or f"SLURMD_NODENAME={node}".encode() in environment):
            alike.add(folder.name)
    return next((int(pid) for pid in alike if parents[pid] not in alike), None)


class Slowed:
    """A training that gets a fifth of its time until SLURM asks it to end, within half a minute: a fast one might have made
    all of its steps before."""

    def __init__(self, pid):
        self.pid = pid

    def goes_on(self):
        """Let it compute for a moment; return whether it has not been asked yet."""
        try:
            status = Path(f"/proc/{self.pid}/status").read_text()
            os.kill(self.pid, signal.SIGCONT)
            if int(re.search(r"^ShdPnd:\t(\w+)", status, re.MULTILINE)[1], 16) & 1 << signal.SIGTERM - 1:
                return False
            time.sleep(0.05)
            os.kill(self.pid, signal.SIGSTOP)
        except (FileNotFoundError, ProcessLookupError):
            return False
        return True


def test_a_training_on_two_nodes_ends_and_goes_on_as_one(checkout, slurm):
    run = Run(checkout, slurm, RANKS, ["finetune"])
    process, pending, hit = run.start(), list(ON_TWO_NODES), []
    job, killed, took, asked, slowed = None, None, None, None, None
    deadline = time.monotonic() + 900
    try:
        while process.poll() is None:
            assert time.monotonic() < deadline, run.output.read_text()[-20000:]
            time.sleep(0.2)
            slowed = slowed if slowed and slowed.goes_on() else None
            if killed and not took and "JobState=RUNNING" not in run.shell(f"scontrol show job {job}"):
                took = time.monotonic() - killed
            launches = run.launches()
            for fault in pending:
                experiment, (first, last), command = fault
                step, launch = run.steps_made(experiment), launches.get(experiment)
                if not (launch and first <= step < last) or launch in (launch for _, _, launch in hit):
                    continue
                if command:
                    run.shell(command.format(job=launch[0]))
                    slowed = Slowed(training(experiment, "node2")) if command == OUT_OF_TIME else slowed
                else:
                    job, asked = launch[0], run.shell(f"scontrol show job {launch[0]}")
                    os.kill(training(experiment, "node2"), signal.SIGKILL)
                    killed = time.monotonic()
                hit.append((experiment, step, launch))
                pending.remove(fault)
                break
    finally:
        process.kill()
    output = run.output.read_text()
    assert process.returncode == 0, output[-20000:]
    assert not pending
    assert took < 60 and "JobState=FAILED" in run.shell(f"scontrol show job {job}")
    for detail in ("NodeList=node[1-2]", "NumTasks=2", "MinMemoryNode=16000M", "TresPerNode=gres:gpu:1"):
        assert detail in asked

    reports = {name: run.report(name) for name in (*FAULTS, "on_one_node")}
    for name, report in reports.items():
        steps = RANKS["experiments"].get(name, RANKS["defaults"])["trainer"].get("max_steps", 40)
        devices = 4 if name == "finetune_from_nemo_json" else 2
        assert [row["step"] for row in report["train"]] == list(range(1, steps + 1))
        assert report["effective_batch"]["devices"] == devices
        assert 15 < report["effective_batch"]["audio_seconds"] / devices <= 30, "a batch for each"
    cutset, tarred = reports["finetune_from_cutset"], reports["finetune_from_nemo_tarred"]
    steps_hit = [step for experiment, step, _ in hit if experiment == "finetune_from_cutset"]
    assert len(cutset["resumed"]) == len(steps_hit) and cutset["resumed"][0] >= 2
    # All but the killed one were asked to end, and saved their state.
    assert all(resumed >= step for resumed, step in zip(cutset["resumed"][1:], steps_hit[1:], strict=True))
    out_of_time = next(step for experiment, step, _ in hit if experiment == "finetune_from_nemo_tarred")
    assert max(tarred["resumed"]) > out_of_time
    assert "killed by signal" not in output, "SLURM's SIGTERM, to processes that load data as well"
    undisturbed = reports["on_one_node"]
    assert not undisturbed["resumed"]
    assert cutset["train"] == undisturbed["train"], "the same batches, the same losses"
    assert cutset["validation"] == undisturbed["validation"]
    logs = {path.name for path in run.checkout.folder.glob("logs/finetune_model/*.rank*")}
    beside = {f"finetune_from_nemo_json.{rank}.log" for rank in ("rank1", "node1.rank1")} | {"on_one_node.rank1.log"}
    assert logs == {f"{name}.node1.rank0.log" for name in FAULTS} | beside
