# Needs: `mirrors` and `corpora` of the configuration.
# Gives: data/downloads/{corpus}/{archive}, data/raw/{corpus}/ with its ledger.


rule downloads:
    """Download the archives of every corpus that an experiment uses."""
    input:
        plan.all_archives(),


rule download_archive:
    """Download one archive from the first mirror that has it, resuming what is there, and check it."""
    input:
        code=code("download.py"),
    output:
        archive="data/downloads/{corpus}/{archive}",
    log:
        "logs/download_archive/{corpus}/{archive}.log",
    benchmark:
        "benchmarks/download_archive/{corpus}/{archive}.tsv"
    wildcard_constraints:
        archive="[^/]+",
    conda:
        "../envs/data.yaml"
    resources:
        mem_mb=500,
        runtime=720,
    params:
        checks=ask(plan.archive_checks),
        identity=ask(plan.archive_identity),
    shell:
        "python {input.code[0]:q} --addresses .snakemake/nuptse_addresses.json {params.checks:q}"
        " --locks data/downloads/.locks --output {output.archive:q} > {log:q} 2>&1"


rule extract_archives:
    """Unpack the archives of a corpus together, safely and all or nothing."""
    input:
        code=code("extract.py"),
        archives=ask(plan.archives),
    output:
        folder=directory("data/raw/{corpus}"),
        ledger="data/raw/{corpus}.json",
    log:
        "logs/extract_archives/{corpus}.log",
    benchmark:
        "benchmarks/extract_archives/{corpus}.tsv"
    conda:
        "../envs/data.yaml"
    resources:
        mem_mb=500,
        runtime=240,
    shell:
        "python {input.code[0]:q} --archive {input.archives:q} --output {output.folder:q} --ledger {output.ledger:q}"
        " > {log:q} 2>&1"
