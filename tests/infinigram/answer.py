"""What the infini-gram package makes of an index and answers on it; run by tests/infinigram.rs.

    answer.py sort DIRECTORY WIDTH     sorts every tokenized.N of the directory
    answer.py query DIRECTORY WIDTH VOCABULARY    JSON {"queries": [[id, …], …]} in, JSON of the package's answers out
"""
import json
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "benches" / "peers"))

from peer import infinigram  # noqa: E402
from infini_gram.engine import InfiniGramEngine  # noqa: E402

action, directory, width = sys.argv[1], pathlib.Path(sys.argv[2]), int(sys.argv[3])
if action == "sort":
    for tokens in sorted(directory.glob("tokenized.*")):
        infinigram.sort(directory, tokens.name.split(".", 1)[1], width)
else:
    vocab = int(sys.argv[4])
    engine = InfiniGramEngine(index_dir=str(directory), eos_token_id=vocab - 1, vocab_size=vocab, token_dtype=f"u{8 * width}",
                              max_support=100_000_000)
    answers = []
    for query in json.load(sys.stdin)["queries"]:
        count = engine.count(input_ids=query)
        following = engine.ntd(prompt_ids=query, max_support=100_000_000)
        segments = engine.find(input_ids=query)["segment_by_shard"]
        shard = next((s for s, (a, b) in enumerate(segments) if b > a), None)
        document = None
        if shard is not None:
            document = engine.get_doc_by_rank(s=shard, rank=segments[shard][0], max_disp_len=10)
        answers.append({
            "count": count["count"],
            "next": sorted([int(id), of["cont_cnt"]] for id, of in following["result_by_token_id"].items()),
            "document": document and {"shard": shard, "tokens": document["doc_len"], "metadata": document["metadata"]},
        })
    json.dump(answers, sys.stdout)
