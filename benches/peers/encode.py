"""Encoding speed of all-MiniLM-L6-v2 against onnxruntime and, with --sentence-transformers, against that library on PyTorch:
same windows, same threads, same run, in turn.

PRIORART_MODEL_DIR names the model's directory. The peer runs a graph made here from the same safetensors out of
onnxruntime's own fused operators (Attention, SkipLayerNormalization, BiasGelu), in f32; its vectors are checked against
the golden file first. Windows of one length need no mask, and none is given; mixed lengths are sorted, batched by 32,
padded and masked for the peers, as sentence-transformers does. All are charged CPU time, the best of the rounds; the wall
times are in the results too. sentence-transformers is given token ids, so its tokenizer costs it nothing; installing it takes
some gigabytes.
"""
import json
import os
import pathlib
import resource
import subprocess
import sys
import time

import peer

if "--torch-side" in sys.argv:
    # In the environment of sentence-transformers: MODEL WINDOWS.json THREADS SECONDS; prints one JSON line.
    import numpy
    import torch
    from sentence_transformers import SentenceTransformer

    where, path, threads, seconds = sys.argv[sys.argv.index("--torch-side") + 1:]
    torch.set_num_threads(int(threads))
    network = SentenceTransformer(where, device="cpu")
    rows = [[101, *w, 102] for w in json.loads(pathlib.Path(path).read_text())]

    def embed(windows):
        order = sorted(range(len(windows)), key=lambda i: -len(windows[i]))
        out = numpy.empty((len(windows), 384), numpy.float32)
        for at in range(0, len(order), 32):
            batch = order[at:at + 32]
            width = max(len(windows[i]) for i in batch)
            ids = torch.zeros((len(batch), width), dtype=torch.long)
            mask = torch.zeros_like(ids)
            for row, i in enumerate(batch):
                ids[row, :len(windows[i])] = torch.tensor(windows[i])
                mask[row, :len(windows[i])] = 1
            with torch.inference_mode():
                found = network.forward({"input_ids": ids, "attention_mask": mask})["sentence_embedding"]
            out[batch] = torch.nn.functional.normalize(found, dim=1).numpy()
        return out

    vectors = embed(rows)
    done, wall, start = 0, time.perf_counter(), time.process_time()
    while time.perf_counter() - wall < float(seconds):
        embed(rows)
        done += len(rows)
    cpu, wall = time.process_time() - start, time.perf_counter() - wall
    print(json.dumps({"per_cpu_second": done / cpu, "per_wall_second": done / wall, "torch": torch.__version__,
                      "vectors": vectors[:8].tolist()}))
    sys.exit()

peer.enter("onnxruntime", ["onnxruntime", "onnx", "numpy", "safetensors", "tokenizers"])

import numpy as np  # noqa: E402
import onnx  # noqa: E402
import onnxruntime as ort  # noqa: E402
from onnx import TensorProto, helper, numpy_helper  # noqa: E402
from safetensors.numpy import load_file  # noqa: E402

MODEL = pathlib.Path(os.environ.get("PRIORART_MODEL_DIR", ""))
ROUNDS = int(os.environ.get("ROUNDS", "5"))
SECONDS = os.environ.get("SECONDS_EACH", "4")


