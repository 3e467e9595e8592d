//! What every storage must do, as functions over [`Storage`]: each backend's tests call [`all`].
//!
//! A storage is given that holds nothing below its root and that nobody else writes to. Every part leaves it so.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use clean_registry_core::name::Bytes;
use clean_registry_core::stored::Stamp;
use jiff::{SignedDuration, Timestamp};

use super::{Depth, Entry, Folders, Hidden, QUARANTINE, Storage, StorageError, absolute};

/// Everything. What fails panics, as an assertion does.
///
/// # Panics
/// When the storage does not do what it must.
pub async fn all(storage: &dyn Storage) {
    few(storage).await;
    many_files_are_listed_read_and_removed(storage).await;
    many_files_are_hidden_and_purged(storage).await;
}

/// Everything that takes a few files.
///
/// # Panics
/// As [`all`].
pub async fn few(storage: &dyn Storage) {
    a_file_is_there_from_its_writing_to_its_removal(storage).await;
    a_file_is_replaced_whole(storage).await;
    what_is_not_there_is_nothing(storage).await;
    a_listing_ends_at_its_prefix(storage).await;
    keys_that_look_odd_are_keys(storage).await;
    names_are_those_of_what_is_there(storage).await;
    what_is_hidden_comes_back(storage).await;
    what_is_purged_is_gone(storage).await;
    a_new_copy_survives_a_restore(storage).await;
    a_new_copy_survives_a_purge(storage).await;
    hiding_twice_and_hiding_nothing_harms_nobody(storage).await;
    a_hiding_that_was_broken_off_harms_nobody(storage).await;
    the_clock_leaves_nothing(storage).await;
}

/// Every file below `prefix`, by key.
///
/// # Panics
/// When it cannot be listed, or a file is listed twice.
pub async fn listed(storage: &dyn Storage, prefix: &str) -> BTreeMap<String, Entry> {
    listed_to(storage, prefix, Depth::Everything).await
}

async fn listed_to(storage: &dyn Storage, prefix: &str, depth: Depth) -> BTreeMap<String, Entry> {
    let found = Mutex::new(BTreeMap::new());
    let sink = |entries: Vec<Entry>| {
        let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
        for entry in entries {
            let twice = found.insert(entry.key.clone(), entry);
            assert!(twice.is_none(), "listed twice: {twice:?}");
        }
    };
    storage.list(prefix, depth, &sink).await.expect("it can be listed");
    found.into_inner().unwrap_or_else(PoisonError::into_inner)
}

async fn keys(storage: &dyn Storage, prefix: &str) -> Vec<String> {
    listed(storage, prefix).await.into_keys().collect()
}

async fn write(storage: &dyn Storage, key: &str, text: &str) {
    storage.write(key, text.as_bytes().to_vec()).await.expect("it can be written");
}

async fn read(storage: &dyn Storage, key: &str) -> Option<String> {
    let bytes = storage.read(key).await.expect("it can be read");
    bytes.map(|bytes| String::from_utf8(bytes).expect("it is text"))
}

async fn remove(storage: &dyn Storage, keys: Vec<String>) {
    let failed = storage.remove(keys, Folders::RemoveEmpty).await;
    assert!(failed.is_empty(), "{failed:?}");
}

async fn hide(storage: &dyn Storage, keys: &[String], run: &str) {
    let failed = storage.hide(keys.to_vec(), run).await;
    assert!(failed.is_empty(), "{failed:?}");
}

async fn hidden(storage: &dyn Storage) -> Vec<Hidden> {
    storage.hidden().await.expect("the quarantine can be read")
}

async fn purge(storage: &dyn Storage, hidden: Vec<Hidden>) {
    let failed = storage.purge(hidden).await;
    assert!(failed.is_empty(), "{failed:?}");
}

/// Nothing is left, not even in quarantine.
async fn assert_empty(storage: &dyn Storage) {
    assert_eq!(hidden(storage).await, []);
    assert_eq!(keys(storage, "").await, Vec::<String>::new());
}

fn blob(at: usize) -> String {
    // Spread over the first byte as digests are.
    let first = at.wrapping_mul(0x9E37_79B9) & 0xFF;
    absolute(&format!("blobs/sha256/{first:02x}/{first:02x}{at:062x}/data"))
}

