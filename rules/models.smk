# Needs: `models` of the configuration; for a tokenizer data/manifests/{corpus}_cuts_{split}.jsonl.gz.
# Gives: data/models/{model}.nemo, by one of four rules.


rule download_model:
    """Download a .nemo file and check it."""
    input:
        code=code("download_model.py"),
    output:
        model="data/models/{model}.nemo",
    log:
        "logs/download_model/{model}.log",
    benchmark:
        "benchmarks/download_model/{model}.tsv"
    wildcard_constraints:
        model=plan.models_from("url"),
    conda:
        "../envs/data.yaml"
    resources:
        mem_mb=500,
        runtime=240,
    params:
        checks=ask(plan.model_checks),
        identity=ask(plan.model_identity),
    shell:
        "python {input.code[0]:q} --addresses .snakemake/nuptse_addresses.json {params.checks:q}"
        " --locks data/downloads/.locks --output {output.model:q} > {log:q} 2>&1"


rule download_pretrained:
    """Download a model of the Hugging Face Hub or of NGC, once."""
    input:
        code=code("download_pretrained.py"),
    output:
        model="data/models/{model}.nemo",
    log:
        "logs/download_pretrained/{model}.log",
    benchmark:
        "benchmarks/download_pretrained/{model}.tsv"
    wildcard_constraints:
        model=plan.models_from("pretrained"),
    conda:
        "../envs/nemo.yaml"
    resources:
        mem_mb=4000,
        runtime=240,
    params:
        name=ask(plan.pretrained_name),
        checks=ask(plan.model_checks),
    shell:
        "python {input.code[0]:q} --name {params.name:q} {params.checks:q} --model {output.model:q} > {log:q} 2>&1"


rule build_model:
    """Train a tokenizer on transcripts, and make an untrained model around it."""
    input:
        code=code("build_model.py"),
        cuts=ask(plan.tokenizer_cuts),
    output:
        model="data/models/{model}.nemo",
    log:
        "logs/build_model/{model}.log",
    benchmark:
        "benchmarks/build_model/{model}.tsv"
    wildcard_constraints:
        model=plan.models_from("from_scratch"),
    conda:
        "../envs/nemo.yaml"
    resources:
        mem_mb=8000,
        runtime=60,
    params:
        architecture=ask(plan.architecture),
    shell:
        "python {input.code[0]:q} --architecture {params.architecture:q} --cuts {input.cuts:q}"
        " --model {output.model:q} > {log:q} 2>&1"


rule adapt_model:
    """Train a tokenizer on transcripts, and give it to another model, with an untrained decoder."""
    input:
        code=code("adapt_model.py"),
        base=ask(plan.adapted_model),
        cuts=ask(plan.tokenizer_cuts),
    output:
        model="data/models/{model}.nemo",
    log:
        "logs/adapt_model/{model}.log",
    benchmark:
        "benchmarks/adapt_model/{model}.tsv"
    wildcard_constraints:
        model=plan.models_from("from_model"),
    conda:
        "../envs/nemo.yaml"
    resources:
        mem_mb=8000,
        runtime=60,
    params:
        adaptation=ask(plan.adaptation),
    shell:
        "python {input.code[0]:q} --base {input.base:q} --adaptation {params.adaptation:q} --cuts {input.cuts:q}"
        " --model {output.model:q} > {log:q} 2>&1"
