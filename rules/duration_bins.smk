# Needs: data/manifests/{corpus}_cuts_{split}.jsonl.gz.
# Gives: data/manifests/{corpus}_durations_{split}.npz, results/{experiment}/duration_bins.json.


rule bins:
    """Estimate the duration bins of every experiment."""
    input:
        expand("results/{experiment}/duration_bins.json", experiment=plan.experiments),
        unfinished("data/"),


rule count_durations:
    """Count how many cuts of a split last how long, once for all experiments and weights."""
    input:
        code=code("count_durations.py"),
        cuts="data/manifests/{corpus}_cuts_{split}.jsonl.gz",
    output:
        durations="data/manifests/{corpus}_durations_{split}.npz",
    log:
        "logs/count_durations/{corpus}_{split}.log",
    benchmark:
        "benchmarks/count_durations/{corpus}_{split}.tsv"
    conda:
        "../envs/data.yaml"
    resources:
        mem_mb=500,
        runtime=60,
    shell:
        "python {input.code[0]:q} --cuts {input.cuts:q} --durations {output.durations:q} > {log:q} 2>&1"


rule estimate_duration_bins:
    """Find bucket edges that give every bucket the same amount of the blend's audio."""
    input:
        code=code("estimate_duration_bins.py"),
        durations=ask(plan.training_durations),
    output:
        bins="results/{experiment}/duration_bins.json",
    log:
        "logs/estimate_duration_bins/{experiment}.log",
    benchmark:
        "benchmarks/estimate_duration_bins/{experiment}.tsv"
    conda:
        "../envs/data.yaml"
    resources:
        mem_mb=500,
        runtime=60,
    params:
        blend=ask(plan.bin_arguments),
    shell:
        "python {input.code[0]:q} --durations {input.durations:q} {params.blend:q} --bins {output.bins:q} > {log:q} 2>&1"
