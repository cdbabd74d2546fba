# Needs: data/models/{model}.nemo, results/{experiment}/checkpoints/, data/manifests/{corpus}_cuts_{split}.jsonl.gz.
# Gives: results/transcripts/{recogniser}/, results/scores/{recogniser}/, results/wer.tsv, results/wer_comparisons.tsv.
# A recogniser is an experiment, or a base model as it was before.


rule transcribe:
    """Write what a recogniser hears in every validation and test split that it is judged by."""
    input:
        code=code("transcribe.py"),
        model=ask(plan.recogniser_model),
        cuts=ask(plan.evaluation_cuts),
        decoding=plan.decoding_inputs(),
    output:
        folder=directory("results/transcripts/{recogniser}"),
    log:
        "logs/transcribe/{recogniser}.log",
    benchmark:
        "benchmarks/transcribe/{recogniser}.tsv"
    conda:
        "../envs/nemo.yaml"
    threads: plan.threads
    resources:
        gpu=1,
        mem_mb=8000,
        runtime=240,
    params:
        names=ask(plan.evaluation_names),
        decoding=plan.decoding_options(),
    shell:
        "python {input.code[0]:q} --model {input.model:q} --cuts {input.cuts:q} --names {params.names:q}"
        " --output-dir {output.folder:q} --threads {threads} --decoding {params.decoding:q} --log {log:q}"


rule score_wer:
    """Count the errors of a recogniser in one split, with confidence intervals."""
    input:
        code=code("score_wer.py"),
        transcripts="results/transcripts/{recogniser}",
    output:
        scores="results/scores/{recogniser}/{corpus}_{split}.json",
    log:
        "logs/score_wer/{recogniser}/{corpus}_{split}.log",
    benchmark:
        "benchmarks/score_wer/{recogniser}/{corpus}_{split}.tsv"
    conda:
        "../envs/nemo.yaml"
    resources:
        mem_mb=2000,
        runtime=60,
    params:
        normalizer=ask(plan.normalizer),
    shell:
        "python {input.code[0]:q} --transcripts {input.transcripts:q}/{wildcards.corpus:q}_{wildcards.split:q}.jsonl"
        " --timing {input.transcripts:q}/{wildcards.corpus:q}_{wildcards.split:q}.json"
        " --recogniser {wildcards.recogniser:q} --corpus {wildcards.corpus:q} --split {wildcards.split:q}"
        " --normalizer {params.normalizer} --seed 0 --scores {output.scores:q} > {log:q} 2>&1"


rule summarize_wer:
    """Put the scores of all recognisers into one table, and compare them."""
    input:
        code=code("summarize_wer.py"),
        scores=plan.all_scores(),
    output:
        table=report("results/wer.tsv", category="Tables", caption="captions/wer.rst", labels={"table": "error rates"}),
        comparisons=report(
            "results/wer_comparisons.tsv",
            category="Tables",
            caption="captions/wer_comparisons.rst",
            labels={"table": "paired comparisons"},
        ),
    log:
        "logs/summarize_wer/all.log",
    benchmark:
        "benchmarks/summarize_wer/all.tsv"
    conda:
        "../envs/data.yaml"
    resources:
        mem_mb=2000,
        runtime=60,
    params:
        pairs=plan.comparison_arguments(),
    shell:
        "python {input.code[0]:q} --scores {input.scores:q} {params.pairs:q} --table {output.table:q}"
        " --comparisons {output.comparisons:q} 2>&1 | tee {log:q}"


rule evaluate:
    """Transcribe and score every split with every recogniser: results/wer.tsv."""
    input:
        rules.summarize_wer.output,
        unfinished("results/"),
