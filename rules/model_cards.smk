# Needs: results/{experiment}/train.json, results/scores/, data/manifests/{corpus}_{cuts,ledger}_{split}.
# Gives: results/{experiment}/README.md.


rule write_model_card:
    """Write the model card of an experiment: data, results against the base model, use, training, limits."""
    input:
        code=code("write_model_card.py"),
        template=plan.path("scripts/nuptse/model_card.md.jinja"),
        train="results/{experiment}/train.json",
        cuts=ask(plan.training_cuts),
        ledgers=ask(plan.training_ledgers),
        scores=ask(plan.experiment_scores),
        base_scores=ask(plan.base_scores),
    output:
        card="results/{experiment}/README.md",
    log:
        "logs/write_model_card/{experiment}.log",
    benchmark:
        "benchmarks/write_model_card/{experiment}.tsv"
    conda:
        "../envs/report.yaml"
    resources:
        mem_mb=1000,
        runtime=30,
    params:
        facts=ask(plan.card_facts),
        configfiles=ask_where(configfiles),
    shell:
        "python {input.code[0]:q} --facts {params.facts:q} --train {input.train:q} --cuts {input.cuts:q}"
        " --ledgers {input.ledgers:q} --scores {input.scores:q} --base-scores {input.base_scores:q}"
        " --configfile {params.configfiles:q} --template {input.template:q} --card {output.card:q} > {log:q} 2>&1"


rule model_cards:
    """Write the model card of every experiment."""
    input:
        expand("results/{experiment}/README.md", experiment=plan.experiments),
        unfinished("results/"),
