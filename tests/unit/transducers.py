"""A tiny transducer of NeMo, untrained."""

from typing import Any

from nuptse.models import model_config

ARCHITECTURE = {
    "tokenizer": {"vocab_size": 64, "text": ["the quick brown fox jumps over the lazy dog"]},
    "sample_rate": 16000,
    "features": 40,
    "highfreq": 4000,
    "d_model": 32,
    "n_layers": 2,
    "n_heads": 4,
    "subsampling": "stacking",
    "subsampling_factor": 4,
    "conv_kernel_size": 9,
    "att_context_size": [16, 16],
    "dropout": 0.1,
    "spec_augment": None,
    "seed": 0,
}


def transducer_config(tokenizer_dir, **joint) -> dict[str, Any]:
    """NeMo's configuration of an RNN-T, with further options of its joint."""
    config = model_config(ARCHITECTURE, tokenizer_dir)
    return config | {
        "model_defaults": {"enc_hidden": 32, "pred_hidden": 32, "joint_hidden": 32},
        "decoder": {
            "_target_": "nemo.collections.asr.modules.RNNTDecoder",
            "prednet": {"pred_hidden": 32, "pred_rnn_layers": 1, "dropout": 0.0},
        },
        "joint": {
            "_target_": "nemo.collections.asr.modules.RNNTJoint",
            "log_softmax": None,
            "fuse_loss_wer": False,
            "jointnet": {"joint_hidden": 32, "activation": "relu", "dropout": 0.0},
        }
        | joint,
        "decoding": {"strategy": "greedy_batch", "greedy": {"max_symbols": 3}},
        "loss": {"loss_name": "default"},
    }
