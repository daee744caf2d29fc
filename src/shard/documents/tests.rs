//! Documents come back as they went in, whatever the sizes, and damage never panics.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::store::DiskStore;

fn write(dir: &Path, documents: &[(Document, u64)]) -> DocumentsSummary {
    let mut writer = DocumentsWriter::create(&DiskStore, dir).unwrap();
    for (i, (document, tokens)) in documents.iter().enumerate() {
        assert_eq!(writer.append(document, *tokens).unwrap(), i as u32);
    }
    writer.finish().unwrap()
}

fn document() -> impl Strategy<Value = (Document, u64)> {
    let text = prop_oneof![
        4 => "\\PC{0,80}",
        1 => ("[a-zé漢😀]{1,9}", 1usize..60_000).prop_map(|(s, n)| s.repeat(n)),
    ];
    (text, "[a-c]{0,2}", "[xy]", any::<u64>(), any::<bool>(), prop_oneof![Just(0u64), 1u64..50, Just(1 << 33)])
        .prop_map(|(text, id, path, record, meta, tokens)| {
            let mut metadata = serde_json::Map::new();
            if meta {
                metadata.insert("n".into(), json!({"record": record, "path": path}));
            }
            (Document { id, text, path, record, metadata, tokens: None }, tokens)
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn round_trip(documents in proptest::collection::vec(document(), 0..40), probes in proptest::collection::vec(any::<u64>(), 50)) {
        let dir = tempfile::tempdir().unwrap();
        let summary = write(dir.path(), &documents);
        let open = Documents::open(dir.path()).unwrap();
        open.verify().unwrap();
        prop_assert_eq!(open.len(), documents.len());
        prop_assert_eq!(open.tokens(), summary.tokens);
        let mut start = 0;
        for (i, (document, tokens)) in documents.iter().enumerate() {
            let n = i as u32;
            prop_assert_eq!(&open.get(n).unwrap(), document);
            prop_assert_eq!(&open.text(n).unwrap(), &document.text);
            prop_assert_eq!(open.path(n).unwrap(), &document.path);
            prop_assert_eq!(open.token_range(n), Some(start..start + tokens));
            start += tokens;
            let same: Vec<u32> = (0..).zip(&documents).filter(|(_, d)| d.0.id == document.id).map(|(i, _)| i).collect();
            prop_assert_eq!(open.find_id(&document.id).unwrap(), same);
            let length = document.text.len() as u64 + 1;
            let (a, b) = (probes[i] % length, probes[i + 1] % length);
            let (mut from, mut to) = (a.min(b) as usize, a.max(b) as usize);
            let (text, range) = open.text_range(n, from..to).unwrap();
            while !document.text.is_char_boundary(from) { from -= 1; }
            while !document.text.is_char_boundary(to) { to += 1; }
            prop_assert_eq!((text.as_str(), range), (&document.text[from..to], from..to));
        }
        prop_assert_eq!(open.token_start(documents.len() as u32), Some(start));
        prop_assert!(open.find_id("nobody").unwrap().is_empty());
        prop_assert!(open.get(documents.len() as u32).is_err());
        prop_assert_eq!(open.document_at(start), None);
        let ends: Vec<u64> = (0..documents.len()).map(|i| open.token_start(i as u32 + 1).unwrap()).collect();
        for probe in probes {
            if let Some(position) = probe.checked_rem(start) {
                let naive = ends.iter().position(|&e| position < e).map(|i| i as u32);
                prop_assert_eq!(open.document_at(position), naive);
            }
        }
    }
}

#[test]
fn long_documents_are_cut_and_short_ones_are_not() {
    let dir = tempfile::tempdir().unwrap();
    let short = Document { id: "s".into(), text: "short ".repeat(1000), ..Default::default() };
    let long = Document { id: "l".into(), text: "0123456789".repeat(100_000), ..Default::default() };
    let documents: Vec<_> = (0..200).map(|i| (if i % 50 == 7 { long.clone() } else { short.clone() }, 5)).collect();
    write(dir.path(), &documents);
    let open = Documents::open(dir.path()).unwrap();
    for (i, (document, _)) in documents.iter().enumerate() {
        let record = open.record(i as u32).unwrap();
        let first = open.blocks.bounds().partition_point(|b| b[1] <= record.start);
        let last = open.blocks.bounds().partition_point(|b| b[1] < record.start + document.text.len() as u64 + 1);
        if document.text.len() < BLOCK {
            assert_eq!(first, last, "document {i} straddles blocks");
        } else {
            assert_eq!(last - first + 1, (document.text.len() + 1).div_ceil(BLOCK));
        }
    }
}

#[test]
fn same_bytes_at_any_thread_count() {
    let documents: Vec<_> = (0..3000)
        .map(|i| {
            (Document { id: format!("d{i}"), text: format!("{i} ").repeat(i % 700), ..Default::default() }, i as u64)
        })
        .collect();
    let build = |threads| {
        let dir = tempfile::tempdir().unwrap();
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| write(dir.path(), &documents));
        [DOCUMENTS_BIN, DOCUMENTS_IDX].map(|f| std::fs::read(dir.path().join(f)).unwrap())
    };
    let one = build(1);
    assert!(one == build(2) && one == build(5));
}
