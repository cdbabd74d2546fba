# Nuptse: speech corpora in, fine-tuned NeMo recognisers out. What to study stands in config/, where to run in profiles/.
from snakemake.utils import min_version

min_version("9.27")


configfile: f"{workflow.basedir}/config/config.yaml"


# Used with `--sdm=apptainer` only, in the folder of this file.
container: "envs/nuptse.sif"


report: "rules/captions/workflow.rst"


include: "rules/common.smk"
include: "rules/download.smk"
include: "rules/manifests.smk"
include: "rules/text_samples.smk"
include: "rules/shards.smk"
include: "rules/duration_bins.smk"
include: "rules/models.smk"
include: "rules/doctor.smk"
include: "rules/finetune.smk"
include: "rules/evaluate.smk"
include: "rules/model_cards.smk"
include: "rules/transcripts.smk"
include: "rules/quickstart.smk"
include: "rules/report.smk"


# On a cluster these run beside Snakemake: downloads, because the nodes may lack the network, and what takes seconds.
localrules:
    download_archive,
    download_model,
    download_pretrained,
    export_nemo_manifest,
    plan_shards,
    index_shards,
    count_durations,
    estimate_duration_bins,
    score_wer,
    summarize_wer,
    write_model_card,
    write_report,


rule all:
    """Everything: the fine-tuned model of every experiment with its card, and the page that shows how well they hear."""
    default_target: True
    input:
        rules.finetune.input,
        rules.evaluate.input,
        rules.model_cards.input,
        rules.report.input,
        unfinished(),


say_what_is_unfinished()


onstart:
    check_trainings()
    hand_over(ADDRESSES, addresses_needed())
    begin_run(UNFINISHED, plan.files_on_the_way())
    bring_back(file for job in workflow.dag.needrun_jobs() for file in job.input)


onerror:
    end_run(UNFINISHED)


# Snakemake lists every file of the last jobs: say after it what one waited for.
onsuccess:
    end_run(UNFINISHED)
    say_again("logs/summarize_wer/all.log", "logs/write_report/all.log")
