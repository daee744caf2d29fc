//! JSON Lines, plain, gzip or zstd: one object a line, split at `\n` only.
//!
//! Cost: one pass over the line for UTF-8, one for JSON; the text is copied once, metadata is built only when asked for.

use std::ops::Range;

use super::fields::Fields;
use super::lines::Lines;
use super::{CorpusReader, Document, ReadOptions, SourceFile};
use crate::error::{Error, Result};

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

pub(super) struct JsonlReader {
    lines: Lines,
    fields: Fields,
    path: String,
    last: Option<Range<usize>>,
}

impl JsonlReader {
    pub(super) fn open(file: &SourceFile, options: &ReadOptions) -> Result<Self> {
        let path = file.path.to_string_lossy().into_owned();
        Ok(Self { lines: Lines::open(file)?, fields: Fields::new(options), path, last: None })
    }
}

impl CorpusReader for JsonlReader {
    fn next(&mut self, doc: &mut Document) -> Result<bool> {
        if doc.path != self.path {
            doc.path.clone_from(&self.path);
        }
        loop {
            self.last = None;
            let line = match self.lines.next() {
                Ok(Some(line)) => line,
                Ok(None) => return Ok(false),
                Err(error) => {
                    if let Error::Record { line, .. } = &error {
                        doc.record = line - 1;
                    }
                    return Err(error);
                }
            };
            let bytes = self.lines.bytes(&line.range);
            let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
            let json = if line.byte == 0 { bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes) } else { bytes };
            if json.trim_ascii().is_empty() {
                continue;
            }
            doc.record = line.number - 1;
            let filled = match std::str::from_utf8(json) {
                Ok(json) => self.fields.fill(json, doc),
                Err(e) => {
                    Err(format!("invalid UTF-8 at byte {} of the line", e.valid_up_to() + bytes.len() - json.len()))
                }
            };
            self.last = Some(line.range);
            return match filled {
                Ok(()) => {
                    if doc.id.is_empty() {
                        use std::fmt::Write as _;
                        let _ = write!(doc.id, "{}:{}", self.path, doc.record);
                    }
                    Ok(true)
                }
                Err(what) => {
                    let path = self.lines.source().path().to_path_buf();
                    Err(Error::Record { path, line: line.number, byte: line.byte, what })
                }
            };
        }
    }

    fn raw(&self) -> Option<&[u8]> {
        self.last.as_ref().map(|range| self.lines.bytes(range))
    }

    fn bytes_read(&self) -> u64 {
        self.lines.source().bytes_read()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::corpus::{BadRecords, Documents, FileKind, discover, open};
    use serde_json::{Value, json};
    use std::io::Write;
    use std::path::Path;

    fn put(dir: &Path, name: &str, bytes: &[u8]) -> SourceFile {
        let path = dir.join(name);
        std::fs::write(&path, bytes).unwrap();
        discover(&[path]).unwrap().remove(0)
    }

    fn texts(file: &SourceFile) -> Vec<String> {
        let mut reader = open(file, &ReadOptions::default()).unwrap();
        let (mut doc, mut out) = (Document::default(), Vec::new());
        while reader.next(&mut doc).unwrap() {
            out.push(doc.text.clone());
        }
        assert_eq!(reader.bytes_read(), file.bytes);
        out
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gz.write_all(bytes).unwrap();
        gz.finish().unwrap()
    }

    /// One zstd frame with the widest window that is accepted.
    fn zstd_long(bytes: &[u8], window_log: u32) -> Vec<u8> {
        let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
        encoder.window_log(window_log).unwrap();
        encoder.long_distance_matching(true).unwrap();
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    const A: &str = "{\"text\":\"one\u{2028}two\u{85}\"}\n{\"text\":\"\"}\n";
    const B: &str = "\n{\"text\":\"thr\\u00e9e\"}";

    #[test]
    fn members_and_frames_are_read_to_the_last() {
        let dir = tempfile::tempdir().unwrap();
        let want = ["one\u{2028}two\u{85}", "", "thrée"];
        let both = |pack: &dyn Fn(&[u8]) -> Vec<u8>| [pack(A.as_bytes()), pack(B.as_bytes())].concat();
        for (name, bytes) in [
            ("a.jsonl", both(&|b| b.to_vec())),
            ("a.jsonl.gz", both(&gzip)),
            ("a.json.zst", both(&|b| zstd_long(b, 27))),
            // Names lie: the bytes tell.
            ("b.jsonl", both(&gzip)),
            ("c.jsonl", both(&|b| zstd_long(b, 20))),
            ("bom.jsonl", [&b"\xef\xbb\xbf"[..], A.as_bytes(), B.as_bytes()].concat()),
        ] {
            assert_eq!(texts(&put(dir.path(), name, &bytes)), want, "{name}");
        }
        for name in ["empty.jsonl", "empty.jsonl.zst"] {
            assert!(texts(&put(dir.path(), name, b"")).is_empty());
        }
    }

    #[test]
    fn damage_ends_the_file_with_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let many = A.repeat(5000);
        let (gz, zst) = (gzip(many.as_bytes()), zstd_long(many.as_bytes(), 20));
        for (name, bytes) in [
            ("cut.jsonl.gz", &gz[..gz.len() - 9]),
            ("cut.jsonl.zst", &zst[..zst.len() - 9]),
            ("plain.jsonl.gz", A.as_bytes()),
            ("plain.jsonl.zst", A.as_bytes()),
            ("wide.jsonl.zst", &zstd_long(many.as_bytes(), 28)),
        ] {
            let file = put(dir.path(), name, bytes);
            let mut documents = Documents::new(vec![file], ReadOptions { skip_bad: 1000, ..Default::default() });
            let mut doc = Document::default();
            let error = loop {
                match documents.next(&mut doc) {
                    Ok(true) => {}
                    Ok(false) => panic!("{name} was read without complaint"),
                    Err(e) => break e,
                }
            };
            assert!(matches!(error, Error::Damaged { .. }), "{name}: {error}");
            assert!(!documents.next(&mut doc).unwrap(), "{name} must have ended");
        }
    }

    #[test]
    fn bad_records_are_named_and_the_next_ones_read() {
        let dir = tempfile::tempdir().unwrap();
        let lines: [&[u8]; 9] = [
            b"{\"text\":\"good\"}",
            b"not json",
            b"{\"id\":1}",
            b"{\"text\":12}",
            b"[\"text\"]",
            b"{\"text\":\"a\xffb\"}",
            b"{\"text\":\"cut",
            b"{\"text\":\"x\"} {}",
            b"{\"text\":\"last\"}",
        ];
        let file = put(dir.path(), "a.jsonl", &lines.join(&b'\n'));
        let mut reader = open(&file, &ReadOptions::default()).unwrap();
        let (mut doc, mut bad, mut good) = (Document::default(), BadRecords::new(100), Vec::new());
        loop {
            match reader.next(&mut doc) {
                Ok(true) => good.push((doc.text.clone(), doc.record, doc.id.clone())),
                Ok(false) => break,
                Err(e) => {
                    assert_eq!(reader.raw().unwrap().trim_ascii(), lines[doc.record as usize]);
                    bad.tolerate(e).unwrap();
                }
            }
        }
        let path = file.path.display();
        assert_eq!(good, [("good".into(), 0, format!("{path}:0")), ("last".into(), 8, format!("{path}:8"))]);
        let mut byte = 0;
        let offsets: Vec<u64> = lines
            .iter()
            .map(|l| {
                let at = byte;
                byte += l.len() as u64 + 1;
                at
            })
            .collect();
        let expected = [
            "not JSON: expected ident at column 2",
            "there is no field `text`",
            "field `text` is a number, not a string",
            "not a JSON object: invalid type: sequence, expected one JSON object a line at column 0",
            "invalid UTF-8 at byte 10 of the line",
            "not JSON: EOF while parsing a string at column 12",
            "not JSON: trailing characters at column 14",
        ];
        let found: Vec<_> = bad.records().iter().map(|b| (b.line, b.byte, b.what.as_str())).collect();
        let expected: Vec<_> =
            expected.iter().enumerate().map(|(i, what)| (i as u64 + 2, offsets[i + 1], *what)).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn the_budget_spans_files() {
        let dir = tempfile::tempdir().unwrap();
        let files: Vec<_> = (0..3).map(|i| put(dir.path(), &format!("{i}.jsonl"), b"{}\n{\"text\":\"t\"}\n")).collect();
        let run = |skip_bad| {
            let mut documents = Documents::new(files.clone(), ReadOptions { skip_bad, ..Default::default() });
            let (mut doc, mut n) = (Document::default(), 0);
            let end = loop {
                match documents.next(&mut doc) {
                    Ok(true) => n += 1,
                    other => break other,
                }
            };
            (end.err().map(|e| e.to_string()), n, documents.bad().len(), documents.bytes_read())
        };
        let (error, n, bad, _) = run(2);
        assert!(error.unwrap().contains("2.jsonl:1: bad record at byte 0"));
        assert_eq!((n, bad), (2, 2));
        assert_eq!(run(3), (None, 3, 3, files.iter().map(|f| f.bytes).sum()));
    }

    fn one(line: &str, options: ReadOptions) -> (String, String, Value) {
        let dir = tempfile::tempdir().unwrap();
        let file = put(dir.path(), "a.jsonl", line.as_bytes());
        let mut doc = Document::default();
        assert!(open(&file, &options).unwrap().next(&mut doc).unwrap());
        (doc.text, doc.id, doc.metadata.into())
    }

    #[test]
    fn fields_are_found_by_path_and_metadata_is_what_was_asked_for() {
        let line = r#"{"id":7,"a":{"b":{"text":"T","k":1},"l":[1,{"m":null}]},"a.c":"dot","text":3,"e":{}}"#;
        let nested = |text: &str, metadata: Option<&[&str]>| ReadOptions {
            text_field: text.into(),
            metadata_fields: metadata.map(|m| m.iter().map(|s| s.to_string()).collect()),
            ..Default::default()
        };
        let all = json!({"a":{"b":{"k":1},"l":[1,{"m":null}]},"a.c":"dot","text":3,"e":{}});
        let (text, id, metadata) = one(line, nested("a.b.text", None));
        assert_eq!((text.as_str(), id.as_str()), ("T", "7"));
        assert_eq!(metadata.get("a"), all.get("a"));
        assert_eq!(metadata.get("text"), Some(&json!(3)));
        assert_eq!(one(line, nested("a.c", Some(&[]))), ("dot".into(), "7".into(), json!({})));
        let (_, _, some) = one(line, nested("a.b.text", Some(&["a.b.k", "a.c", "id", "nope", "a.b.text"])));
        assert_eq!(some, json!({"a.b.k":1,"a.c":"dot","id":7,"a.b.text":"T"}));
    }

    proptest::proptest! {
        /// The streaming pass agrees with a parse into a tree.
        #[test]
        fn agrees_with_a_plain_parse(
            text in ".*", id in proptest::option::of("[^\\x00]+"), extra in proptest::collection::btree_map("[a-z.\\\\\"é]{1,4}", "\\PC*", 0..4),
            escape in proptest::bool::ANY,
        ) {
            let mut object = serde_json::Map::new();
            for (k, v) in &extra {
                object.insert(format!("x{k}"), json!({"v": v, "n": v.len()}));
            }
            object.insert("text".into(), json!(text));
            if let Some(id) = &id {
                object.insert("id".into(), json!(id));
            }
            let mut line = Value::from(object.clone()).to_string();
            if escape {
                line = line.chars().map(|c| if c.is_ascii() { c.to_string() } else {
                    let mut units = [0; 2];
                    c.encode_utf16(&mut units).iter().map(|u| format!("\\u{u:04x}")).collect()
                }).collect();
            }
            let mut doc = Document::default();
            let fields = Fields::new(&ReadOptions::default());
            fields.fill(&line, &mut doc).unwrap();
            proptest::prop_assert_eq!(&doc.text, &text);
            proptest::prop_assert_eq!(&doc.id, &id.clone().unwrap_or_default());
            object.shift_remove("text");
            object.shift_remove("id");
            proptest::prop_assert_eq!(&doc.metadata, &object);
            let replaced = fields.replace(&line, "new").unwrap();
            let old = line.parse::<Value>().unwrap();
            let new: Value = replaced.parse().unwrap();
            proptest::prop_assert_eq!(&new["text"], &json!("new"));
            let mut back = new.clone();
            back["text"] = old["text"].clone();
            proptest::prop_assert_eq!(back, old);
        }
    }

    #[test]
    fn reads_the_real_corpora() {
        let Some(data) = std::env::var_os("PRIORART_DATA") else {
            println!("skipped: PRIORART_DATA is not set");
            return;
        };
        let files = discover(&[Path::new(&data).join("corpora/debian-docs")]).unwrap();
        assert!(files.iter().all(|f| f.kind == FileKind::JsonlZst));
        let mut documents = Documents::new(files, ReadOptions::default());
        let (mut doc, mut n, mut bytes) = (Document::default(), 0, 0);
        while documents.next(&mut doc).unwrap() {
            n += 1;
            bytes += doc.text.len();
            assert!(!doc.id.is_empty() && doc.metadata.contains_key("source"));
        }
        assert_eq!(n, 3980);
        assert!(bytes > 38_000_000, "{bytes}");
    }
}
