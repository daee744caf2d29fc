//! dump
use priorart::decontaminate::*;
use priorart::reference::*;
use std::io::*;
fn main() {
    let data = std::env::var("PRIORART_DATA").unwrap();
    let a: Vec<String> = std::env::args().collect();
    let refs: Vec<std::path::PathBuf> = a[1].split(',').map(|s| format!("{data}/{s}").into()).collect();
    let t = std::time::Instant::now();
    let set = read(&refs, None).unwrap();
    eprintln!("read {} items {:?}", set.items.len(), t.elapsed());
    let t = std::time::Instant::now();
    let ix = ReferenceIndex::build(&set).unwrap();
    eprintln!("built {:?}", t.elapsed());
    ix.save(std::path::Path::new("/tmp/decon.ref")).unwrap();
    let t = std::time::Instant::now();
    let ix2 = ReferenceIndex::open(std::path::Path::new("/tmp/decon.ref")).unwrap();
    eprintln!("open {:?} {}", t.elapsed(), ix2 == ix);
    let mut scan = Scan::default();
    let mut out = BufWriter::new(std::io::stdout());
    let (mut bytes, mut secs, mut s2, mut nh, mut nw) = (0usize, 0f64, 0f64, 0usize, 0usize);
    for f in &a[2..] {
        let f = format!("{data}/{f}");
        let r = BufReader::with_capacity(1 << 20, zstd::Decoder::new(std::fs::File::open(&f).unwrap()).unwrap());
        for l in r.split(b'\n') {
            let l = l.unwrap();
            if l.is_empty() {
                continue;
            }
            let v: serde_json::Value = serde_json::from_slice(&l).unwrap();
            let text = v["text"].as_str().unwrap();
            let t = std::time::Instant::now();
            scan.read(&ix, text).unwrap();
            secs += t.elapsed().as_secs_f64();
            bytes += text.len();
            nw += scan.words();
            let t = std::time::Instant::now();
            let ev = collect(&ix, &scan, text);
            s2 += t.elapsed().as_secs_f64();
            nh += ev.len();
            for e in ev {
                let m = ix.meta(e.item).unwrap();
                let comps:Vec<serde_json::Value>=e.components.iter().map(|c|serde_json::json!({"kind":c.kind.name(),"words":c.words,"weight":c.weight,"cov":c.coverage(),"mw":c.matched_weight,"m":c.matched_words,"lw":c.longest_words,"lwt":c.longest_weight,"span":c.span_words,"b":c.bounds,"doc":c.document,"text":&text[c.document.clone()].chars().take(300).collect::<String>()})).collect();
                writeln!(out,"{}",serde_json::json!({"id":v["id"],"item":format!("{}:{}",m.origins[0].benchmark,m.origins[0].id),"c":comps,"cf":e.choices.found,"v":Priorart::default().judge(&e),"co":e.choices.of,"cw":e.choices.matched_weight})).unwrap();
            }
        }
    }
    eprintln!(
        "{} MB scan {:.1} MB/s total {:.1} MB/s, evidence {nh}, words {nw}",
        bytes / 1000000,
        bytes as f64 / secs / 1e6,
        bytes as f64 / (secs + s2) / 1e6
    );
}
