# The plan that the configuration makes, and how rules ask it. No rule stands here.
import inspect
import os
import sys
import time
from pathlib import Path

import yaml
from snakemake.exceptions import WorkflowError

sys.path.insert(0, f"{workflow.basedir}/scripts")

from nuptse.addresses import hand_over
from nuptse.clocks import bring_back
from nuptse.config_files import check_files
from nuptse.errors import UserError
from nuptse.links import check_links
from nuptse.plan import Plan
from nuptse.plan_base import any_of
from nuptse.ranks import check_nodes
from nuptse.unfinished import begin_run, end_run, unfinished_files

with open(f"{workflow.basedir}/config/schema.yaml", encoding="utf-8") as stream:
    # libyaml takes a tenth of the time, and Snakemake starts often.
    schema = yaml.load(stream, getattr(yaml, "CSafeLoader", yaml.SafeLoader))

# A job on a cluster parses this again. It must plan the threads that it was given, not those that its node would allow.
allotted = int(os.environ.get("SLURM_CPUS_PER_TASK", 0)) if workflow.remote_exec else None

try:
    check_files([f"{workflow.basedir}/config/config.yaml", *workflow.overwrite_configfiles], config)
    check_links()
    plan = Plan(config, schema, Path(workflow.basedir), cores=workflow.resource_settings.cores, allotted=allotted)
except UserError as mistakes:
    raise WorkflowError(str(mistakes)) from None

code = plan.code
parsed = time.time()

UNFINISHED = Path(".snakemake/nuptse_unfinished.json")
ADDRESSES = Path(".snakemake/nuptse_addresses.json")


def ask(question):
    """Make an input or param function of a method of the plan: it is called with the wildcards that it names."""
    names = inspect.signature(question).parameters
    return lambda wildcards: question(**{name: wildcards[name] for name in names})


def ask_where(question):
    """Such a function for a param that says where a thing is and not what it is: a change of it is no reason to rerun."""
    answer = ask(question)
    return lambda wildcards, output: answer(wildcards)


def say_again(*logs):
    """Print the logs that this run wrote."""
    for log in map(Path, logs):
        if log.exists() and log.stat().st_mtime > parsed:
            print(log.read_text("utf-8").rstrip(), file=sys.stderr, flush=True)


def unfinished(*below):
    """Make an input function of what jobs of an earlier run that failed were to make, below these folders."""
    return lambda wildcards: [
        file for file in unfinished_files(UNFINISHED, plan.files_on_the_way()) if file.startswith(below or "")
    ]


def say_what_is_unfinished():
    """Warn whose single file Snakemake may find up to date, although a job that it depends on has failed."""
    if workflow.is_main_process and (missing := unfinished()(None)):
        print(
            f"WARNING: {len(missing)} files are missing that an earlier run was to make, such as {missing[0]}. Ask for a rule,"
            " or for nothing, to have them made: a single file may be left as it was before.",
            file=sys.stderr,
        )


def doctor_report(wildcards):
    """Return the report that decides whether a training may start; written again, it makes no finished one stale.

    Only of a finished one: where a job must run, Snakemake asks no job behind an ancient() file for its own reasons.
    """
    path = f"results/doctor/{wildcards.experiment}.json"
    return ancient(path) if plan.is_trained(wildcards.experiment) else path


def for_rows(wildcards, input, attempt):
    """Return the MB to check shards with: one manifest of all is read whole, and takes about three times its size."""
    return attempt * (2000 + (int(3 * input.size_mb) if len(input.manifests) == 1 else 0))


def for_each_device(amount):
    """Make a resource function of what a device of a node needs at first."""
    return lambda wildcards, attempt: plan.node_memory(wildcards.experiment, amount, attempt)


def for_nodes(key):
    """Make a resource function of what the plan says of the nodes of a training; None, for nothing, sets nothing."""
    return lambda wildcards: plan.node_resources(wildcards.experiment).get(key)


def check_trainings():
    """Refuse at once what would only fail when its data is made: a training on several nodes, and no SLURM."""
    slurm = workflow.executor_plugin.name == "slurm" or "SLURM_JOB_ID" in os.environ
    for job in workflow.dag.needrun_jobs():
        if job.rule.name == "finetune_model":
            try:
                check_nodes(job.wildcards.experiment, plan.nodes(job.wildcards.experiment), slurm)
            except UserError as mistake:
                raise WorkflowError(str(mistake)) from None


def addresses_needed():
    """Return where the downloads of this run find their files: no command line and no param may show an address."""
    needed = {file for job in workflow.dag.needrun_jobs() for file in job.output}
    return {file: urls for file, urls in plan.file_addresses().items() if file in needed}


def configfiles():
    """Return the configuration files of the command line, as one would give them again."""
    return [plan.path(file) for file in workflow.overwrite_configfiles]


wildcard_constraints:
    corpus=any_of(plan.corpora),
    split=any_of(plan.splits),
    model=any_of(plan.models),
    experiment=any_of(plan.experiments),
    recogniser=any_of(plan.recognisers),
    group=r"\d+",
