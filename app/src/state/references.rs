//! What manifests list, by digest, kept from one collection to the next: content does not change, so each is read once.
//!
//! A file of records, each with a checksum of its own: one that is torn or altered is not believed, and the manifest is read anew.
//! A record is a manifest's digest, how many digests it lists, each of them with how sure it is that it is a manifest, and what it is
//! about.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use clean_registry_core::gc::{Certainty, Listed, References};
use clean_registry_core::name::Digest;

use super::{At as _, StateError};

/// The first bytes of the file; another version begins otherwise, and is not read.
const MAGIC: &[u8; 8] = b"crrefs\x00\x01";
/// Bytes of a digest of the record that vouch for it.
const CHECKSUM: usize = 8;
/// More than any manifest of 4 MiB can list.
const MOST_LISTED: u32 = 1 << 16;

/// What is known of a digest: what the manifest lists, or that its bytes are no manifest.
pub type Fact = Result<References, String>;

/// The file of references.
#[derive(Debug)]
pub struct ReferencesFile {
    path: PathBuf,
    /// Records to be added.
    added: Mutex<Vec<u8>>,
}

impl ReferencesFile {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, added: Mutex::default() }
    }

    /// Hands over every record that can be believed, in no order; how many bytes of the file those are. A file that is not there
    /// holds none.
    ///
    /// # Errors
    /// When it is there and cannot be read.
    pub fn read(&self, mut each: impl FnMut(Digest, Fact)) -> Result<u64, StateError> {
        let file = match File::open(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
            file => file.at(&self.path)?,
        };
        let mut file = BufReader::with_capacity(1 << 20, file);
        let mut magic = [0; MAGIC.len()];
        if file.read_exact(&mut magic).is_err() || magic != *MAGIC {
            return Ok(0);
        }
        let mut believed = MAGIC.len() as u64;
        while let Some((digest, fact, length)) = read_record(&mut file) {
            each(digest, fact);
            believed += length;
        }
        Ok(believed)
    }

    /// Notes what a manifest lists, or that these bytes are none, to be kept by [`ReferencesFile::save`].
    pub fn note(&self, digest: Digest, fact: &Fact) {
        if let Some(record) = record(digest, fact) {
            self.added.lock().unwrap_or_else(PoisonError::into_inner).extend(record);
        }
    }

    /// Adds what was noted behind what can be believed. Where `is_kept` keeps less than half of the file, it is written anew
    /// without the rest.
    ///
    /// # Errors
    /// When it cannot be written: what was in it stays, as far as it can be believed.
    pub fn save(&self, is_kept: impl Fn(Digest) -> bool) -> Result<(), StateError> {
        let added = std::mem::take(&mut *self.added.lock().unwrap_or_else(PoisonError::into_inner));
        let (mut all, mut kept) = (0_u64, 0_u64);
        let believed = self.read(|digest, _| {
            all += 1;
            kept += u64::from(is_kept(digest));
        })?;
        if all > 2 * kept {
            return self.write_anew(&added, is_kept);
        }
        if added.is_empty() {
            return Ok(());
        }
        let directory = self.path.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(directory).at(directory)?;
        let file = File::options().create(true).truncate(false).write(true).open(&self.path).at(&self.path)?;
        file.set_len(believed).at(&self.path)?;
        let mut file = BufWriter::new(file);
        file.seek(SeekFrom::Start(believed)).at(&self.path)?;
        if believed == 0 {
            file.write_all(MAGIC).at(&self.path)?;
        }
        file.write_all(&added).and_then(|()| file.flush()).at(&self.path)
    }

    fn write_anew(&self, added: &[u8], is_kept: impl Fn(Digest) -> bool) -> Result<(), StateError> {
        let directory = self.path.parent().unwrap_or(Path::new("."));
        let temporary = tempfile::NamedTempFile::new_in(directory).at(directory)?;
        let mut file = BufWriter::with_capacity(1 << 20, temporary);
        let mut written = file.write_all(MAGIC);
        self.read(|digest, fact| {
            if let (true, Some(record), Ok(())) = (is_kept(digest), record(digest, &fact), &written) {
                written = file.write_all(&record);
            }
        })?;
        written.and_then(|()| file.write_all(added)).at(&self.path)?;
        let temporary = file.into_inner().map_err(io::IntoInnerError::into_error).at(&self.path)?;
        temporary.persist(&self.path).map_err(|error| error.error).at(&self.path)?;
        Ok(())
    }
}

/// Kinds of records.
const LISTS: u8 = 0;
const LISTS_WITH_SUBJECT: u8 = 1;
const NO_MANIFEST: u8 = 2;

/// `None` for a manifest that lists anything but sha256 digests: what their names mean may change.
fn record(digest: Digest, fact: &Fact) -> Option<Vec<u8>> {
    let mut record = digest.as_bytes().to_vec();
    match fact {
        Ok(References { listed, subject }) => {
            record.extend(u32::try_from(listed.len()).ok()?.to_le_bytes());
            record.push(if subject.is_some() { LISTS_WITH_SUBJECT } else { LISTS });
            record.extend(subject.iter().flat_map(|subject| *subject.as_bytes()));
            for listed in listed {
                record.push(match listed.certainty {
                    None => 0,
                    Some(Certainty::Perhaps) => 1,
                    Some(Certainty::Manifest) => 2,
                });
                record.extend(listed.digest.parse::<Digest>().ok()?.as_bytes());
            }
        }
        Err(_) => record.extend([0, 0, 0, 0, NO_MANIFEST]),
    }
    record.extend(&Digest::of(&record).as_bytes()[..CHECKSUM]);
    Some(record)
}