def graph(masked):
    w = load_file(MODEL / "model.safetensors")
    config = json.loads((MODEL / "config.json").read_text())
    heads, eps = config["num_attention_heads"], config["layer_norm_eps"]
    inits, nodes = [], []

    def const(name, value):
        inits.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def node(op, inputs, outputs, domain="com.microsoft", **attributes):
        nodes.append(helper.make_node(op, inputs, outputs, domain=domain, **attributes))

    words, positions = const("words", w["embeddings.word_embeddings.weight"]), const(
        "positions", w["embeddings.position_embeddings.weight"] + w["embeddings.token_type_embeddings.weight"][0])
    node("Gather", [words, "ids"], ["word_rows"], domain="")
    node("Gather", [positions, "places"], ["position_rows"], domain="")
    node("SkipLayerNormalization", ["word_rows", "position_rows", const("g", w["embeddings.LayerNorm.weight"]),
         const("b", w["embeddings.LayerNorm.bias"])], ["x0"], epsilon=eps)
    for i in range(config["num_hidden_layers"]):
        p = f"encoder.layer.{i}."
        part = lambda kind: [w[f"{p}attention.self.{n}.{kind}"] for n in ("query", "key", "value")]  # noqa: E731
        qkv = const(f"qkv{i}", np.concatenate([m.T for m in part("weight")], axis=1))
        qkvb = const(f"qkvb{i}", np.concatenate(part("bias")))
        node("Attention", [f"x{i}", qkv, qkvb] + (["lengths"] if masked else []), [f"c{i}"], num_heads=heads)
        node("MatMul", [f"c{i}", const(f"o{i}", w[p + "attention.output.dense.weight"].T)], [f"a{i}"], domain="")
        node("SkipLayerNormalization", [f"a{i}", f"x{i}", const(f"g1{i}", w[p + "attention.output.LayerNorm.weight"]),
             const(f"b1{i}", w[p + "attention.output.LayerNorm.bias"]), const(f"ob{i}", w[p + "attention.output.dense.bias"])],
             [f"y{i}"], epsilon=eps)
        node("MatMul", [f"y{i}", const(f"u{i}", w[p + "intermediate.dense.weight"].T)], [f"h{i}"], domain="")
        node("BiasGelu", [f"h{i}", const(f"ub{i}", w[p + "intermediate.dense.bias"])], [f"n{i}"])
        node("MatMul", [f"n{i}", const(f"d{i}", w[p + "output.dense.weight"].T)], [f"f{i}"], domain="")
        node("SkipLayerNormalization", [f"f{i}", f"y{i}", const(f"g2{i}", w[p + "output.LayerNorm.weight"]),
             const(f"b2{i}", w[p + "output.LayerNorm.bias"]), const(f"db{i}", w[p + "output.dense.bias"])],
             [f"x{i + 1}"], epsilon=eps)
    ints = lambda name, shape: helper.make_tensor_value_info(name, TensorProto.INT32, shape)  # noqa: E731
    inputs = [ints("ids", ["batch", "length"]), ints("places", ["batch", "length"])]
    inputs += [ints("lengths", ["batch"])] if masked else []
    last = f"x{config['num_hidden_layers']}"
    output = helper.make_tensor_value_info(last, TensorProto.FLOAT, ["batch", "length", config["hidden_size"]])
    model = helper.make_model(helper.make_graph(nodes, "bert", inputs, [output], inits),
                              opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)])
    model.ir_version = 9
    path = peer.SCRATCH / f"bert-{'masked' if masked else 'plain'}.onnx"
    onnx.save(model, path)
    return path


class Peer:
    def __init__(self, threads):
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        self.sessions = [ort.InferenceSession(str(graph(m)), options, providers=["CPUExecutionProvider"]) for m in (False, True)]

    def embed(self, windows):
        """Unit mean-pooled vectors of id lists (special tokens in), sorted by length, in batches of 32."""
        order = sorted(range(len(windows)), key=lambda i: -len(windows[i]))
        out = np.empty((len(windows), 384), np.float32)
        for at in range(0, len(order), 32):
            batch = order[at:at + 32]
            lengths = np.array([len(windows[i]) for i in batch], np.int32)
            width = int(lengths.max())
            ids = np.zeros((len(batch), width), np.int32)
            for row, i in zip(ids, batch):
                row[:len(windows[i])] = windows[i]
            feed = {"ids": ids, "places": np.broadcast_to(np.arange(width, dtype=np.int32), ids.shape).copy()}
            equal = bool((lengths == width).all())
            if not equal:
                feed["lengths"] = lengths
            states = self.sessions[0 if equal else 1].run(None, feed)[0]
            if equal:
                mean = states.sum(axis=1)
            else:
                mean = (states * (np.arange(width)[None, :] < lengths[:, None])[:, :, None]).sum(axis=1)
            out[batch] = mean / np.linalg.norm(mean, axis=1, keepdims=True)
        return out


def cpu():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def prose(n):
    """Token ids of running English text, without special tokens: the golden file's own texts, turned and repeated."""
    golden = json.loads((peer.ROOT / "tests/golden/minilm.json").read_text())
    pool = [i for row in golden for i in row["ids"][1:-1]]
    rng = np.random.default_rng(7)
    return [int(pool[i]) for i in rng.integers(0, len(pool), n)]


