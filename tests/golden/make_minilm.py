#!/usr/bin/env python3
"""Writes minilm.json: token ids and embeddings of all-MiniLM-L6-v2 as sentence-transformers computes them.

    pip install torch sentence-transformers
    python3 make_minilm.py MODEL_DIR > minilm.json

The texts are written here; the vectors are what `tests/encoder.rs` compares the encoders with.
"""
import json
import sys

from sentence_transformers import SentenceTransformer

LONG = " ".join(
    f"In the {n}th year the keepers counted {n * 7} lamps along the northern shore, wrote the sum in a ledger bound in "
    "green cloth, and trimmed each wick before the evening fog came in."
    for n in range(11, 17)
)
TEXTS = [
    "",
    "the",
    "The quick brown fox jumps over the lazy dog.",
    "A man is playing a large flute beside the river.",
    "Wie spät ist es? Größer, schöner, weiter – über den Fluß.",
    "東京は日本の首都です。 北京是中国的首都。",
    "naïve café, résumé, Ångström, ﬁnancial ﬂow, ½ cup",
    "emoji 😀👩‍👩‍👧 and math ∑ᵢ xᵢ² ≤ ∞, tabs\tand\nnewlines\u00a0too",
    "def add(a, b):\n    return a + b  # 0x1F, 3.14e-10",
    "Pneumonoultramicroscopicsilicovolcanoconiosis is an unusually long word; antidisestablishmentarianism is another.",
    "How many apples does Ann have if she buys 12, eats 5 and gives half of the rest to Bob?",
    "ALL CAPITALS AND   many    spaces ... !!! ???",
    LONG,
]


def main():
    model = SentenceTransformer(sys.argv[1], device="cpu")
    rows = []
    for text in TEXTS:
        ids = model.tokenizer(text, truncation=False, padding=False)["input_ids"]
        assert len(ids) <= model.max_seq_length, len(ids)
        vector = model.encode([text], batch_size=1, normalize_embeddings=True, convert_to_numpy=True)[0]
        rows.append({"text": text, "ids": ids, "embedding": [float(f"{x:.6g}") for x in vector]})
    assert len(rows[-1]["ids"]) > 200
    sys.stdout.write("[\n" + ",\n".join(json.dumps(row, ensure_ascii=False, separators=(",", ":")) for row in rows) + "\n]\n")


if __name__ == "__main__":
    main()