async fn a_file_is_there_from_its_writing_to_its_removal(storage: &dyn Storage) {
    let key = absolute("repositories/a/_layers/x/link");
    let before = storage.now().await.expect("it tells the time");
    write(storage, &key, "hello").await;
    assert_eq!(read(storage, &key).await.as_deref(), Some("hello"));
    let entry = storage.stat(&key).await.expect("it can be asked").expect("it is there");
    let entries = listed(storage, "").await;
    assert_eq!(entries.len(), 1);
    let in_listing = &entries[&key];
    for entry in [&entry, in_listing] {
        assert_eq!((entry.key.as_str(), entry.size), (key.as_str(), Some(Bytes(5))));
        let written = entry.modified.at().expect("it tells when");
        let apart = written.duration_since(before).abs();
        assert!(apart < SignedDuration::from_secs(60), "{written} is far from {before}");
    }
    const MD5_OF_HELLO: &str = "5d41402abc4b2a76b9719d911017c592";
    if let Some(md5) = in_listing.md5 {
        let hex: String = md5.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, MD5_OF_HELLO);
    }
    remove(storage, vec![key.clone()]).await;
    assert_eq!(read(storage, &key).await, None);
    assert_eq!(storage.stat(&key).await.expect("it can be asked"), None);
    assert_empty(storage).await;
}

/// Listed by names alone or asked for together, every file is the same as listed whole.
async fn names_are_those_of_what_is_there(storage: &dyn Storage) {
    let digest = format!("ab{:062x}", 7);
    let keys = [
        absolute(&format!("blobs/sha256/ab/{digest}/data")),
        absolute(&format!("repositories/a/_layers/sha256/{digest}/link")),
        absolute(&format!("repositories/a/_manifests/revisions/sha256/{digest}/link")),
        absolute("repositories/a/_manifests/tags/v1/current/link"),
    ];
    for key in &keys {
        write(storage, key, key).await;
    }
    let whole = listed(storage, "").await;
    let by_name = listed_to(storage, "", Depth::Names).await;
    assert!(by_name.keys().eq(&keys), "{by_name:?}");
    for (key, entry) in &by_name {
        let is_same = (entry.size, entry.modified) == (whole[key].size, whole[key].modified);
        assert!(is_same || (entry.size, entry.modified) == (None, Stamp::UNKNOWN), "{entry:?}");
    }
    // No folder tells the size of a revision link: it is always asked for.
    assert_eq!(by_name[&keys[2]].size, whole[&keys[2]].size);
    let told = Mutex::new(BTreeMap::new());
    let on_stat = |key: String, stat: Result<Option<Entry>, StorageError>| {
        let twice = told.lock().unwrap_or_else(PoisonError::into_inner).insert(key, stat.expect("it tells"));
        assert!(twice.is_none(), "told twice: {twice:?}");
    };
    let asked = keys.iter().cloned().chain([absolute("blobs/none")]);
    storage.stat_all(asked.collect(), &on_stat).await;
    let told = told.into_inner().unwrap_or_else(PoisonError::into_inner);
    assert_eq!((told.len(), &told[&absolute("blobs/none")]), (5, &None));
    for key in &keys {
        let told = told[key].as_ref().expect("it is there");
        assert_eq!((told.size, told.modified), (whole[key].size, whole[key].modified));
    }
    remove(storage, keys.to_vec()).await;
    assert_empty(storage).await;
}

async fn a_file_is_replaced_whole(storage: &dyn Storage) {
    let key = absolute("repositories/a/_manifests/tags/v1/current/link");
    for text in ["a longer text", "", "short"] {
        write(storage, &key, text).await;
        assert_eq!(read(storage, &key).await.as_deref(), Some(text));
    }
    assert_eq!(listed(storage, "").await[&key].size, Some(Bytes(5)));
    remove(storage, vec![key.clone()]).await;
    assert_eq!(read(storage, &key).await, None, "an older version came up again");
    assert_empty(storage).await;
}

async fn what_is_not_there_is_nothing(storage: &dyn Storage) {
    let key = absolute("blobs/sha256/00/data");
    assert_eq!(storage.read(&key).await.expect("absent is no error"), None);
    assert_eq!(storage.stat(&key).await.expect("absent is no error"), None);
    assert_eq!(keys(storage, "docker/registry/v2/repositories/").await, Vec::<String>::new());
    remove(storage, vec![key.clone()]).await;
    let read = Mutex::new(Vec::new());
    let on_read = |key, result: Result<Option<Vec<u8>>, _>| {
        let bytes = result.expect("absent is no error");
        read.lock().unwrap_or_else(PoisonError::into_inner).push((key, bytes));
    };
    storage.read_all(vec![key.clone()], &on_read).await;
    assert_eq!(read.into_inner().unwrap_or_else(PoisonError::into_inner), [(key, None)]);
    assert_eq!(storage.multipart_uploads(&absolute("")).await.expect("they can be listed"), []);
    assert_empty(storage).await;
}

