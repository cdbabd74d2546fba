# Needs: espeakng-loader (envs/requirements-dev.txt) and config/pretrain_quickstart.yaml.
# Gives: the base model of the quickstart, which is committed as resources/quickstart/base.nemo.


rule speak_pretraining_corpus:
    """Speak the corpus that the base model of the quickstart is trained on."""
    input:
        code=[plan.path(f"resources/quickstart/{name}.py") for name in ("generate", "grammar", "espeak")],
    output:
        archive="data/downloads/quickstart_pretrain/train.tar.gz",
    log:
        "logs/speak_pretraining_corpus/all.log",
    benchmark:
        "benchmarks/speak_pretraining_corpus/all.tsv"
    conda:
        "../envs/data.yaml"
    shell:
        "python {input.code[0]:q} --only pretrain --output {resources.tmpdir:q}/nuptse-quickstart > {log:q} 2>&1"
        " && mv {resources.tmpdir:q}/nuptse-quickstart/pretrain/train.tar.gz {output.archive:q}"


ruleorder: speak_pretraining_corpus > download_archive


rule pretrain_quickstart:
    """Train the base model of the quickstart anew; with --configfile config/pretrain_quickstart.yaml."""
    input:
        "results/pretrain_quickstart/checkpoints/pretrain_quickstart.nemo",
