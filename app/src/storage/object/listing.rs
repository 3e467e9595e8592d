//! Listing in as few requests as there are pages, and many pages at once where there are many.
//!
//! The first page tells how many there are: blobs lie evenly spread over the digits of their digests. Of repositories a second
//! listing, of their first parts alone, tells it. Only where a share is worth [`WORTH`] pages it is listed by itself, so that
//! what the shares cost, a page each at most, stays below a tenth.

use clean_registry_core::layout::PREFIX;
use clean_registry_core::name::Bytes;
use clean_registry_core::stored::Stamp;
use futures_util::TryStreamExt as _;
use jiff::Timestamp;
use opendal::{EntryMode, Lister, Metadata, Operator};

use super::failure::failed;
use super::side_by_side;
use crate::storage::{Entry, Sink, StorageError};

/// What a share of a listing must have, in pages, to be listed by itself.
const WORTH: usize = 10;
/// Folders that are looked into for shares, at most, on each of so many levels.
const LOOKS: usize = 16;
const LEVELS: usize = 4;

/// How a store lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Manner {
    /// Entries on a page.
    pub page: usize,
    /// Whether a listing can begin after a key.
    pub starts_after: bool,
    /// Whether an `ETag` that looks like an MD5 is one.
    pub etag_is_md5: bool,
}

/// A part of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Share {
    prefix: String,
    /// Keys up to this one are not of it.
    after: String,
    /// Nor keys from this one.
    before: Option<String>,
}

/// One listing of a prefix.
pub(super) struct Listing<'a> {
    pub operator: &'a Operator,
    pub manner: Manner,
    pub sink: Sink<'a>,
    /// Shares that are listed side by side.
    pub most: usize,
}

/// How far a listing has come.
enum Progress {
    Done,
    /// To this key.
    Until(String),
}

