"""Decontamination against datatrove, dolma and lm-eval's janitor: same reference items, same files, one after the other.

    benches/peers/run decontaminate [--quick]

Measured per tool: MB of text a CPU second (all threads of the process, reading and writing included, start-up taken off by a run that
imports and does nothing), peak memory, and the share of each way of leaking of $PRIORART_DATA/planted that it flags. The peers run as
their documentation says: datatrove's JsonlReader and NGramsDecontFilter (12-grams, with and without query n-grams), dolma's paragraph
deduplication with a Bloom filter of the items (whole paragraphs; 13-grams at overlap .5, short paragraphs skipped), the janitor in its
Python form (its C++ form is not on PyPI) on a tenth of the documents. dolma has an environment of its own, because it needs
older versions of what datatrove needs. With --quick the peers and we read one of the four files, and datatrove is not asked with the
86,133 rows of references-large.

Our side is `priorart` built here in release, or the program that PRIORART_BENCH_BIN names.
"""
import gzip
import json
import os
import pathlib
import resource
import shutil
import subprocess
import sys
import time
import venv

import peer

PACKAGES = ["datatrove==0.10.1", "spacy==3.8.18", "regex", "xxhash<4", "orjson", "zstandard"]
DOLMA = ["dolma==1.2.1"]
peer.enter("decontaminate", PACKAGES)

WORK = peer.SCRATCH / "decontaminate-work"


def dolma_python():
    """The interpreter of dolma's environment, made on first use."""
    home = peer.SCRATCH / "dolma"
    if not (home / ".complete").exists():
        if not (home / "bin" / "python").exists():
            venv.create(home, with_pip=True)
        # pip tries versions of its storage clients for longer than the benchmark takes; uv finds the set that fits at once.
        run = [home / "bin" / "python", "-m"]
        subprocess.run([*run, "pip", "install", "-q", "uv"], check=True)
        subprocess.run([*run, "uv", "pip", "install", "-q", "--native-tls", "-p", home / "bin" / "python", *DOLMA], check=True)
        (home / ".complete").touch()
    return str(home / "bin" / "python")


def charged(command):
    """CPU seconds, peak memory in MB, and standard output of a command."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        out = subprocess.run([str(c) for c in command], stdout=subprocess.PIPE, text=True)
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        with os.fdopen(write, "w") as pipe:
            json.dump([used.ru_utime + used.ru_stime, used.ru_maxrss / 1024, out.returncode, out.stdout], pipe)
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        cpu, memory, code, out = json.load(pipe)
    os.waitpid(child, 0)
    if code != 0:
        sys.exit(f"{command[0]} ended with {code}")
    return cpu, memory, out


def documents(path):
    import zstandard
    files = sorted(path.rglob("*.jsonl.zst")) if path.is_dir() else [path]
    for file in files:
        with open(file, "rb") as raw, zstandard.ZstdDecompressor().stream_reader(raw) as stream:
            rest = b""
            while chunk := stream.read(1 << 20):
                *lines, rest = (rest + chunk).split(b"\n")
                yield from (json.loads(line) for line in lines if line)
            if rest.strip():
                yield json.loads(rest)


def items(path, wrong=True):
    """(task, question, answer) of every reference row in decon's normal form; without `wrong`, not of wrong choices."""
    for file in sorted(path.iterdir()):
        if file.name.endswith(".jsonl.zst"):
            rows = documents(file)
        elif file.suffix == ".jsonl":
            rows = (json.loads(line) for line in file.read_text().split("\n") if line)
        else:
            continue
        for row in rows:
            if row.get("is_correct") is False and not wrong:
                continue
            question = "\n".join(t for t in (row.get("passage"), row.get("question")) if t)
            yield row["eval_key"], question, row.get("answer") or ""


# ---- What the children run.

def datatrove_child(references, corpus, query, out):
    """Flags documents with datatrove; `out` gets their ids. Without a corpus: what starting and indexing cost."""
    from datatrove.data import Document
    from datatrove.pipeline.decont import n_grams
    from datatrove.pipeline.readers import JsonlReader
    from datatrove.utils.hashing import HashConfig, create_hash_func
    from datatrove.utils.word_tokenizers import load_word_tokenizer
    config = n_grams.NGramsDecontConfig(find_query_ngrams=query == "query")
    # The indexer's constructor asks for lighteval, of which nothing is used for items that are at hand.
    indexer = object.__new__(n_grams.NGramsDecontIndexer)
    indexer.config, indexer.tokenizer, indexer.hash_func = config, load_word_tokenizer("en"), create_hash_func(HashConfig())
    scanner = n_grams.NGramsDecontFilter(str(WORK), config)
    scanner._index_hashes = {}
    # It indexes the gold answers of a task, not the other choices.
    for task, question, answer in items(pathlib.Path(references), wrong=False):
        for h in indexer.compute_hashes(answer, question):
            scanner._index_hashes[h] = task
    with open(out, "w") as flagged:
        if corpus != "-":
            reader = JsonlReader(corpus, recursive=True, compression="zstd", glob_pattern="**/*.jsonl.zst")
            for document in reader.run():
                if scanner.filter(document) is not True:
                    flagged.write(document.id + "\n")