/// The next record with its length; `None` at the end, or where the rest cannot be believed.
fn read_record(file: &mut impl Read) -> Option<(Digest, Fact, u64)> {
    let mut record = vec![0; 37];
    file.read_exact(&mut record).ok()?;
    let length = u32::from_le_bytes(record[32..36].try_into().ok()?);
    let kind = record[36];
    if length > MOST_LISTED || kind > NO_MANIFEST {
        return None;
    }
    let start = record.len();
    let items = start + if kind == LISTS_WITH_SUBJECT { 32 } else { 0 };
    record.resize(items + length as usize * 33 + CHECKSUM, 0);
    file.read_exact(&mut record[start..]).ok()?;
    let (content, checksum) = record.split_at(record.len() - CHECKSUM);
    if Digest::of(content).as_bytes()[..CHECKSUM] != *checksum {
        return None;
    }
    let digest = |bytes: &[u8]| Some(Digest::from_bytes(bytes.try_into().ok()?));
    let listed = content[items..].chunks_exact(33).map(|item| {
        let certainty = match item[0] {
            0 => None,
            1 => Some(Certainty::Perhaps),
            _ => Some(Certainty::Manifest),
        };
        Some(Listed { digest: digest(&item[1..])?.to_string(), certainty })
    });
    let listed: Option<Vec<Listed>> = listed.collect();
    let subject = if kind == LISTS_WITH_SUBJECT { digest(&content[start..items]) } else { None };
    let fact = if kind == NO_MANIFEST {
        Err("it is no manifest".to_owned())
    } else {
        Ok(References { listed: listed?, subject })
    };
    Some((digest(&content[..32])?, fact, record.len() as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn references(names: &[&str], subject: Option<&str>) -> References {
        let certainties = [None, Some(Certainty::Perhaps), Some(Certainty::Manifest)];
        let listed = names.iter().zip(certainties.iter().cycle());
        References {
            listed: listed
                .map(|(name, certainty)| Listed {
                    digest: Digest::of(name.as_bytes()).to_string(),
                    certainty: *certainty,
                })
                .collect(),
            subject: subject.map(|name| Digest::of(name.as_bytes())),
        }
    }

    fn read(file: &ReferencesFile) -> Vec<(Digest, Fact)> {
        let mut all = Vec::new();
        file.read(|digest, fact| all.push((digest, fact))).unwrap();
        all
    }

    #[test]
    fn what_is_read_is_what_was_noted_as_far_as_it_can_be_believed() {
        let directory = tempfile::tempdir().unwrap();
        let file = ReferencesFile::new(directory.path().join("state").join("references"));
        assert_eq!(read(&file), []);
        let records = [
            (Digest::of(b"1"), Ok(references(&["a", "b", "c"], None))),
            (Digest::of(b"2"), Ok(references(&[], Some("s")))),
            (Digest::of(b"3"), Err("it is no manifest".to_owned())),
        ];
        let aliased = References {
            listed: vec![Listed { digest: format!("sha512:{}", "0".repeat(128)), certainty: None }],
            subject: None,
        };
        records.iter().for_each(|(digest, fact)| file.note(*digest, fact));
        file.note(Digest::of(b"4"), &Ok(aliased));
        file.save(|_| true).unwrap();
        assert_eq!(read(&file), records, "a name of another algorithm is not kept");

        let bytes = std::fs::read(&file.path).unwrap();
        for length in 0..bytes.len() {
            std::fs::write(&file.path, &bytes[..length]).unwrap();
            assert!(records.starts_with(&read(&file)), "cut off at {length}");
        }
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            std::fs::write(&file.path, &damaged).unwrap();
            assert!(records.starts_with(&read(&file)), "damaged at {at}");
        }
    }

    #[test]
    fn what_is_added_follows_what_can_be_believed_and_what_is_gone_is_forgotten() {
        let directory = tempfile::tempdir().unwrap();
        let file = ReferencesFile::new(directory.path().join("references"));
        let names = ["1", "2", "3", "4"].map(|name| Digest::of(name.as_bytes()));
        file.note(names[0], &Ok(references(&["a"], None)));
        file.note(names[1], &Ok(references(&["b"], None)));
        file.save(|_| true).unwrap();
        let whole = std::fs::metadata(&file.path).unwrap().len();
        File::options().write(true).open(&file.path).unwrap().set_len(whole - 3).unwrap();
        file.note(names[2], &Ok(references(&["c"], None)));
        file.save(|_| true).unwrap();
        assert_eq!(
            read(&file).into_iter().map(|(digest, _)| digest).collect::<Vec<_>>(),
            [names[0], names[2]]
        );

        file.note(names[3], &Ok(references(&["d"], None)));
        file.save(|_| false).unwrap();
        assert_eq!(read(&file).into_iter().map(|(digest, _)| digest).collect::<Vec<_>>(), [names[3]]);
    }
}