impl Listing<'_> {
    /// Hands over every file below `prefix`. Returns whether there was any.
    pub(super) async fn run(&self, prefix: &str) -> Result<bool, StorageError> {
        let mut lister = self.open(prefix, "").await?;
        let whole = Share { prefix: prefix.to_owned(), after: String::new(), before: None };
        let mut pages = 0;
        for look in [1, WORTH, WORTH * 4, WORTH * 16] {
            let last = match self.pages(&mut lister, &whole, Some(look - pages)).await? {
                (Progress::Done, any) => return Ok(any || pages > 0),
                (Progress::Until(last), _) => last,
            };
            pages = look;
            let shares = self.shares(prefix, &last, pages).await?;
            if shares.len() > 1 {
                drop(lister);
                let shares = shares.iter().map(|share| self.share(share)).collect();
                let listed: Vec<_> = side_by_side(shares, self.most).await;
                listed.into_iter().collect::<Result<(), _>>()?;
                return Ok(true);
            }
        }
        self.pages(&mut lister, &whole, None).await?;
        Ok(true)
    }

    async fn open(&self, prefix: &str, after: &str) -> Result<Lister, StorageError> {
        let lister = self.operator.lister_with(prefix).recursive(true);
        let lister =
            if after.is_empty() || !self.manner.starts_after { lister } else { lister.start_after(after) };
        lister.await.map_err(|error| failed(prefix, &error))
    }

    async fn share(&self, share: &Share) -> Result<(), StorageError> {
        let mut lister = self.open(&share.prefix, &share.after).await?;
        self.pages(&mut lister, share, None).await.map(drop)
    }

    /// Hands over what is of `share`, of so many pages; and whether there was anything.
    async fn pages(
        &self,
        lister: &mut Lister,
        share: &Share,
        pages: Option<usize>,
    ) -> Result<(Progress, bool), StorageError> {
        let (mut seen, mut any, mut batch) = (0, false, Vec::with_capacity(self.manner.page));
        let mut until = None;
        while let Some(entry) = lister.try_next().await.map_err(|error| failed(&share.prefix, &error))? {
            let (key, metadata) = entry.into_parts();
            if share.before.as_ref().is_some_and(|before| key >= *before) {
                break;
            }
            seen += 1;
            let is_last = pages.is_some_and(|pages| seen >= pages * self.manner.page);
            if is_last {
                until = Some(key.clone());
            }
            if key > share.after {
                batch.extend(self.entry(key, &metadata)?);
            }
            if is_last {
                break;
            }
            if batch.len() >= self.manner.page {
                any = true;
                (self.sink)(std::mem::replace(&mut batch, Vec::with_capacity(self.manner.page)));
            }
        }
        if !batch.is_empty() {
            any = true;
            (self.sink)(batch);
        }
        Ok((until.map_or(Progress::Done, Progress::Until), any))
    }

    fn entry(&self, key: String, metadata: &Metadata) -> Result<Option<Entry>, StorageError> {
        if key.starts_with('/') || key.contains("//") {
            return Err(odd(&key));
        }
        Ok(entry(key, metadata, self.manner))
    }

    /// What is left after `last` and so many pages, in shares that are worth it; else one share or none.
    async fn shares(&self, prefix: &str, last: &str, pages: usize) -> Result<Vec<Share>, StorageError> {
        let done = spread(prefix, last);
        match done {
            None if pages < WORTH => Ok(Vec::new()),
            _ if !self.manner.starts_after => self.folder_shares(prefix, last, pages, done).await,
            Some(done) => Ok(self.blob_shares(prefix, last, pages, done)),
            None => self.name_shares(prefix, last, pages).await,
        }
    }

    /// How many shares so many pages are worth.
    fn worth(&self, pages: f64) -> usize {
        let shares = (pages / WORTH as f64).floor();
        if shares < 2.0 { 1 } else { (shares as usize).min(self.most) }
    }

    fn blob_shares(&self, prefix: &str, last: &str, pages: usize, done: f64) -> Vec<Share> {
        let shares = self.worth(pages as f64 / done * (1.0 - done));
        let folder = digits_at(last).map_or(last, |at| &last[..at]);
        let at = |share: usize| {
            let position = done + (1.0 - done) * (share as f64 / shares as f64);
            let number = ((position * 65536.0) as u32).min(0xFFFF);
            format!("{folder}{:02x}/{number:04x}", number >> 8)
        };
        let points = (1..shares).map(at).filter(|point| point.as_str() > last);
        ranges(prefix, last, points)
    }

    /// By the names that come next, of as many levels as it takes.
    async fn name_shares(&self, prefix: &str, last: &str, pages: usize) -> Result<Vec<Share>, StorageError> {
        let names = self.names(prefix, pages).await?;
        let done = names.partition_point(|name| name.as_str() <= last).max(1);
        let left = names.len().saturating_sub(done);
        let shares = self.worth(pages as f64 / done as f64 * left as f64).min(left.max(1));
        let points = (1..shares).map(|share| names[done + share * left / shares].clone());
        Ok(ranges(prefix, last, points))
    }

    /// The names that lie right below `prefix`; where they are so few that each holds much, those that lie in them.
    async fn names(&self, prefix: &str, pages: usize) -> Result<Vec<String>, StorageError> {
        let few = if pages < WORTH * 4 { 1 } else { LOOKS };
        let mut names = self.look(prefix).await?.0;
        for _ in 0..LEVELS {
            if names.len() > few {
                break;
            }
            let mut inner = Vec::new();
            for name in &names {
                let folders = self.look(name).await?.0;
                inner.extend(if folders.is_empty() { vec![name.clone()] } else { folders });
            }
            names = inner;
        }
        names.sort();
        Ok(names)
    }

    /// For stores that cannot begin after a key: by what the folders begin with. Files that lie beside them are handed over.
    async fn folder_shares(
        &self,
        prefix: &str,
        last: &str,
        pages: usize,
        done: Option<f64>,
    ) -> Result<Vec<Share>, StorageError> {
        // Blobs are sixteen shares, one a digit.
        if done.is_some_and(|done| pages as f64 / done < (16 * WORTH) as f64) {
            return Ok(Vec::new());
        }
        let (mut folders, mut files) = self.look(prefix).await?;
        if let Some(digits) = done.and_then(|_| digits_at(last)) {
            let (inner, beside) = self.look(&last[..digits]).await?;
            folders.retain(|folder| folder != &last[..digits]);
            folders.extend(inner.iter().filter_map(|folder| folder.get(..=digits)).map(str::to_owned));
            files.extend(beside);
        }
        folders.sort();
        folders.dedup();
        let begun = folders.partition_point(|folder| folder.as_str() <= last).max(1);
        let expected = pages as f64 / begun as f64 * (folders.len() - begun.min(folders.len())) as f64;
        if done.is_none() && expected < (folders.len() * WORTH) as f64 {
            return Ok(Vec::new());
        }
        let left = folders.split_off((begun - 1).min(folders.len()));
        let covers = |file: &Entry| left.iter().any(|folder| file.key.starts_with(folder));
        files.retain(|file| file.key.as_str() > last && !covers(file));
        if left.len() > 1 {
            (self.sink)(files);
        }
        let share = |prefix| Share { prefix, after: last.to_owned(), before: None };
        Ok(left.into_iter().map(share).collect())
    }

    /// The folders and the files right below `parent`, the folders in order.
    async fn look(&self, parent: &str) -> Result<(Vec<String>, Vec<Entry>), StorageError> {
        let lister = self.operator.lister_with(parent).await;
        let mut lister = lister.map_err(|error| failed(parent, &error))?;
        let (mut folders, mut files) = (Vec::new(), Vec::new());
        while let Some(entry) = lister.try_next().await.map_err(|error| failed(parent, &error))? {
            let (key, metadata) = entry.into_parts();
            if metadata.mode() != EntryMode::DIR {
                files.extend(self.entry(key, &metadata)?);
            } else if key != parent {
                folders.push(key);
            }
        }
        folders.sort();
        folders.dedup();
        Ok((folders, files))
    }
}

