# Needs: data/manifests/{corpus}_cuts_{split}.jsonl.gz.
# Gives: results/{experiment}/duration_bins.json.


rule bins:
    """Estimate the duration bins of every experiment."""
    input:
        expand("results/{experiment}/duration_bins.json", experiment=plan.experiments),


rule estimate_duration_bins:
    """Find bucket edges that give every bucket the same amount of the blend's audio."""
    input:
        code=code("estimate_duration_bins.py"),
        cuts=ask(plan.training_cuts),
    output:
        bins="results/{experiment}/duration_bins.json",
    log:
        "logs/estimate_duration_bins/{experiment}.log",
    benchmark:
        "benchmarks/estimate_duration_bins/{experiment}.tsv"
    conda:
        "../envs/data.yaml"
    resources:
        mem_mb=1000,
        runtime=60,
    params:
        blend=ask(plan.bin_arguments),
    shell:
        "python {input.code[0]:q} --cuts {input.cuts:q} {params.blend:q} --bins {output.bins:q} > {log:q} 2>&1"
