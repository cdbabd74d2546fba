# Needs: data/manifests/{corpus}_{cuts,ledger,audio}_{split}, data/models/{model}.nemo, results/{experiment}/duration_bins.json.
# Gives: results/doctor/{experiment}.json, which a training looks at before it starts.
# The report is written whatever was found: an error stops the training, not the examination of other experiments.


localrules:
    doctor,  # on a cluster, too, it is shown on the terminal


rule doctor:
    """Examine the data and the plan of every experiment, and show all that was found."""
    input:
        code=code("doctor.py"),
        reports=plan.doctor_reports(),
    log:
        "logs/doctor/all.log",
    conda:
        "../envs/data.yaml"
    shell:
        "python {input.code[0]:q} --reports {input.reports:q} 2> {log:q}"


rule examine_experiment:
    """Examine the data and the plan of one experiment: text, sets, audio, shards, steps and batches."""
    input:
        unpack(ask(plan.examined_files)),
        code=code("examine_experiment.py"),
        base=ask(plan.base_model),
        bins="results/{experiment}/duration_bins.json",
    output:
        report="results/doctor/{experiment}.json",
    log:
        "logs/examine_experiment/{experiment}.log",
    benchmark:
        "benchmarks/examine_experiment/{experiment}.tsv"
    conda:
        "../envs/nemo.yaml"  # for tokenizers that only NeMo reads
    resources:
        mem_mb=4000,
        runtime=60,
    params:
        settings=ask(plan.examined_settings),
        splits=ask(plan.examined_splits),
    shell:
        "python {input.code[0]:q} --settings {params.settings:q} --base {input.base:q} --bins {input.bins:q}"
        " --splits {params.splits:q} --cuts {input.cuts:q} --ledgers {input.ledgers:q} --audio {input.audio:q}"
        " --shards {input.shards:q} --report {output.report:q} --log {log:q}"
