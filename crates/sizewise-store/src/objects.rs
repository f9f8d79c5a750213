//! How are the parts of releases kept?
//!
//! Each as a file named by the SHA-256 of its bytes. A file is written aside, synced and renamed, so a name never holds
//! half of its bytes; two tasks with the same encoder keep it once; and what is read is compared with its name.

use crate::{
    error::{Error, Result},
    ids,
};
use sizewise_contract::{ContentHash, limits};
use std::{
    fs::{self, File},
    io::{Read, Write},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

/// A part that was written aside and never renamed is litter after so long.
const LITTER_AGE: Duration = Duration::from_secs(3_600);

/// Bytes by their hash.
#[derive(Debug, Clone)]
pub(crate) struct Objects {
    folder: PathBuf,
}

impl Objects {
    pub(crate) fn open(folder: &Path) -> Result<Self> {
        let aside = folder.join("aside");
        fs::create_dir_all(&aside).map_err(|cause| Error::file(&aside, cause))?;
        for entry in fs::read_dir(&aside).map_err(|cause| Error::file(&aside, cause))?.flatten() {
            let age = entry.metadata().and_then(|facts| facts.modified()).map(|at| at.elapsed());
            if matches!(age, Ok(Ok(age)) if age > LITTER_AGE) {
                // Whoever else sweeps it away does the same.
                let _ = fs::remove_file(entry.path());
            }
        }
        Ok(Self { folder: folder.to_owned() })
    }

    fn path(&self, hash: &ContentHash) -> PathBuf {
        let digits = hash.to_string();
        let (first, rest) = digits.split_at(2);
        self.folder.join(first).join(rest)
    }

    /// Keeps bytes and returns their name; they are on disk when this returns.
    pub(crate) fn put(&self, bytes: &[u8]) -> Result<ContentHash> {
        let hash = ContentHash::of(bytes);
        let path = self.path(&hash);
        if self.get(&hash).is_ok() {
            // Counts as new again, so that nobody removes it before it is used.
            let touched = File::options()
                .append(true)
                .open(&path)
                .and_then(|file| file.set_modified(SystemTime::now()));
            return touched.map(|()| hash).map_err(|cause| Error::file(&path, cause));
        }
        let aside = self.folder.join("aside").join(ids::new_id("part_")?);
        let folder = path.parent().ok_or(Error::Internal("an object has a folder"))?;
        let written = fs::create_dir_all(folder)
            .and_then(|()| File::create_new(&aside))
            .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
            .and_then(|()| fs::rename(&aside, &path))
            .and_then(|()| sync_folder(folder))
            .and_then(|()| sync_folder(&self.folder));
        written.map_err(|cause| Error::file(&path, cause))?;
        Ok(hash)
    }

    /// Removes an object that has not been put for an hour, and returns its size; 0 where it is younger or not there.
    pub(crate) fn remove_old(&self, hash: &ContentHash) -> Result<u64> {
        let path = self.path(hash);
        let Ok(facts) = fs::metadata(&path) else { return Ok(0) };
        let age = facts.modified().map(|at| at.elapsed());
        if !matches!(age, Ok(Ok(age)) if age > LITTER_AGE) {
            return Ok(0);
        }
        fs::remove_file(&path).map(|()| facts.len()).map_err(|cause| Error::file(&path, cause))
    }

    /// Makes objects look old.
    #[cfg(test)]
    pub(crate) fn age(&self, files: &[crate::ModelFile]) -> std::io::Result<()> {
        let then = SystemTime::now() - 2 * LITTER_AGE;
        files
            .iter()
            .try_for_each(|file| File::options().append(true).open(self.path(&file.hash))?.set_modified(then))
    }

    /// The bytes of a name.
    pub(crate) fn get(&self, hash: &ContentHash) -> Result<Vec<u8>> {
        let damaged = |problem: String| Error::Object { hash: *hash, problem };
        let path = self.path(hash);
        let file = File::open(&path).map_err(|error| damaged(format!("{}: {error}", path.display())))?;
        let size = file.metadata().map_err(|cause| Error::file(&path, cause))?.len();
        if size > limits::MODEL_FILE_BYTES {
            return Err(damaged(format!("{} has {size} bytes", path.display())));
        }
        let mut bytes = Vec::with_capacity(size as usize);
        file.take(limits::MODEL_FILE_BYTES)
            .read_to_end(&mut bytes)
            .map_err(|cause| Error::file(&path, cause))?;
        if ContentHash::of(&bytes) != *hash {
            return Err(damaged(format!("{} does not have the bytes it is named after", path.display())));
        }
        Ok(bytes)
    }
}

/// Makes a rename in a folder last.
#[cfg(unix)]
fn sync_folder(folder: &Path) -> std::io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Folders cannot be synced here; renames are journalled by the file system.
#[cfg(not(unix))]
fn sync_folder(_folder: &Path) -> std::io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damaged_bytes_are_noticed_and_mended_by_putting_them_again() {
        let folder = tempfile::tempdir().unwrap();
        let objects = Objects::open(folder.path()).unwrap();
        let hash = objects.put(b"weights").unwrap();
        assert_eq!(objects.get(&hash).unwrap(), b"weights");
        for damage in [&b"weight"[..], b"Weights", b""] {
            fs::write(objects.path(&hash), damage).unwrap();
            assert!(matches!(objects.get(&hash), Err(Error::Object { .. })));
        }
        assert_eq!(objects.put(b"weights").unwrap(), hash);
        assert_eq!(objects.get(&hash).unwrap(), b"weights");
        assert_eq!(fs::read_dir(folder.path().join("aside")).unwrap().count(), 0);
    }
}
