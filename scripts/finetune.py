"""Fine-tune a NeMo model; the options are those of NeMo's speech_to_text_finetune.py."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from nuptse.diagnosis import check_report
from nuptse.errors import announce, log_to, run_command
from nuptse.ranks import end_with_parent, enter_nodes, is_first, local_rank, log_suffix
from nuptse.runtime import prepare_runtime

NODES = "trainer.num_nodes="


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--experiment", required=True)
    parser.add_argument("--base", type=Path, required=True, help="model to start from, .nemo")
    parser.add_argument("--bins", type=Path, required=True, help="duration bins, JSON")
    for role in ("train", "validation"):
        parser.add_argument(f"--{role}", type=Path, nargs="+", required=True, help="cuts, manifests or shard ledgers")
    parser.add_argument("--doctor", type=Path, required=True, help="report of the doctor; its errors stop the training")
    parser.add_argument("--output-dir", type=Path, required=True, help="results/<experiment>")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads on each node, for all of its devices")
    parser.add_argument("--every-n-steps", type=int, help="save the state of the training so often")
    parser.add_argument("--every-minutes", type=float, help="and so often")
    parser.add_argument("--log", type=Path, help="file for all output; the progress stays on the terminal as well")
    parser.add_argument("options", nargs="+", help="key=value, such as trainer.max_steps=100")
    args = parser.parse_args(argv)
    nodes = next((int(option.partition("=")[2]) for option in args.options if option.startswith(NODES)), 1)
    enter_nodes(args.experiment, nodes, args.threads)
    if local_rank() > 0:
        end_with_parent()
    if args.log:
        log_to(args.log.with_suffix(log_suffix() + args.log.suffix))
    report = check_report(args.doctor)
    prepare_runtime(args.threads)  # before NeMo is imported
    from nuptse.training import Interrupted, Job, finetune

    options = {key: value for key, value in vars(args).items() if key not in ("log", "doctor")}
    # As NeMo's options name a split.
    examined = {split["name"].replace("/", "_"): split["utterances"] for split in report.splits}
    audio = {split["name"]: split["audio"] for split in report.splits if set(split["roles"]) != {"test"}}
    try:
        account = finetune(Job(**options, examined=examined, audio=audio))
    except (Interrupted, SystemExit, KeyboardInterrupt) as stop:
        # Lightning ends with status 0 after SIGTERM; an interrupted training must never look finished.
        print(f"interrupted: {stop}", file=sys.stderr)
        sys.exit(143)
    if not is_first():
        return
    best = account["best"]
    announce(
        f"{args.experiment}: {account['global_step']} steps, val_wer {best['val_wer']:.2%} (best, step {best['step']}),"
        f" {account['audio_seconds'] / 3600:.3f} audio hours seen, {account['seconds']:.0f} s"
    )


if __name__ == "__main__":
    run_command(main)