/// The ranges between `points`, the first beginning after `last`.
fn ranges(prefix: &str, last: &str, points: impl Iterator<Item = String>) -> Vec<Share> {
    let mut after = last.to_owned();
    let mut shares = Vec::new();
    for point in points {
        let share = Share { prefix: prefix.to_owned(), after, before: Some(point.clone()) };
        shares.push(share);
        after = point;
    }
    shares.push(Share { prefix: prefix.to_owned(), after, before: None });
    shares
}

/// Where the digits of the digest begin in the key of a blob.
fn digits_at(key: &str) -> Option<usize> {
    let folder = format!("{PREFIX}/blobs/sha256/");
    key.starts_with(&folder).then_some(folder.len())
}

/// Which share of all blobs comes before the one at `last`; `None` if `prefix` is not that of the blobs.
fn spread(prefix: &str, last: &str) -> Option<f64> {
    let folder = format!("{PREFIX}/blobs/");
    let at = prefix.starts_with(&folder).then(|| digits_at(last))??;
    let digits = last.get(at + 3..at + 11)?;
    let number = u32::from_str_radix(digits, 16).ok()?;
    Some((f64::from(number) + 1.0) / f64::from(u32::MAX))
}

/// A file as this program sees it; `None` of a folder, and of what stands for one.
pub(super) fn entry(key: String, metadata: &Metadata, manner: Manner) -> Option<Entry> {
    if metadata.mode() == EntryMode::DIR || key.ends_with('/') {
        return None;
    }
    let modified = metadata.last_modified().map(Timestamp::from);
    Some(Entry {
        key,
        size: Some(Bytes(metadata.content_length())),
        modified: modified.map_or(Stamp::UNKNOWN, Stamp::of),
        md5: md5(metadata, manner),
    })
}

fn md5(metadata: &Metadata, manner: Manner) -> Option<[u8; 16]> {
    use base64::Engine as _;
    if let Some(md5) = metadata.content_md5().filter(|md5| !md5.is_empty()) {
        return base64::engine::general_purpose::STANDARD.decode(md5).ok()?.try_into().ok();
    }
    let etag = metadata.etag().filter(|_| manner.etag_is_md5)?.trim_matches('"');
    if etag.len() != 32 {
        return None;
    }
    let mut md5 = [0; 16];
    for (at, byte) in md5.iter_mut().enumerate() {
        *byte = u8::from_str_radix(etag.get(at * 2..at * 2 + 2)?, 16).ok()?;
    }
    Some(md5)
}