async fn a_listing_ends_at_its_prefix(storage: &dyn Storage) {
    let tags = absolute("repositories/a/_manifests/tags");
    let all: Vec<String> = ["v1", "v1-foo", "v1.1", "v10", "v1_"]
        .iter()
        .map(|tag| format!("{tags}/{tag}/current/link"))
        .collect();
    let beside = absolute("repositories/a-b/_layers/x/link");
    for key in all.iter().chain([&beside]) {
        write(storage, key, "x").await;
    }
    assert_eq!(keys(storage, &format!("{tags}/v1/")).await, [format!("{tags}/v1/current/link")]);
    let mut expected = all.clone();
    expected.sort();
    assert_eq!(keys(storage, &absolute("repositories/a/")).await, expected);
    remove(storage, vec![format!("{tags}/v1/current/link")]).await;
    expected.retain(|key| !key.contains("/v1/"));
    assert_eq!(keys(storage, &format!("{tags}/")).await, expected, "one removal took more than one file");
    remove(storage, expected.into_iter().chain([beside]).collect()).await;
    assert_empty(storage).await;
}

async fn keys_that_look_odd_are_keys(storage: &dyn Storage) {
    let odd = ["a b", "plus+plus", "per%2Fcent", "quote\"'<&>", "eq=a?b#c", "ümläut", ".hidden.123.tmp", "~"];
    let all: BTreeSet<String> =
        odd.iter().map(|name| absolute(&format!("repositories/odd/_odd/{name}/link"))).collect();
    for key in &all {
        write(storage, key, key).await;
    }
    let there: BTreeSet<String> = keys(storage, "").await.into_iter().collect();
    assert_eq!(there, all);
    for key in &all {
        assert_eq!(read(storage, key).await.as_ref(), Some(key));
    }
    let some: Vec<String> = all.iter().take(3).cloned().collect();
    hide(storage, &some, "run-odd").await;
    let found = hidden(storage).await;
    assert_eq!(found.iter().map(|hidden| hidden.key.clone()).collect::<Vec<_>>(), some);
    for hidden in &found {
        storage.restore(hidden).await.expect("it comes back");
    }
    purge(storage, Vec::new()).await;
    remove(storage, all.into_iter().collect()).await;
    assert_empty(storage).await;
}

async fn write_all(storage: &dyn Storage, keys: &[String]) {
    use futures_util::{StreamExt as _, stream};
    let writes = stream::iter(keys).map(|key| write(storage, key, key));
    writes.buffer_unordered(32).collect::<Vec<()>>().await;
}

async fn many_files_are_listed_read_and_removed(storage: &dyn Storage) {
    let mut all: Vec<String> = (0..2500).map(blob).collect();
    write_all(storage, &all).await;
    all.sort();
    assert_eq!(keys(storage, &absolute("blobs/")).await, all);
    assert_eq!(keys(storage, "").await, all);
    let read = Mutex::new(BTreeSet::new());
    let on_read = |key: String, result: Result<Option<Vec<u8>>, _>| {
        assert_eq!(result.expect("it can be read"), Some(key.clone().into_bytes()));
        assert!(read.lock().unwrap_or_else(PoisonError::into_inner).insert(key), "handed over twice");
    };
    storage.read_all(all.clone(), &on_read).await;
    assert_eq!(read.into_inner().unwrap_or_else(PoisonError::into_inner).len(), all.len());
    let (some, rest) = all.split_at(1500);
    remove(storage, some.to_vec()).await;
    assert_eq!(keys(storage, &absolute("blobs/")).await, rest);
    remove(storage, rest.to_vec()).await;
    assert_empty(storage).await;
}

async fn what_is_hidden_comes_back(storage: &dyn Storage) {
    let all: Vec<String> = (0..3).map(blob).collect();
    write_all(storage, &all).await;
    hide(storage, &all[..2], "run-1").await;
    assert_eq!(keys(storage, &absolute("")).await, [all[2].clone()]);
    assert_eq!(read(storage, &all[0]).await, None);
    let mut found = hidden(storage).await;
    found.sort_by_key(|hidden| hidden.key.clone());
    let mut expected: Vec<String> = all[..2].to_vec();
    expected.sort();
    assert_eq!(found.iter().map(|hidden| hidden.key.clone()).collect::<Vec<_>>(), expected);
    assert!(found.iter().all(|hidden| hidden.run == "run-1" && hidden.size.0 == hidden.key.len() as u64));
    for hidden in &found {
        storage.restore(hidden).await.expect("it comes back");
        storage.restore(hidden).await.expect("twice is once");
    }
    assert_eq!(hidden(storage).await, []);
    for key in &all {
        assert_eq!(read(storage, key).await.as_ref(), Some(key));
    }
    purge(storage, Vec::new()).await;
    remove(storage, all).await;
    assert_empty(storage).await;
}

