#!/usr/bin/env python3
"""Writes networks.json: states and embeddings of tiny seeded checkpoints of several architectures, computed with PyTorch.

    pip install torch transformers
    python3 make_networks.py > networks.json

The networks are transformers' own. No weights are stored: `tests/networks.rs` makes the same ones with the same generator.
Tensor number t, in the order of a network's list, element i is
    amplitude * (2 * u - 1) + offset,   u = splitmix64(t * 2^32 + i) >> 40, divided by 2^24
computed in double precision and rounded to single; amplitude and offset are 0.1 and 1 for a norm's weight, else 0.25 and 0.
Windows are ids without the special tokens 2 (first) and 3 (last); states are those of the window's tokens, of unit length, and
embeddings the unit mean over all tokens.
"""
import json
import sys

import numpy as np
import torch
import transformers
from seeded import splitmix64

SHAPE = {"vocab_size": 40, "hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 48,
         "max_position_embeddings": 64, "pad_token_id": 1, "layer_norm_eps": 1e-5}
CONFIGS = {
    # Every third layer attends to everything, the others to four tokens on either side.
    "modernbert": (transformers.ModernBertConfig, transformers.ModernBertModel, {
        **SHAPE, "norm_eps": 1e-5, "global_attn_every_n_layers": 3, "global_rope_theta": 160000.0, "local_attention": 8,
        "local_rope_theta": 10000.0, "hidden_activation": "gelu"}),
    "xlm-roberta": (transformers.XLMRobertaConfig, transformers.XLMRobertaModel, {
        **SHAPE, "type_vocab_size": 1, "hidden_act": "gelu", "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0,
        "position_embedding_type": "absolute"}),
    "distilbert": (transformers.DistilBertConfig, transformers.DistilBertModel, {
        "vocab_size": 40, "dim": 32, "n_layers": 3, "n_heads": 4, "hidden_dim": 48, "max_position_embeddings": 64,
        "pad_token_id": 1, "activation": "gelu", "initializer_range": 0.02}),
}
WINDOWS = [[5], [7, 4, 9, 12, 5, 38, 4], [(5 * i * i + 3 * i) % 36 + 4 for i in range(30)]]


def tensor(t, name, shape):
    amplitude, offset = (0.1, 1.0) if "norm" in name.lower() and name.endswith("weight") else (0.25, 0.0)
    n = int(np.prod(shape))
    values = [amplitude * (2.0 * ((splitmix64((t << 32) + i) >> 40) / 2.0**24) - 1.0) + offset for i in range(n)]
    return torch.tensor(np.array(values, dtype=np.float64).astype(np.float32).reshape(shape))


def main():
    out = {}
    for name, (config_class, model_class, config) in CONFIGS.items():
        made = config_class(**config, attn_implementation="eager")
        for dropout in [key for key in made.to_dict() if "dropout" in key and isinstance(getattr(made, key), float)]:
            setattr(made, dropout, 0.0)
        model = model_class(made).eval()
        state = {k: v for k, v in model.state_dict().items() if "position_ids" not in k and "pooler" not in k}
        names = [(k, list(v.shape)) for k, v in sorted(state.items())]
        filled = {k: tensor(t, k, shape) for t, (k, shape) in enumerate(names)}
        missing, unexpected = model.load_state_dict(filled, strict=False)
        assert not unexpected and all("position_ids" in m or "pooler" in m for m in missing), (missing, unexpected)
        rows = []
        for window in WINDOWS:
            ids = torch.tensor([[2, *window, 3]])
            with torch.no_grad():
                states = model(ids, attention_mask=torch.ones_like(ids)).last_hidden_state[0]
            unit = torch.nn.functional.normalize(states, dim=-1)[1:-1]
            mean = torch.nn.functional.normalize(states.mean(dim=0), dim=-1)
            listed = lambda v: [float(f"{x:.6g}") for x in v.flatten().tolist()]  # noqa: E731
            rows.append({"ids": window, "states": listed(unit), "embedding": listed(mean)})
        out[name] = {"config": {"model_type": name, **config}, "tensors": names, "rows": rows}
    json.dump(out, sys.stdout, separators=(",", ":"))
    print()


if __name__ == "__main__":
    main()
