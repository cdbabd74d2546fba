# Needs: data/raw/{corpus}/, or the files that the source of a corpus names.
# Gives: data/recipes/{corpus}/, data/converted/{corpus}/,
#        data/manifests/{corpus}_{selected,dropped,selection,audio}_{split},
#        data/manifests/{corpus}_{recordings,supervisions,cuts,quarantine,ledger,nemo}_{split},
#        data/audio_checks/{corpus}_{split}/ (what was measured before, so that no file is decoded twice).


rule manifests:
    """Write the Lhotse and NeMo manifests of every split that an experiment uses."""
    input:
        plan.all_manifests(),
        unfinished("data/"),


rule prepare_manifests:
    """Read a corpus from its source: a Lhotse recipe, a table, a manifest, a folder."""
    input:
        unpack(ask(plan.corpus_inputs)),
        code=code("prepare_manifests.py"),
    output:
        folder=directory("data/recipes/{corpus}"),
    log:
        "logs/prepare_manifests/{corpus}.log",
    benchmark:
        "benchmarks/prepare_manifests/{corpus}.tsv"
    conda:
        "../envs/data.yaml"
    threads: 4
    resources:
        mem_mb=4000,
        runtime=240,
    params:
        source=ask(plan.source_arguments),
        changes=ask(plan.corpus_changes),
        losses=ask(plan.audio_losses),
    shell:
        "python {input.code[0]:q} --corpus {wildcards.corpus:q} {params.source:q} --changes {params.losses:q}"
        " --converted-dir data/converted/{wildcards.corpus:q} --num-jobs {threads}"
        " --output-dir {output.folder:q} > {log:q} 2>&1"


rule select_utterances:
    """Select the utterances of a split, and apply the text profile and the filters."""
    input:
        code=code("select_utterances.py"),
        recipe="data/recipes/{corpus}",
    output:
        selected="data/manifests/{corpus}_selected_{split}.jsonl.gz",
        dropped="data/manifests/{corpus}_dropped_{split}.jsonl.gz",
        ledger="data/manifests/{corpus}_selection_{split}.json",
    log:
        "logs/select_utterances/{corpus}_{split}.log",
    benchmark:
        "benchmarks/select_utterances/{corpus}_{split}.tsv"
    conda:
        "../envs/data.yaml"
    resources:
        mem_mb=4000,
        runtime=120,
    params:
        selection=ask(plan.selection_arguments),
    shell:
        "python {input.code[0]:q} --recipe-dir {input.recipe:q} --corpus {wildcards.corpus:q}"
        " --split {wildcards.split:q} {params.selection:q} --selected {output.selected:q}"
        " --dropped {output.dropped:q} --ledger {output.ledger:q} --log {log:q}"


rule check_audio_group:
    """Decode one group of the audio files of a large split, so that many jobs share the work of check_audio."""
    input:
        code=code("check_audio.py"),
        recipe="data/recipes/{corpus}",
        selected="data/manifests/{corpus}_selected_{split}.jsonl.gz",
    output:
        ledger="data/audio_checks/{corpus}_{split}/{group}.json",
    log:
        "logs/check_audio_group/{corpus}_{split}/{group}.log",
    benchmark:
        "benchmarks/check_audio_group/{corpus}_{split}/{group}.tsv"
    conda:
        "../envs/data.yaml"
    threads: 4
    resources:
        mem_mb=4000,
        runtime=240,
    params:
        cache=subpath(output.ledger, parent=True),
        groups=ask(plan.num_audio_groups),
    shell:
        "python {input.code[0]:q} --selected {input.selected:q} --cache {params.cache:q}/cache --workers {threads}"
        " --group {wildcards.group} {params.groups} --ledger {output.ledger:q} > {log:q} 2>&1"


rule check_audio:
    """Decode the audio of every selected utterance, and write what it is: length, level, clipping, bandwidth."""
    input:
        code=code("check_audio.py"),
        # Prepared anew when an audio file changed, even where the manifests stay the same.
        recipe="data/recipes/{corpus}",
        selected="data/manifests/{corpus}_selected_{split}.jsonl.gz",
        groups=ask(plan.audio_groups),
    output:
        facts="data/manifests/{corpus}_audio_{split}.jsonl.gz",
    log:
        "logs/check_audio/{corpus}_{split}.log",
    benchmark:
        "benchmarks/check_audio/{corpus}_{split}.tsv"
    conda:
        "../envs/data.yaml"
    threads: 4
    resources:
        mem_mb=4000,
        runtime=240,
    params:
        # Only for what is printed: another limit measures nothing anew.
        limits=ask_where(plan.audio_limits),
    shell:
        "python {input.code[0]:q} --selected {input.selected:q}"
        " --cache data/audio_checks/{wildcards.corpus:q}_{wildcards.split:q}/cache --workers {threads}"
        " --limits {params.limits:q} --facts {output.facts:q} > {log:q} 2>&1"


rule build_cutset:
    """Make the Lhotse manifests of a split: one cut for each utterance that is not in quarantine."""
    input:
        unpack(ask(plan.quarantine_inputs)),
        code=code("build_cutset.py"),
        recipe="data/recipes/{corpus}",
        selected="data/manifests/{corpus}_selected_{split}.jsonl.gz",
        selection="data/manifests/{corpus}_selection_{split}.json",
    output:
        recordings="data/manifests/{corpus}_recordings_{split}.jsonl.gz",
        supervisions="data/manifests/{corpus}_supervisions_{split}.jsonl.gz",
        cuts="data/manifests/{corpus}_cuts_{split}.jsonl.gz",
        quarantine="data/manifests/{corpus}_quarantine_{split}.jsonl.gz",
        ledger="data/manifests/{corpus}_ledger_{split}.json",
    log:
        "logs/build_cutset/{corpus}_{split}.log",
    benchmark:
        "benchmarks/build_cutset/{corpus}_{split}.tsv"
    conda:
        "../envs/data.yaml"
    resources:
        mem_mb=4000,
        runtime=120,
    params:
        quarantine=ask(plan.quarantine_arguments),
    shell:
        "python {input.code[0]:q} --selected {input.selected:q} --selection {input.selection:q}"
        " {params.quarantine:q} --recordings {output.recordings:q} --supervisions {output.supervisions:q}"
        " --cuts {output.cuts:q} --quarantine {output.quarantine:q} --ledger {output.ledger:q} --log {log:q}"


rule export_nemo_manifest:
    """Write the cuts of a split as a NeMo JSON manifest."""
    input:
        code=code("export_nemo_manifest.py"),
        cuts="data/manifests/{corpus}_cuts_{split}.jsonl.gz",
    output:
        manifest="data/manifests/{corpus}_nemo_{split}.json",
    log:
        "logs/export_nemo_manifest/{corpus}_{split}.log",
    benchmark:
        "benchmarks/export_nemo_manifest/{corpus}_{split}.tsv"
    conda:
        "../envs/data.yaml"
    resources:
        mem_mb=500,
        runtime=60,
    shell:
        "python {input.code[0]:q} --cuts {input.cuts:q} --manifest {output.manifest:q} > {log:q} 2>&1"