def main():
    if not (MODEL / "model.safetensors").exists():
        sys.exit("PRIORART_MODEL_DIR must name the directory of all-MiniLM-L6-v2")
    golden = json.loads((peer.ROOT / "tests/golden/minilm.json").read_text())
    got = Peer(1).embed([row["ids"] for row in golden])
    worst = np.abs(got - np.array([row["embedding"] for row in golden])).max()
    assert worst < 1e-4, f"the peer's graph is wrong by {worst}"
    ours = peer.binary("encode")
    torch_python = None
    if "--sentence-transformers" in sys.argv:
        torch_python = peer.environment("sentence-transformers", ["sentence-transformers"])
    rng = np.random.default_rng(1)
    sets = {
        "128 tokens": [prose(126) for _ in range(64)],
        "256 tokens": [prose(254) for _ in range(32)],
        "mixed 8-200 tokens": [prose(int(n)) for n in rng.integers(6, 199, 96)],
    }
    results, details = [], []
    for threads in (1, 2):
        session = Peer(threads)
        for name, windows in sets.items():
            if threads > 1 and name.startswith("mixed"):
                continue
            path = peer.SCRATCH / "windows.json"
            path.write_text(json.dumps(windows))
            wrapped = [[101, *w, 102] for w in windows]
            best = {key: 0.0 for key in ("ours", "peer", "torch", "ours_wall", "peer_wall", "torch_wall")}
            for _ in range(ROUNDS):
                out = subprocess.run([ours, MODEL, path, str(threads), SECONDS], check=True, stdout=subprocess.PIPE, text=True)
                line = json.loads(out.stdout)
                details.append({"set": name, **line})
                best["ours"] = max(best["ours"], line["per_cpu_second"])
                best["ours_wall"] = max(best["ours_wall"], line["per_wall_second"])
                session.embed(wrapped[:32])
                done, start, wall = 0, cpu(), time.perf_counter()
                while time.perf_counter() - wall < float(SECONDS):
                    session.embed(wrapped)
                    done += len(wrapped)
                best["peer"] = max(best["peer"], done / (cpu() - start))
                best["peer_wall"] = max(best["peer_wall"], done / (time.perf_counter() - wall))
                if torch_python:
                    out = subprocess.run([torch_python, __file__, "--torch-side", MODEL, path, str(threads), SECONDS], check=True,
                                         stdout=subprocess.PIPE, text=True)
                    line = json.loads(out.stdout.splitlines()[-1])
                    best["torch"] = max(best["torch"], line["per_cpu_second"])
                    best["torch_wall"] = max(best["torch_wall"], line["per_wall_second"])
                    worst = np.abs(session.embed(wrapped[:8]) - np.array(line["vectors"])).max()
                    assert worst < 1e-4, f"the peers disagree by {worst}"
                    torch_name = f"sentence-transformers, torch {line['torch']}"
            where = f"{name}, {threads} thread{'s' * (threads > 1)}"
            onnx_name = f"onnxruntime {ort.__version__} f32"
            results.append(peer.result(where, "texts per CPU second", best["ours"], best["peer"], onnx_name))
            results.append(peer.result(f"{where}, wall", "texts per second", best["ours_wall"], best["peer_wall"], onnx_name))
            if torch_python:
                results.append(peer.result(where, "texts per CPU second", best["ours"], best["torch"], torch_name))
                results.append(peer.result(f"{where}, wall", "texts per second", best["ours_wall"], best["torch_wall"], torch_name))
    top = max((d for d in details if d["set"] == "128 tokens"), key=lambda d: d["gflops_per_cpu_second"])
    limit = max(d["sgemm_gflops"] for d in details)
    note = {"gflops_128": round(top["gflops_per_cpu_second"], 1), "sgemm_gflops": round(limit, 1),
            "share_of_sgemm": round(top["gflops_per_cpu_second"] / limit, 3), "isa": top["isa"]}
    peer.report("encode", results, note)
    print(f"128 tokens: {note['gflops_128']} GFLOP/s a thread; gemm crate on 1024^3: {note['sgemm_gflops']}")


if __name__ == "__main__":
    main()
