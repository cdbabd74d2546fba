# Needs: data/manifests/{corpus}_nemo_{split}.json, or the `nemo_shards` of a corpus.
# Gives: data/shards/{corpus}_{split}/ in the layout of NeMo's converter, with ledger.json.
# A group of shards is one job, however many shards there are. The ledgers stand for the shards: only they are declared.


rule shards:
    """Write the tar shards of every training split that an experiment uses."""
    input:
        plan.all_shards(),
        unfinished("data/"),


rule plan_shards:
    """Assign every utterance of a manifest to a shard, by a keyed hash of its id; in a corpus that grew, the new ones."""
    input:
        code=code("plan_shards.py"),
        manifest="data/manifests/{corpus}_nemo_{split}.json",
    output:
        # The last plan stays until the new one is written: a corpus that grew keeps its shards.
        plan=update("data/shards/{corpus}_{split}/plan.bin"),
    log:
        "logs/plan_shards/{corpus}_{split}.log",
    benchmark:
        "benchmarks/plan_shards/{corpus}_{split}.tsv"
    conda:
        "../envs/data.yaml"
    resources:
        mem_mb=1000,
        runtime=60,
    params:
        num_shards=ask(plan.num_shards),
    shell:
        "python {input.code[0]:q} --manifest {input.manifest:q} --num-shards {params.num_shards} --seed 0"
        " --plan {output.plan:q} > {log:q} 2>&1"


rule tar_shards:
    """Write one group of tar shards and their manifests, except those that are there unchanged."""
    input:
        code=code("tar_shards.py"),
        manifest="data/manifests/{corpus}_nemo_{split}.json",
        plan="data/shards/{corpus}_{split}/plan.bin",
    output:
        ledger="data/shards/{corpus}_{split}/ledger/{group}.json",
    log:
        "logs/tar_shards/{corpus}_{split}/{group}.log",
    benchmark:
        "benchmarks/tar_shards/{corpus}_{split}/{group}.tsv"
    conda:
        "../envs/data.yaml"
    resources:
        mem_mb=1000,
        runtime=240,
    params:
        folder=subpath(output.ledger, ancestor=2),
        shards_per_job=ask(plan.shards_per_job),
        repair=ask(plan.repairs),
        audio=ask(plan.shard_audio),
    shell:
        "python {input.code[0]:q} --manifest {input.manifest:q} --plan {input.plan:q} --group {wildcards.group}"
        " --shards-per-job {params.shards_per_job} {params.audio:q} --repair {params.repair:q} --workers {threads}"
        " --output-dir {params.folder:q} --ledger {output.ledger:q} > {log:q} 2>&1"


rule index_shards:
    """Check that every utterance is in a shard, and write the manifest, metadata and ledger of all shards."""
    input:
        code=code("index_shards.py"),
        plan="data/shards/{corpus}_{split}/plan.bin",
        groups=ask(plan.group_ledgers),
    output:
        manifest="data/shards/{corpus}_{split}/tarred_audio_manifest.json",
        metadata="data/shards/{corpus}_{split}/metadata.yaml",
        ledger="data/shards/{corpus}_{split}/ledger.json",
    log:
        "logs/index_shards/{corpus}_{split}.log",
    benchmark:
        "benchmarks/index_shards/{corpus}_{split}.tsv"
    conda:
        "../envs/data.yaml"
    resources:
        mem_mb=1000,
        runtime=60,
    params:
        folder=subpath(output.ledger, parent=True),
    shell:
        "python {input.code[0]:q} --plan {input.plan:q} --group-ledger {input.groups:q}"
        " --output-dir {params.folder:q} --ledger {output.ledger:q} > {log:q} 2>&1"


rule index_nemo_shards:
    """Check tar shards that are there already and used as they are, and write their ledger."""
    input:
        code=code("index_nemo_shards.py"),
        manifests=ask(plan.shard_manifests),
    output:
        manifest="data/shards/{corpus}_{split}/tarred_audio_manifest.json",
        ledger="data/shards/{corpus}_{split}/ledger.json",
        cuts="data/manifests/{corpus}_cuts_{split}.jsonl.gz",
        utterances="data/manifests/{corpus}_ledger_{split}.json",
    log:
        "logs/index_nemo_shards/{corpus}_{split}.log",
    benchmark:
        "benchmarks/index_nemo_shards/{corpus}_{split}.tsv"
    wildcard_constraints:
        corpus=plan.corpora_from("nemo_shards"),
    conda:
        "../envs/data.yaml"
    threads: 4
    resources:
        mem_mb=for_rows,
        runtime=240,
    params:
        folder=subpath(output.ledger, parent=True),
        shards=ask(plan.shard_arguments),
        losses=ask(plan.shard_losses),
    shell:
        "python {input.code[0]:q} --corpus {wildcards.corpus:q} --split {wildcards.split:q} {params.shards:q}"
        " --repair {params.losses:q} --threads {threads} --output-dir {params.folder:q} --cuts {output.cuts:q}"
        " --utterances {output.utterances:q} > {log:q} 2>&1"


# The ledger, and cuts to plan a training by, come from no other rule where the shards are the source.
ruleorder: index_nemo_shards > index_shards
ruleorder: index_nemo_shards > build_cutset
