"""Makes decontamination.json: what datatrove and lm-eval's janitor say of hand-written texts.

    pip install datatrove==0.10.1 spacy "xxhash<4" && pip install --no-deps lm-eval==0.4.13
    python tests/golden/make_decontamination.py

Items and documents are written for this test. Every verdict is the peer's own code: `NGramsDecontIndexer.compute_hashes` and
`NGramsDecontFilter.filter` of datatrove (one item an index, with and without query n-grams), `Janitor` of lm-eval in its Python form
(one item registered at a time). The janitor's Python form counts a word that is nothing but punctuation as an empty word, its C++
form drops it; the documents have no such words.
"""
import importlib.metadata
import importlib.util
import json
import pathlib
import random
import sys

from datatrove.data import Document
from datatrove.pipeline.decont import n_grams
from datatrove.utils.hashing import HashConfig, create_hash_func
from datatrove.utils.word_tokenizers import load_word_tokenizer

# The package lm_eval imports far more than its janitor needs.
spec = importlib.util.find_spec("lm_eval")
path = pathlib.Path(spec.submodule_search_locations[0]) / "decontamination" / "janitor.py"
spec = importlib.util.spec_from_file_location("janitor", path)
janitor = importlib.util.module_from_spec(spec)
sys.stderr, kept = open("/dev/null", "w"), sys.stderr
spec.loader.exec_module(janitor)
sys.stderr = kept

ITEMS = [
    ("ferry", "A ferry leaves the island at noon carrying forty crates of oranges and returns at dusk with twelve empty crates. How many crates were delivered to the mainland market that day?",
     "Twenty-eight crates were delivered, because forty left the island harbour and only twelve of them came back empty that evening."),
    ("clock", "Which of the four tower clocks in the old town of Brunnfels was the first to strike thirteen, according to the sexton's diary?",
     "The one on the mill gate"),
    ("bales", "A weaver sells 14 bales at $3.50 each, then 1,250 more at half of that price. How much does she earn, in dollars?",
     "14 x 3.50 is 49 and 1,250 x 1.75 is 2187.50 so in all she earns 2236.50 dollars before she pays the carter his share"),
    ("short", "Who wrote it?", "Nobody"),
]
FILLER = ("The harbour board met on Tuesdays, and on Tuesdays it rained. Nobody kept minutes; the clerk preferred to draw "
          "herons in the margins of the ledger, and the board preferred herons to minutes as well.")


def variants(question, answer, rng):
    """Named ways in which an item may stand in a document."""
    both = f"{question} {answer}"
    words = both.split()
    edited = [w if rng.random() > 0.12 else "moss" for w in words]
    yield "verbatim", both
    yield "question", question
    yield "answer", answer
    yield "upper", both.upper()
    yield "no punctuation", "".join(c for c in both if c.isalnum() or c.isspace())
    yield "hyphens", both.replace(" ", "-", 3)
    yield "wrapped", "\n".join(" ".join(words[i:i + 5]) for i in range(0, len(words), 5))
    yield "typographic", both.replace("'", "\u2019").replace(", ", "\uff0c ").replace("-", "\u2013")
    yield "accents", both.replace("e", "\u00e9", 2)
    yield "numbers", "".join("7" if c.isdigit() else c for c in both)
    yield "edited", " ".join(edited)
    for n in (11, 12, 13, 14):
        yield f"first {n} words", " ".join(words[:n])
        yield f"last {n} words", " ".join(words[-n:])
    yield "across", " ".join(question.split()[-7:] + answer.split()[:6])


def datatrove_says(item, text, query):
    config = n_grams.NGramsDecontConfig(find_query_ngrams=query)
    tokenizer, hashing = load_word_tokenizer("en"), create_hash_func(HashConfig())
    indexer = object.__new__(n_grams.NGramsDecontIndexer)
    indexer.config, indexer.tokenizer, indexer.hash_func = config, tokenizer, hashing
    scanner = object.__new__(n_grams.NGramsDecontFilter)
    scanner.config, scanner.tokenizer, scanner.hash_func = config, tokenizer, hashing
    scanner.stat_update = lambda *_: None
    scanner._index_hashes = {h: "item" for h in indexer.compute_hashes(item[2], item[1])}
    return scanner.filter(Document(text=text, id="0")) is not True


def janitor_says(item, text):
    cleaner = janitor.Janitor()
    cleaner.register_contaminant_python(f"{item[1]}\n{item[2]}")
    hits = [list(at) for gram, at in janitor.word_ngrams_indices(text, 13) if cleaner.normalize_string(gram) in cleaner.dirt_ngrams]
    return hits, cleaner.clean_python(text)


def main():
    rng = random.Random(11)
    documents = []
    for item in ITEMS:
        for name, leak in variants(item[1], item[2], rng):
            # Long enough on both sides that the janitor keeps pieces of it.
            documents.append((f"{item[0]}: {name}", f"{FILLER} {FILLER}\n\n{leak}\n\n{FILLER} {FILLER}"))
    documents.append(("clean", f"{FILLER}\n{FILLER}"))
    documents.append(("only numbers", "0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0"))
    rows = []
    for name, text in documents:
        says = {}
        for item in ITEMS:
            hits, pieces = janitor_says(item, text)
            says[item[0]] = {"datatrove": datatrove_says(item, text, False), "datatrove_query": datatrove_says(item, text, True),
                             "gpt3_hits": hits, "gpt3_pieces": [len(p) for p in pieces]}
        rows.append({"name": name, "text": text, "items": says})
    out = {"peers": {p: importlib.metadata.version(p) for p in ("datatrove", "lm_eval", "spacy")},
           "items": [{"id": i, "question": q, "answer": a} for i, q, a in ITEMS], "documents": rows}
    here = pathlib.Path(__file__).parent
    (here / "decontamination.json").write_text(json.dumps(out, ensure_ascii=False, indent=0) + "\n")
    flagged = lambda which: sum(bool(says[which]) for row in rows for says in row["items"].values())
    print(f"{len(rows)} documents; pairs flagged: datatrove {flagged('datatrove')}, with queries {flagged('datatrove_query')}, gpt3 {flagged('gpt3_hits')}")


main()
