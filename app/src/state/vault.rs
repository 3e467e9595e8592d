//! The manifests that runs have deleted, by digest: what `undo` puts back.

use std::collections::BTreeSet;
use std::path::PathBuf;

use clean_registry_core::manifest::content_digest;
use clean_registry_core::name::{Digest, MediaType};

use super::{At as _, StateError, write_whole};

/// A directory of manifests by digest, each with its media type in a first line of its own.
#[derive(Debug, Clone)]
pub struct Vault {
    root: PathBuf,
}

impl Vault {
    pub(super) const fn new(root: PathBuf) -> Self {
        Self { root }
    }

    /// Keeps a manifest, durably. One that is there already is left as it is.
    ///
    /// # Errors
    /// When it cannot be written: then it must not be deleted.
    pub fn put(&self, digest: Digest, media_type: &MediaType, bytes: &[u8]) -> Result<(), StateError> {
        if self.get(digest).is_ok() {
            return Ok(());
        }
        let mut file = format!("{media_type}\n").into_bytes();
        file.extend_from_slice(bytes);
        write_whole(&self.root.join(digest.hex()), &file)
    }

    /// Keeps only these.
    ///
    /// # Errors
    /// When one of the others cannot be removed.
    pub fn retain(&self, needed: &BTreeSet<Digest>) -> Result<(), StateError> {
        for entry in std::fs::read_dir(&self.root).at(&self.root)? {
            let path = entry.at(&self.root)?.path();
            let digest = path.file_name().and_then(|name| Digest::from_hex(name.to_str()?));
            if digest.is_some_and(|digest| !needed.contains(&digest)) {
                std::fs::remove_file(&path).at(&path)?;
            }
        }
        Ok(())
    }

    /// A manifest that was kept, with its media type.
    ///
    /// # Errors
    /// When it is not there, or its bytes no longer are what their digest says.
    pub fn get(&self, digest: Digest) -> Result<(MediaType, Vec<u8>), StateError> {
        let path = self.root.join(digest.hex());
        let mut file = match std::fs::read(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(StateError::NotInVault(digest));
            }
            other => other.at(&path)?,
        };
        let altered = || StateError::NotInVault(digest);
        let end = file.iter().position(|byte| *byte == b'\n').ok_or_else(altered)?;
        let bytes = file.split_off(end + 1);
        let media_type = MediaType::new(std::str::from_utf8(&file).map_err(|_| altered())?.trim_end());
        if content_digest(&media_type, &bytes) == digest { Ok((media_type, bytes)) } else { Err(altered()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_out_is_what_went_in_or_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let vault = Vault::new(directory.path().join("vault"));
        let media_type = MediaType::new(MediaType::OCI_MANIFEST);
        let bytes = b"{\n}";
        let digest = Digest::of(bytes);
        assert!(matches!(vault.get(digest), Err(StateError::NotInVault(_))));
        vault.put(digest, &media_type, bytes).unwrap();
        assert_eq!(vault.get(digest).unwrap(), (media_type.clone(), bytes.to_vec()));

        let path = directory.path().join("vault").join(digest.hex());
        std::fs::write(&path, b"application/json\n{").unwrap();
        assert!(matches!(vault.get(digest), Err(StateError::NotInVault(_))));
        vault.put(digest, &media_type, bytes).unwrap();
        assert!(vault.get(digest).is_ok(), "a damaged copy is written anew");
    }
}
