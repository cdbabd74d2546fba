# Needs: training and validation data in the layout of the experiment, its duration bins, its base model,
#        results/doctor/{experiment}.json.
# Gives: results/{experiment}/checkpoints/{experiment}.nemo, best.ckpt, last.ckpt; train.json, config.yaml, tensorboard/.


rule finetune_model:
    """Fine-tune the base model on the data of one experiment, in its layout."""
    input:
        # Of the code only the launcher: an edit elsewhere that leaves the options alone must not cost GPU hours.
        launcher=plan.path("scripts/finetune.py"),
        base=ask(plan.base_model),
        bins="results/{experiment}/duration_bins.json",
        train=ask(plan.training_data),
        validation=ask(plan.validation_data),
        doctor=doctor_report,
    output:
        model="results/{experiment}/checkpoints/{experiment}.nemo",
        best="results/{experiment}/checkpoints/best.ckpt",
        last="results/{experiment}/checkpoints/last.ckpt",
        config="results/{experiment}/config.yaml",
        report=report(
            "results/{experiment}/train.json",
            category="Trainings",
            caption="captions/train.rst",
            labels={"experiment": "{experiment}"},
        ),
    log:
        "logs/finetune_model/{experiment}.log",
    benchmark:
        "benchmarks/finetune_model/{experiment}.tsv"
    conda:
        "../envs/nemo.yaml"
    threads: ask(plan.training_threads)
    resources:
        gpu=ask(plan.gpus),
        mem_mb=for_each_device(16000),
        runtime=720,
        nodes=for_nodes("nodes"),
        tasks=for_nodes("tasks"),
        tasks_per_gpu=for_nodes("tasks_per_gpu"),
        gres=for_nodes("gres"),
        mpi=for_nodes("mpi"),
    params:
        folder=subpath(output.report, parent=True),
        overrides=ask(plan.overrides),
        checkpoint=ask_where(plan.checkpoint_arguments),
    shell:
        "python {input.launcher:q} --experiment {wildcards.experiment:q} --base {input.base:q} --bins {input.bins:q}"
        " --train {input.train:q} --validation {input.validation:q} --doctor {input.doctor:q}"
        " --output-dir {params.folder:q} --threads {threads} {params.checkpoint:q} --log {log:q} -- {params.overrides:q}"


rule finetune:
    """Fine-tune the base model in every experiment."""
    input:
        expand(rules.finetune_model.output, experiment=plan.experiments),
        unfinished("data/", "results/doctor/", *(f"results/{name}/" for name in plan.experiments)),
