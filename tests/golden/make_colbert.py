#!/usr/bin/env python3
"""Writes colbert.json: a tiny seeded ColBERT checkpoint's ids, masks, vectors and scores, computed with PyTorch.

    pip install torch transformers
    python3 make_colbert.py > colbert.json

The BERT is transformers' own; what ColBERT adds (markers, [MASK] filling without attention, projection, punctuation
filter, MaxSim) is written out below as the paper and its reference implementation define it. No weights are stored:
`tests/colbert.rs` makes the same ones with the same generator. Tensor number t, in the order of NAMES, element i is
    amplitude * (2 * u - 1) + offset,   u = splitmix64(t * 2^32 + i) >> 40, divided by 2^24
computed in double precision and rounded to single; amplitude and offset are 0.1 and 1 for a norm's weight, else 0.25 and 0.
"""
import json
import string
import sys

import numpy as np
import torch
from seeded import splitmix64
from transformers import BertConfig, BertModel

WORDS = "the keeper of lamp counted seven green ledger ##s ##ed fog came in from shore and trimmed each wick before evening".split()
VOCAB = ["[PAD]", "[unused0]", "[unused1]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"] + list(string.punctuation) + WORDS
CONFIG = {
    "model_type": "bert", "vocab_size": len(VOCAB), "hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 3,
    "intermediate_size": 80, "hidden_act": "gelu", "max_position_embeddings": 64, "type_vocab_size": 2,
    "layer_norm_eps": 1e-12, "pad_token_id": 0,
}
METADATA = {
    "dim": 20, "query_maxlen": 16, "doc_maxlen": 24, "mask_punctuation": True, "attend_to_mask_tokens": False,
    "query_token_id": "[unused0]", "doc_token_id": "[unused1]",
}
QUERIES = [["keeper", "counted", "lamp", "##s"], ["fog"], [], ["the", "wick", ",", "trimmed", "##ed", "?"] + ["evening"] * 7]
DOCUMENTS = [
    ["the", "keeper", "of", "the", "lamp", "##s", ",", "counted", "seven", "."],
    ["fog", "came", "in", "from", "the", "shore", ";", "evening", "!"],
    ["(", ")", "-"],
    ["each", "wick", "before", "the", "green", "ledger", "and"] * 3,
]


def names():
    h, n = CONFIG["hidden_size"], CONFIG["intermediate_size"]
    out = [("bert.embeddings.word_embeddings.weight", [len(VOCAB), h]),
           ("bert.embeddings.position_embeddings.weight", [CONFIG["max_position_embeddings"], h]),
           ("bert.embeddings.token_type_embeddings.weight", [2, h]),
           ("bert.embeddings.LayerNorm.weight", [h]), ("bert.embeddings.LayerNorm.bias", [h])]
    for i in range(CONFIG["num_hidden_layers"]):
        p = f"bert.encoder.layer.{i}."
        for part in ("query", "key", "value"):
            out += [(p + f"attention.self.{part}.weight", [h, h]), (p + f"attention.self.{part}.bias", [h])]
        out += [(p + "attention.output.dense.weight", [h, h]), (p + "attention.output.dense.bias", [h]),
                (p + "attention.output.LayerNorm.weight", [h]), (p + "attention.output.LayerNorm.bias", [h]),
                (p + "intermediate.dense.weight", [n, h]), (p + "intermediate.dense.bias", [n]),
                (p + "output.dense.weight", [h, n]), (p + "output.dense.bias", [h]),
                (p + "output.LayerNorm.weight", [h]), (p + "output.LayerNorm.bias", [h])]
    return out + [("linear.weight", [METADATA["dim"], h])]


def tensor(t, name, shape):
    amplitude, offset = (0.1, 1.0) if name.endswith("LayerNorm.weight") else (0.25, 0.0)
    n = int(np.prod(shape))
    values = [amplitude * (2.0 * ((splitmix64((t << 32) + i) >> 40) / 2.0**24) - 1.0) + offset for i in range(n)]
    return torch.tensor(np.array(values, dtype=np.float64).astype(np.float32).reshape(shape))


def main():
    tensors = {name: tensor(t, name, shape) for t, (name, shape) in enumerate(names())}
    config = BertConfig(**{k: v for k, v in CONFIG.items() if k != "model_type"}, hidden_dropout_prob=0.0,
                        attention_probs_dropout_prob=0.0, attn_implementation="eager")
    bert = BertModel(config, add_pooling_layer=False).eval()
    state = {k.removeprefix("bert."): v for k, v in tensors.items() if k.startswith("bert.")}
    missing, unexpected = bert.load_state_dict(state, strict=False)
    assert not unexpected and all("position_ids" in m for m in missing), (missing, unexpected)
    ids_of = {word: i for i, word in enumerate(VOCAB)}
    cls, sep, mask, pad = (ids_of[w] for w in ("[CLS]", "[SEP]", "[MASK]", "[PAD]"))
    skip = {ids_of[p] for p in string.punctuation}

    def vectors(ids, attention):
        with torch.no_grad():
            states = bert(torch.tensor([ids]), attention_mask=torch.tensor([attention])).last_hidden_state[0]
            return torch.nn.functional.normalize(states @ tensors["linear.weight"].T, p=2, dim=-1)

    def row(ids, attention, kept):
        return {"ids": ids, "attention": attention, "scored": [bool(k) for k in kept]}

    queries, documents = [], []
    for words in QUERIES:
        ids = [cls] + [ids_of[w] for w in words][: METADATA["query_maxlen"] - 3] + [sep]
        ids = ids + [pad] * (METADATA["query_maxlen"] - 1 - len(ids))
        ids = ids[:1] + [ids_of["[unused0]"]] + ids[1:]
        attention = [int(i != pad) for i in ids]
        ids = [mask if i == pad else i for i in ids]
        queries.append((row(ids, attention, [True] * len(ids)), vectors(ids, attention)))
    for words in DOCUMENTS:
        ids = [cls, ids_of["[unused1]"]] + [ids_of[w] for w in words][: METADATA["doc_maxlen"] - 3] + [sep]
        attention = [1] * len(ids)
        kept = [i not in skip for i in ids]
        documents.append((row(ids, attention, kept), vectors(ids, attention)[torch.tensor(kept)]))
    scores = [[float((q @ d.T).max(dim=1).values.sum()) for _, d in documents] for _, q in queries]

    def listed(side, words):
        return [{"words": w, **r, "vectors": [float(f"{x:.6g}") for x in v.flatten().tolist()]} for w, (r, v) in zip(words, side)]

    json.dump({"vocab": VOCAB, "config": CONFIG, "metadata": METADATA, "tensors": names(),
               "queries": listed(queries, QUERIES), "documents": listed(documents, DOCUMENTS), "scores": scores},
              sys.stdout, separators=(",", ":"))
    print()


if __name__ == "__main__":
    main()