/// What no client library can name is not touched.
pub(super) fn odd(key: &str) -> StorageError {
    let message = "this key has an empty part (it begins with a slash, or has two in a row), as older Azure drivers and odd root \
                   directories write them; such a storage is not supported";
    StorageError::Other { key: key.to_owned(), message: message.to_owned() }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// Lists by folders, as Azure is listed, and by nothing else: every file must come once.
    #[tokio::test]
    async fn what_lies_beside_the_shares_of_a_listing_by_folders_is_not_lost() {
        let operator = Operator::new(opendal::services::Memory::default()).unwrap();
        let manner = Manner { page: 2, starts_after: false, etag_is_md5: false };
        let blob = |at: u32| format!("{PREFIX}/blobs/sha256/{:02x}/{at:08x}/data", at >> 24);
        let link = |at: u32| format!("{PREFIX}/repositories/r{:03}/{:04}/link", at / 40, at % 40);
        let mut keys: Vec<String> =
            (0..500).map(|at| blob(at * (u32::MAX / 500))).chain((0..800).map(link)).collect();
        let beside = [
            "blobs/sha256/zz",
            "blobs/sha256/0",
            "blobs/sha512/aa/x/data",
            "blobs/sha",
            "blobs/t",
            "repositories/z",
        ];
        keys.extend(beside.map(|key| format!("{PREFIX}/{key}")));
        for key in &keys {
            operator.write(key, "x").await.unwrap();
        }
        for prefix in ["blobs/", "repositories/", ""].map(|prefix| format!("{PREFIX}/{prefix}")) {
            let (found, batches) = (Mutex::new(Vec::new()), Mutex::new(0));
            let sink = |entries: Vec<Entry>| {
                *batches.lock().unwrap() += 1;
                found.lock().unwrap().extend(entries.into_iter().map(|entry| entry.key));
            };
            let listing = Listing { operator: &operator, manner, sink: &sink, most: 16 };
            assert!(listing.run(&prefix).await.unwrap());
            let mut found = found.into_inner().unwrap();
            found.sort();
            let mut expected: Vec<String> =
                keys.iter().filter(|key| key.starts_with(&prefix)).cloned().collect();
            expected.sort();
            assert_eq!(found, expected, "{prefix}");
        }
        let sink = |_: Vec<Entry>| ();
        let listing = Listing { operator: &operator, manner, sink: &sink, most: 16 };
        let last = blob(u32::MAX / 20);
        let shares = listing.shares(&format!("{PREFIX}/blobs/"), &last, 12).await.unwrap();
        assert!(shares.len() >= 16, "{shares:?}");
    }

    fn share(after: &str, before: Option<&str>) -> Share {
        Share { prefix: "p/".into(), after: after.into(), before: before.map(str::to_owned) }
    }

    #[test]
    fn ranges_cover_everything_after_the_last_key() {
        let points = ["c", "e"].map(String::from).into_iter();
        assert_eq!(
            ranges("p/", "a", points),
            [share("a", Some("c")), share("c", Some("e")), share("e", None)]
        );
        assert_eq!(ranges("p/", "a", std::iter::empty()), [share("a", None)]);
    }

    #[test]
    fn how_much_is_done_is_read_from_a_digest() {
        let key = |digits: &str| format!("docker/registry/v2/blobs/sha256/{}/{digits}/data", &digits[..2]);
        let done = |digits: &str| spread("docker/registry/v2/blobs/", &key(digits)).unwrap();
        assert!((done("80000000ab") - 0.5).abs() < 0.001);
        assert!((done("ffffffffab") - 1.0).abs() < 0.001);
        assert!(done("00000000ab") > 0.0);
        assert_eq!(spread("docker/registry/v2/repositories/", &key("80000000ab")), None);
        assert_eq!(spread("docker/registry/v2/blobs/", "docker/registry/v2/blobs/odd"), None);
    }
}
