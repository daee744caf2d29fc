//! What the model of a power cut gives, change by change.

use super::*;

fn contents(store: &FaultStore) -> BTreeSet<Option<Vec<u8>>> {
    let images = store.images(1000, 1);
    assert!(images.exhaustive);
    images.images.into_iter().map(|i| i.entries.get(Path::new("/a")).cloned().flatten()).collect()
}

#[test]
fn content_is_durable_after_both_syncs() {
    let store = FaultStore::new();
    let mut file = store.create(Path::new("/a")).unwrap();
    file.write_all(b"1234").unwrap();
    let some = |b: &[u8]| Some(b.to_vec());
    let any = [None, some(b""), some(b"1234"), some(b"12\0\0"), some(b"\0\0\0\0")];
    assert_eq!(contents(&store), any.into());
    file.sync().unwrap();
    assert_eq!(contents(&store), [None, some(b"1234")].into());
    store.sync_dir(Path::new("/")).unwrap();
    assert_eq!(contents(&store), [some(b"1234")].into());
}

#[test]
fn replacing_shows_old_or_new_and_renaming_never_loses() {
    let store = FaultStore::new();
    store.create_dir_all(Path::new("/d")).unwrap();
    store.write_file(Path::new("/a"), b"old").unwrap();
    store.write_file(Path::new("/d/b"), b"new").unwrap();
    store.sync_dir(Path::new("/")).unwrap();
    store.sync_dir(Path::new("/d")).unwrap();
    store.rename(Path::new("/d/b"), Path::new("/a")).unwrap();
    assert_eq!(contents(&store), [Some(b"old".to_vec()), Some(b"new".to_vec())].into());
    for image in store.images(100, 1).images {
        assert!(image.entries.values().flatten().any(|c| c == b"new"));
    }
    store.sync_dir(Path::new("/d")).unwrap();
    assert_eq!(contents(&store), [Some(b"new".to_vec())].into());
}

#[test]
fn images_are_file_systems() {
    let store = FaultStore::new();
    store.create_dir_all(Path::new("/x/y")).unwrap();
    store.write_file(Path::new("/x/y/z"), b"1").unwrap();
    for image in store.images(100, 1).images {
        assert_eq!(FaultStore::from_image(&image).visible(), image);
    }
}

#[test]
fn faults_come_when_planned() {
    let store = FaultStore::new();
    store.fail_at(1, ErrorKind::StorageFull);
    let mut file = store.create(Path::new("/a")).unwrap();
    assert_eq!(file.write_all(b"x").unwrap_err().kind(), ErrorKind::StorageFull);
    file.write_all(b"x").unwrap();
    store.crash_at(3);
    assert!(file.sync().is_err() && store.read(Path::new("/a")).is_err());
}
