"""What the infini-gram package answers on a token stream; run by tests/server/infinigram.rs.

JSON in: {"directory", "separator", "metadata": [line a document], "requests": [{"query_type", "query_ids", …}]}; the directory holds stream.u16, in which
every document ends with the separator. JSON out: the package's answer to each request, as its HTTP server would send it.
"""
import json
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "benches" / "peers"))

import numpy as np  # noqa: E402
from infini_gram.engine import InfiniGramEngine  # noqa: E402
from peer import infinigram  # noqa: E402

# Occurrences that are read for a distribution: more are sampled, so all of them.
MOST = 100_000_000

given = json.load(sys.stdin)
directory = pathlib.Path(given["directory"])
index = directory / "infini-gram"
infinigram.write(np.fromfile(directory / "stream.u16", dtype=np.uint16), given["separator"], index)
lines = [(line + "\n").encode() for line in given["metadata"]]
(index / "metadata.0").write_bytes(b"".join(lines))
np.cumsum([0] + [len(line) for line in lines[:-1]]).astype(np.uint64).tofile(index / "metaoff.0")
infinigram.sort(index)
engine = InfiniGramEngine(index_dir=str(index), eos_token_id=50256, vocab_size=50257, token_dtype="u16", max_support=MOST)


def answer(r):
    kind, ids = r.pop("query_type"), r.pop("query_ids", None)
    if kind == "count":
        return engine.count_cnf(ids, **r) if ids and isinstance(ids[0], list) else engine.count(ids)
    if kind in ("prob", "infgram_prob"):
        return getattr(engine, kind)(ids[:-1], ids[-1])
    if kind in ("ntd", "infgram_ntd"):
        return getattr(engine, kind)(ids, max_support=MOST)
    if kind == "find_cnf":
        return engine.find_cnf(ids, **r)
    if kind == "find":
        found = engine.find(ids)
        # With the documents of all its ranks: in which order they are is each index's own affair.
        [[start, end]] = found["segment_by_shard"]
        return {**found, "documents": [engine.get_doc_by_rank(0, rank, **r) for rank in range(start, end)]}
    raise ValueError(kind)


json.dump([answer(r) for r in given["requests"]], sys.stdout)
