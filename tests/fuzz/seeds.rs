//! Inputs to begin with: what each target is given when nothing is wrong.

use std::path::Path;

/// Valid inputs of a target: the files of a small index, requests, and the regressions.
pub fn seeds(name: &str) -> Vec<Vec<u8>> {
    let mut seeds: Vec<Vec<u8>> = vec![Vec::new()];
    let index = super::targets::index();
    let mut files: Vec<(String, Vec<u8>)> = Vec::new();
    for entry in walk(index) {
        let file = entry.file_name().unwrap().to_string_lossy().into_owned();
        files.push((file, std::fs::read(&entry).unwrap()));
    }
    let named = |end: &str| files.iter().filter(|f| f.0.ends_with(end)).map(|f| f.1.clone()).collect::<Vec<_>>();
    let texts = [
        "the lamp",
        "\"the lamp\" AND (night OR \"w1 burns\")",
        "naïve 漢字 \u{200d}\u{1f469}\u{1f3fd} e\u{301}",
        "a\tb\r\nc\0d",
    ];
    match name {
        "manifest" => seeds.extend(named(".json")),
        "section" => seeds.extend(files.iter().filter(|f| f.1.starts_with(b"PRIORART")).map(|f| f.1.clone())),
        "terms" => seeds.extend(named("terms.bin").into_iter().map(|t| [vec![12], t].concat())),
        "shard" => seeds.extend((0..40u8).map(|i| vec![i, i.wrapping_mul(37), 0, i, i / 2, 70 + i, 1, 255])),
        "tokenizer_file" => {
            let model = index.parent().unwrap().join("model/tokenizer.json");
            seeds.push(std::fs::read(model).unwrap());
            seeds.push(br#"{"version":"1.0","added_tokens":[],"normalizer":null,"pre_tokenizer":{"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,"use_regex":true},"post_processor":null,"decoder":{"type":"ByteLevel","add_prefix_space":true,"trim_offsets":true,"use_regex":true},"model":{"type":"BPE","dropout":null,"unk_token":null,"continuing_subword_prefix":null,"end_of_word_suffix":null,"fuse_unk":false,"byte_fallback":false,"vocab":{"t":0,"h":1,"e":2,"th":3,"the":4},"merges":["t h","th e"]}}"#.to_vec());
        }
        "jsonl" => seeds.push(
            b"{\"id\":\"a\",\"text\":\"x \\ud83d\\ude00\",\"n\":[1,{\"a\":null}]}\n{\"text\":\"y\"}\n\n{\"no\":1}\n"
                .to_vec(),
        ),
        "compressed" => {
            use std::io::Write;
            let plain = b"{\"id\":\"a\",\"text\":\"lamp lamp lamp lamp\"}\n".repeat(20);
            let mut gz = flate2::write::GzEncoder::new(vec![0u8], flate2::Compression::fast());
            gz.write_all(&plain).unwrap();
            seeds.push(gz.finish().unwrap());
            seeds.push([vec![1], zstd::bulk::compress(&plain, 3).unwrap()].concat());
        }
        "parquet" => {
            let path = index.with_extension("parquet");
            let mut out = priorart::ann::ParquetWriter::create(&path, 3).unwrap();
            for i in 0..5 {
                let row = priorart::ann::ChunkRow {
                    shard: 0,
                    document: i,
                    id: format!("d{i}"),
                    path: "p".into(),
                    start_byte: 0,
                    end_byte: 3,
                    text: "abc".into(),
                };
                out.push(row, &[0.5, 1.0, i as f32]).unwrap();
            }
            out.finish().unwrap();
            seeds.push(std::fs::read(path).unwrap());
        }
        "wire" => {
            for (route, body) in [
                (0u8, r#"{"index":"index","query_type":"count","query":"the lamp"}"#),
                (0, r#"{"index":"index","query_type":"find_cnf","query":"lamp AND night","max_diff_tokens":5}"#),
                (0, r#"{"index":"index","query_type":"infgram_ntd","query":"the","max_support":10}"#),
                (0, r#"{"index":"index","query_type":"search_docs","query":"lamp","maxnum":3,"max_disp_len":10}"#),
                (1, r#"{"response":"the lamp burns in w1","delimiters":["\n"],"maximumSpanDensity":0.5}"#),
                (2, r#"{"queries":["the lamp","night"]}"#),
                (3, r#"{"query":"lamp","limit":3,"context":9}"#),
                (4, r#"{"prompt":"the","top_k":5}"#),
                (5, r#"{"text":"the lamp burns","min_tokens":1,"density":0.5}"#),
                (6, r#"{"text":"lamp","top_k":3}"#),
                (7, r#"{"texts":["lamp"]}"#),
            ] {
                seeds.push([&[route][..], body.as_bytes()].concat());
            }
        }
        "matrix" => {
            let dir = index.parent().unwrap();
            seeds.push(std::fs::read(dir.join("model/model.safetensors")).unwrap());
            let mut header = "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 2), }".to_string();
            header += &" ".repeat(117 - header.len());
            seeds.push([b"\x93NUMPY\x01\x00\x76\x00", header.as_bytes(), b"\n", &[0u8; 24]].concat());
        }
        "vector_index" => {
            seeds.extend(named("vectors.bin"));
            seeds.extend(named("ann.bin"));
        }
        "reference" => {
            let path = index.with_extension("ref");
            let items = index.with_extension("items.jsonl");
            std::fs::write(&items, "{\"id\":\"a\",\"question\":\"Which lamp burns in the harbour office all night long?\",\"answer\":\"The blue one\"}\n").unwrap();
            let set = priorart::reference::read(&[items], None).unwrap();
            priorart::reference::ReferenceIndex::build(&set).unwrap().save(&path).unwrap();
            seeds.push(std::fs::read(path).unwrap());
        }
        _ => {}
    }
    if matches!(name, "boolean" | "tokenizer_input" | "jsonl") {
        seeds.extend(texts.map(|t| t.as_bytes().to_vec()));
    }
    // Of the project, or of the crate in this directory.
    let home = Path::new(env!("CARGO_MANIFEST_DIR"));
    let here = if home.ends_with("fuzz") { home.to_path_buf() } else { home.join("tests/fuzz") };
    seeds.extend(walk(&here.join("regressions").join(name)).iter().map(|path| std::fs::read(path).unwrap()));
    seeds
}

fn walk(dir: &Path) -> Vec<std::path::PathBuf> {
    let mut files: Vec<_> = walkdir::WalkDir::new(dir)
        .into_iter()
        .filter_map(|e| e.ok())
        .filter(|e| e.file_type().is_file())
        .map(|e| e.into_path())
        .collect();
    files.sort();
    files
}
