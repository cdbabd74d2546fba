# Needs: results/wer.tsv, results/wer_comparisons.tsv, results/scores/, results/{experiment}/, results/doctor/,
#        data/manifests/ (ledgers).
# Gives: results/report.html, results/figures/.


rule write_report:
    """Write the page of results, and every chart of it as SVG and PNG."""
    input:
        code=code("write_report.py"),
        table="results/wer.tsv",
        comparisons="results/wer_comparisons.tsv",
        scores=plan.all_scores(),
        train=plan.of_each_experiment("train.json"),
        # The command finds these beside train.json.
        bins=plan.of_each_experiment("duration_bins.json"),
        options=plan.of_each_experiment("config.yaml"),
        ledgers=plan.ledgers(),
        doctor=plan.doctor_reports(),
    output:
        page=report("results/report.html", category="Page", caption="captions/page.rst", labels={"page": "all results"}),
        figures=report(
            directory("results/figures"),
            patterns=["{figure}.svg"],
            category="Figures",
            caption="captions/figure.rst",
            labels={"figure": "{figure}"},
        ),
    log:
        "logs/write_report/all.log",
    benchmark:
        "benchmarks/write_report/all.tsv"
    conda:
        "../envs/report.yaml"
    resources:
        mem_mb=2000,
        runtime=60,
    params:
        pairs=plan.comparison_arguments(),
        settings=plan.page_settings(),
        configfiles=ask_where(configfiles),
    shell:
        "python {input.code[0]:q} --table {input.table:q} --comparisons {input.comparisons:q} --scores {input.scores:q}"
        " --train {input.train:q} --ledgers {input.ledgers:q} --doctor {input.doctor:q} {params.pairs:q}"
        " --settings {params.settings:q} --configfile {params.configfiles:q} --benchmarks benchmarks --page {output.page:q} --figures {output.figures:q}"
        " 2>&1 | tee {log:q}"


rule report:
    """Show all results on one page: results/report.html."""
    input:
        rules.write_report.output,
        unfinished("results/"),