def janitor_child(references, corpus, step, out):
    import importlib.util
    path = peer.SCRATCH / "janitor.py"
    spec = importlib.util.spec_from_file_location("janitor", path)
    module = importlib.util.module_from_spec(spec)
    kept, sys.stderr = sys.stderr, open(os.devnull, "w")
    spec.loader.exec_module(module)
    sys.stderr = kept
    cleaner = module.Janitor()
    for _, question, answer in items(pathlib.Path(references)):
        cleaner.register_contaminant_python(f"{question}\n{answer}")
    with open(out, "w") as flagged:
        if corpus != "-":
            for number, document in enumerate(documents(pathlib.Path(corpus))):
                if number % int(step) == 0 and cleaner.clean_python(document["text"]) != [document["text"]]:
                    hit = any(cleaner.normalize_string(g) in cleaner.dirt_ngrams for g, _ in module.word_ngrams_indices(document["text"], 13))
                    if hit:
                        flagged.write(document["id"] + "\n")


# ---- Measuring.

def measured(tool, command, idle, megabytes):
    """Speed and memory of a command, with the start-up of `idle` taken off."""
    base = charged(idle)[0] if idle else 0.0
    cpu, memory, out = charged(command)
    speed = megabytes / max(cpu - base, 1e-9)
    print(f"{tool:<44}{speed:>9.2f} MB/CPU-s{memory:>8.0f} MB   ({cpu:.1f} CPU-s, {base:.1f} of it to start)", file=sys.stderr)
    return speed, memory, out


def python_child(kind, *arguments):
    return [sys.executable, __file__, "--child", kind, *arguments]


def dolma(python, name, references, corpus, ngrams, megabytes):
    """dolma's Bloom filter of the items, then the corpus past it. Speed, memory, ids of documents with a span."""
    home = WORK / f"dolma-{name}"
    shutil.rmtree(home, ignore_errors=True)
    (home / "reference/documents").mkdir(parents=True)
    with gzip.open(home / "reference/documents/items.jsonl.gz", "wt", compresslevel=1) as out:
        for number, (task, question, answer) in enumerate(items(references)):
            out.write(json.dumps({"id": str(number), "source": task, "text": f"{question}\n{answer}"}) + "\n")
    (home / "corpus").mkdir()
    (home / "corpus/documents").symlink_to(corpus)

    def command(documents, read_only):
        settings = ["--documents", str(documents), "--dedupe.name", "leak", "--dedupe.skip_empty", "--dedupe.paragraphs.attribute_name", "spans",
                    "--bloom_filter.file", str(home / "bloom.bin"), "--bloom_filter.estimated_doc_count", "20000000" if ngrams else "2000000",
                    "--bloom_filter.desired_false_positive_rate", "1e-6", "--processes", "1",
                    "--bloom_filter.read_only" if read_only else "--no-bloom_filter.read_only"]
        if ngrams:
            settings += ["--dedupe.paragraphs.by_ngram.ngram_length", "13", "--dedupe.paragraphs.by_ngram.overlap_threshold", "0.5",
                         "--dedupe.paragraphs.by_ngram.skip_short_paragraphs"]
        program = f"from dolma.cli.__main__ import main; main({['dedupe', *settings]!r})"
        return [python, "-c", program]

    charged(command(home / "reference/documents/items.jsonl.gz", False))
    speed, memory, _ = measured(f"dolma, {name}", command(home / "corpus/documents/*.jsonl.gz", True),
                                [python, "-c", "import dolma.cli.__main__"], megabytes)
    flagged = set()
    for file in sorted((home / "corpus").rglob("attributes/**/*.gz")):
        with gzip.open(file, "rt") as rows:
            for row in map(json.loads, rows):
                spans = next(iter(row["attributes"].values()), [])
                if any(span[2] >= (0.5 if ngrams else 1.0) for span in spans):
                    flagged.add(row["id"])
    return speed, memory, flagged


def ours(binary, references, corpus, protocols, out):
    shutil.rmtree(out, ignore_errors=True)
    return [binary, "-q", "decontaminate", "--reference", references, "--corpus", corpus, "--protocol", protocols, "--out", out]