async fn what_is_purged_is_gone(storage: &dyn Storage) {
    let all: Vec<String> = (0..2).map(blob).collect();
    write_all(storage, &all).await;
    hide(storage, &all[..1], "run-1").await;
    hide(storage, &all[1..], "run-2").await;
    let found = hidden(storage).await;
    assert_eq!(found.iter().map(|hidden| hidden.run.as_str()).collect::<Vec<_>>(), ["run-1", "run-2"]);
    purge(storage, found[..1].to_vec()).await;
    assert_eq!(hidden(storage).await, found[1..]);
    purge(storage, found).await;
    for key in &all {
        assert_eq!(read(storage, key).await, None);
    }
    assert_empty(storage).await;
}

async fn a_new_copy_survives_a_restore(storage: &dyn Storage) {
    let key = blob(7);
    write(storage, &key, "old").await;
    hide(storage, std::slice::from_ref(&key), "run-1").await;
    write(storage, &key, "newer").await;
    let found = hidden(storage).await;
    assert_eq!(found.len(), 1);
    storage.restore(&found[0]).await.expect("it is dropped");
    assert_eq!(read(storage, &key).await.as_deref(), Some("newer"));
    assert_eq!(hidden(storage).await, []);
    purge(storage, Vec::new()).await;
    remove(storage, vec![key.clone()]).await;
    assert_eq!(read(storage, &key).await, None);
    assert_empty(storage).await;
}

async fn a_new_copy_survives_a_purge(storage: &dyn Storage) {
    let key = blob(8);
    write(storage, &key, "old").await;
    hide(storage, std::slice::from_ref(&key), "run-1").await;
    let found = hidden(storage).await;
    write(storage, &key, "newer").await;
    purge(storage, found.clone()).await;
    assert_eq!(read(storage, &key).await.as_deref(), Some("newer"));
    purge(storage, found).await;
    assert_eq!(read(storage, &key).await.as_deref(), Some("newer"), "purging twice took the new copy");
    assert_eq!(hidden(storage).await, []);
    remove(storage, vec![key]).await;
    assert_empty(storage).await;
}

async fn hiding_twice_and_hiding_nothing_harms_nobody(storage: &dyn Storage) {
    let (key, absent) = (blob(9), blob(10));
    hide(storage, std::slice::from_ref(&absent), "run-1").await;
    assert_eq!(hidden(storage).await, []);
    write(storage, &key, "x").await;
    hide(storage, &[key.clone(), absent], "run-1").await;
    hide(storage, std::slice::from_ref(&key), "run-2").await;
    let found = hidden(storage).await;
    assert_eq!(found.iter().map(|hidden| hidden.key.as_str()).collect::<Vec<_>>(), [key.as_str()]);
    storage.restore(&found[0]).await.expect("it comes back");
    assert_eq!(read(storage, &key).await.as_deref(), Some("x"));
    purge(storage, Vec::new()).await;
    remove(storage, vec![key]).await;
    assert_empty(storage).await;
}

/// Broken off between the copy and the removal, where a storage hides by copying.
async fn a_hiding_that_was_broken_off_harms_nobody(storage: &dyn Storage) {
    let key = blob(11);
    let copy = format!("{QUARANTINE}/run-1/{key}");
    write(storage, &key, "x").await;
    for is_restored in [true, false] {
        write(storage, &copy, "x").await;
        let found = hidden(storage).await;
        assert_eq!(found.iter().map(|hidden| hidden.key.as_str()).collect::<Vec<_>>(), [key.as_str()]);
        if is_restored {
            storage.restore(&found[0]).await.expect("it is dropped");
        } else {
            purge(storage, found).await;
        }
        assert_eq!(hidden(storage).await, []);
        assert_eq!(read(storage, &key).await.as_deref(), Some("x"));
    }
    remove(storage, vec![key]).await;
    assert_empty(storage).await;
}

async fn many_files_are_hidden_and_purged(storage: &dyn Storage) {
    let all: Vec<String> = (0..1200).map(blob).collect();
    write_all(storage, &all).await;
    hide(storage, &all, "run-1").await;
    assert_eq!(keys(storage, &absolute("")).await, Vec::<String>::new());
    let found = hidden(storage).await;
    assert_eq!(found.len(), all.len());
    purge(storage, found).await;
    assert_empty(storage).await;
}

async fn the_clock_leaves_nothing(storage: &dyn Storage) {
    let now = storage.now().await.expect("it tells the time");
    assert!(now.duration_since(Timestamp::now()).abs() < SignedDuration::from_secs(60), "{now}");
    assert_eq!(keys(storage, &format!("{QUARANTINE}/")).await, Vec::<String>::new());
    assert_empty(storage).await;
}
