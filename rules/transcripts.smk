# Needs: `audio` of the configuration; data/models/{model}.nemo or results/{experiment}/checkpoints/.
# Gives: data/audio/ and transcripts/{recogniser}.jsonl. Nothing else depends on them.


rule transcripts:
    """Transcribe the audio that the key `audio` names with the model of every experiment."""
    input:
        expand("transcripts/{recogniser}.jsonl", recogniser=plan.experiments),


rule list_audio:
    """List the audio that the key `audio` names as cuts, long recordings cut at their pauses."""
    input:
        code=code("list_audio.py"),
        audio=ask(plan.audio_source),
    output:
        cuts="data/audio/cuts.jsonl.gz",
        recordings="data/audio/recordings.jsonl",
        ledger="data/audio/ledger.json",
    log:
        "logs/list_audio/all.log",
    benchmark:
        "benchmarks/list_audio/all.tsv"
    conda:
        "../envs/data.yaml"
    threads: 4
    resources:
        mem_mb=1000,
        runtime=240,
    params:
        changes=ask(plan.audio_changes),
    shell:
        "python {input.code[0]:q} --audio {input.audio:q} --threads {threads} --cuts {output.cuts:q}"
        " --recordings {output.recordings:q} --ledger {output.ledger:q} 2>&1 | tee {log:q}"


rule transcribe_audio:
    """Write what a recogniser hears in audio of one's own."""
    input:
        code=code("transcribe_audio.py"),
        model=ask(plan.recogniser_model),
        cuts="data/audio/cuts.jsonl.gz",
        recordings="data/audio/recordings.jsonl",
        decoding=plan.decoding_inputs(),
    output:
        transcripts="transcripts/{recogniser}.jsonl",
    log:
        "logs/transcribe_audio/{recogniser}.log",
    benchmark:
        "benchmarks/transcribe_audio/{recogniser}.tsv"
    conda:
        "../envs/nemo.yaml"
    threads: plan.threads
    resources:
        gpu=1,
        mem_mb=8000,
        runtime=240,
    params:
        decoding=plan.decoding_options(),
    shell:
        "python {input.code[0]:q} --model {input.model:q} --cuts {input.cuts:q} --recordings {input.recordings:q}"
        " --transcripts {output.transcripts:q} --threads {threads} --decoding {params.decoding:q} --log {log:q}"
