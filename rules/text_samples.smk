# Needs: data/recipes/{corpus}/.
# Gives: results/text_samples/{corpus}_{split}.json. Nothing else depends on it.


rule text_samples:
    """Show what the text profiles do to the transcripts of every split that an experiment uses."""
    input:
        plan.all_text_samples(),


rule sample_texts:
    """Show what the text profile does to the transcripts of a split, step by step."""
    input:
        code=code("sample_texts.py"),
        recipe="data/recipes/{corpus}",
    output:
        samples="results/text_samples/{corpus}_{split}.json",
    log:
        "logs/sample_texts/{corpus}_{split}.log",
    benchmark:
        "benchmarks/sample_texts/{corpus}_{split}.tsv"
    conda:
        "../envs/data.yaml"
    resources:
        mem_mb=4000,
        runtime=60,
    params:
        selection=ask(plan.text_arguments),
    shell:
        "python {input.code[0]:q} --recipe-dir {input.recipe:q} --corpus {wildcards.corpus:q}"
        " --split {wildcards.split:q} {params.selection:q} --output {output.samples:q} 2>&1 | tee {log:q}"