def main():
    data = pathlib.Path(os.environ.get("PRIORART_DATA") or sys.exit("PRIORART_DATA names no directory"))
    quick = "--quick" in sys.argv
    shutil.rmtree(WORK, ignore_errors=True)
    WORK.mkdir(parents=True)
    binary = os.environ.get("PRIORART_BENCH_BIN")
    if not binary:
        subprocess.run(["cargo", "build", "-q", "--release", "--bin", "priorart"], cwd=peer.ROOT, check=True)
        binary = str(peer.ROOT / "target/release/priorart")
    if not (peer.SCRATCH / "janitor.py").exists():
        subprocess.run([sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", WORK, "lm-eval==0.4.13"], check=True)
        wheel = next(WORK.glob("lm_eval-*.whl"))
        import zipfile
        (peer.SCRATCH / "janitor.py").write_bytes(zipfile.ZipFile(wheel).read("lm_eval/decontamination/janitor.py"))
    python = dolma_python()
    planted, corpus, large = data / "planted/references", data / "planted/corpus", data / "references-large"
    if quick:
        (WORK / "corpus").mkdir()
        shutil.copy(corpus / "a/part-0.jsonl.zst", WORK / "corpus")
        corpus = WORK / "corpus"
    texts = {d["id"]: len(d["text"].encode()) for d in documents(corpus)}
    megabytes = sum(texts.values()) / 1e6
    compressed = WORK / "corpus-gz"
    compressed.mkdir()
    with gzip.open(compressed / "all.jsonl.gz", "wt", compresslevel=1) as out:
        for d in documents(corpus):
            out.write(json.dumps({"id": d["id"], "source": d["source"], "text": d["text"]}) + "\n")
    truth = {}
    here = set(texts)
    for line in (data / "planted/truth.jsonl").read_text().strip().split("\n"):
        row = json.loads(line)
        if row["id"] in here:
            truth[row["id"]] = row["category"]

    speeds, flagged = {}, {}
    # A compiled reference, so that neither side compiles its items in the measured run.
    compiled = {}
    (WORK / "empty.jsonl").touch()
    for name, references in (("planted", planted), ("large", large)):
        compiled[name] = str(WORK / f"{name}.ref")
        charged([binary, "-q", "reference", "build", "--reference", str(references), "--out", compiled[name]])
    for protocols in ("priorart", "datatrove", "gpt3", "dolma", "all"):
        for name in ("planted", "large"):
            out = WORK / f"ours-{name}-{protocols}"
            idle = ours(binary, compiled[name], str(WORK / "empty.jsonl"), protocols, str(WORK / "idle"))
            command = ours(binary, compiled[name], str(corpus), protocols, str(out))
            speeds["ours", name, protocols] = measured(f"priorart, {protocols}, {name}", command, idle, megabytes)[:2]
            if name == "planted":
                rows = [json.loads(line) for line in (out / "report.jsonl").read_text().split("\n") if line]
                for protocol in (["priorart"] if protocols != "all" else rows[0]["verdicts"]):
                    dirty = {r["document_id"] for r in rows if r["verdicts"].get(protocol, {}).get("level") == "dirty"}
                    flagged["priorart" if protocol == "priorart" else f"priorart's {protocol}"] = dirty
    # A real corpus of some size: books, documentation, textbooks.
    real = sum(len(d["text"].encode()) for d in documents(data / "corpora")) / 1e6
    for protocols in ("priorart", "all"):
        idle = ours(binary, compiled["large"], str(WORK / "empty.jsonl"), protocols, str(WORK / "idle"))
        command = ours(binary, compiled["large"], str(data / "corpora"), protocols, str(WORK / "real"))
        speeds["ours", "large, data/corpora,", protocols] = measured(f"priorart, {protocols}, large, {real:.0f} MB", command, idle, real)[:2]
    for query in ("answer", "query"):
        out = WORK / f"datatrove-{query}"
        idle = python_child("datatrove", str(planted), "-", query, str(WORK / "none"))
        run = python_child("datatrove", str(planted), str(corpus), query, str(out))
        speeds["datatrove", "planted", query] = measured(f"datatrove, {query}", run, idle, megabytes)[:2]
        flagged["datatrove" if query == "answer" else "datatrove + question"] = set(out.read_text().split())
    if not quick:
        idle = python_child("datatrove", str(large), "-", "answer", str(WORK / "none"))
        run = python_child("datatrove", str(large), str(corpus), "answer", str(WORK / "datatrove-large"))
        speeds["datatrove", "large", "answer"] = measured("datatrove, answer, large", run, idle, megabytes)[:2]
    for name, ngrams in (("paragraphs", False), ("13-grams", True)):
        speed, memory, found = dolma(python, name, planted, compressed, ngrams, megabytes)
        speeds["dolma", "planted", name] = (speed, memory)
        flagged[f"dolma {name}"] = found
        speed, memory, _ = dolma(python, f"{name}-large", large, compressed, ngrams, megabytes)
        speeds["dolma", "large", name] = (speed, memory)
    step = 10
    sample = {d: n for i, (d, n) in enumerate(texts.items()) if i % step == 0}
    idle = python_child("janitor", str(planted), "-", str(step), str(WORK / "none"))
    run = python_child("janitor", str(planted), str(corpus), str(step), str(WORK / "janitor"))
    speeds["janitor", "planted", "gpt3"] = measured("lm-eval's janitor, a tenth", run, idle, sum(sample.values()) / 1e6)[:2]
    janitor = set((WORK / "janitor").read_text().split())
    agree = {d for d in flagged["priorart's gpt3"] if d in sample}
    print(f"janitor and our gpt3 on its documents: {len(janitor & agree)} by both, {len(janitor - agree)} and {len(agree - janitor)} by one", file=sys.stderr)

    results = []
    for name, label in (("planted", "2,287 rows"), ("large", "86,133 rows")):
        for (tool, of, what), (speed, memory) in speeds.items():
            if tool == "ours" or of != name:
                continue
            same = {"answer": "datatrove", "query": "datatrove", "gpt3": "gpt3", "paragraphs": "dolma", "13-grams": "dolma"}[what]
            for protocol in dict.fromkeys(("priorart", same)):
                mine = speeds["ours", name, protocol]
                results.append(peer.result(f"speed, {protocol}, {label}", "MB/CPU-s", mine[0], speed, f"{tool}, {what}"))
            results.append(peer.result(f"peak memory, priorart, {label}", "MB", speeds["ours", name, "priorart"][1], memory, f"{tool}, {what}", higher_is_better=False))
    absolute = [{"metric": f"speed, {protocol}, {name} reference", "unit": "MB/CPU-s", "value": round(speed, 2), "peak_mb": round(memory)}
                for (tool, name, protocol), (speed, memory) in speeds.items() if tool == "ours"]
    ways = {}
    for document, way in truth.items():
        ways.setdefault(way, []).append(document)
    clean = [d for d in texts if d not in truth]
    recall = {way: {tool: round(100 * sum(d in found for d in of) / len(of), 1) for tool, found in flagged.items()} for way, of in ways.items()}
    recall["clean documents flagged, %"] = {tool: round(100 * sum(d in found for d in clean) / len(clean), 2) for tool, found in flagged.items()}
    tools = ["priorart", "datatrove", "priorart's datatrove", "datatrove + question", "dolma paragraphs", "dolma 13-grams", "priorart's dolma", "priorart's gpt3"]
    print(f"{'flagged, %':<28}" + "".join(f"{t:>22}" for t in tools))
    for way, of in recall.items():
        print(f"{way:<28}" + "".join(f"{of.get(t, float('nan')):>22.1f}" for t in tools))
    lexical = [w for w in ways if not w.startswith(("paraphrase", "he_rewrite", "he_translate", "neg_")) and "paraphrase" not in w]
    total = sum(len(ways[w]) for w in lexical)
    share = lambda tool: 100 * sum(d in flagged[tool] for w in lexical for d in ways[w]) / total
    for tool in ("datatrove", "datatrove + question", "dolma paragraphs", "dolma 13-grams"):
        results.append(peer.result("lexical leaks found, priorart", "%", share("priorart"), share(tool), tool))
    peer.report("decontaminate", results, {
        "text_mb": round(megabytes, 1), "quick": quick, "ours": absolute, "recall": recall,
        "janitor": {"documents": len(sample), "by_both": len(janitor & agree), "by_janitor_alone": len(janitor - agree), "by_gpt3_alone": len(agree - janitor)},
        "datatrove_pairs": {"by_both": len(flagged["datatrove"] & flagged["priorart's datatrove"]),
                            "by_datatrove_alone": len(flagged["datatrove"] - flagged["priorart's datatrove"]),
                            "by_ours_alone": len(flagged["priorart's datatrove"] - flagged["datatrove"])}})
    shutil.rmtree(WORK, ignore_errors=True)


if "--child" in sys.argv:
    kind, *arguments = sys.argv[sys.argv.index("--child") + 1:]
    {"datatrove": datatrove_child, "janitor": janitor_child}[kind](*arguments)
else:
    main()
