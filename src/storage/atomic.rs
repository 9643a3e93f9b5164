//! Writing a file whole or not at all.
//!
//! The bytes go into a temporary file in the folder of the destination. When they are complete,
//! the file is synced, renamed over the destination, and the folder is synced. Up to the rename the
//! destination is untouched. A temporary file is called `.NAME.nonius-tmp-PID-TIME`, NAME being the
//! destination's name, and its writer holds a lock on it, which the system drops when the writer
//! dies. So a file of that pattern without a lock is left over from a writer that was killed, and
//! the next writer of the same destination removes it. Process ids would not do: they mean nothing
//! in another container or on another machine that shares the folder.

use std::ffi::{OsStr, OsString};
use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::error::WriteError;

/// Between the destination's name and the number of a temporary file.
const MARK: &str = ".nonius-tmp-";
/// Names longer than this, in bytes, are replaced by their checksum in the names of temporary
/// files, which would be too long for the file system otherwise.
const LONGEST_NAME: usize = 180;
/// Where the file system has no locks, a temporary file that nobody has written to for so long
/// is taken for left over.
const ABANDONED_AFTER: Duration = Duration::from_secs(24 * 60 * 60);
/// The bytes of one write, so that an error is noticed before gigabytes have been handed over.
const WRITE_CHUNK: usize = 8 << 20;

/// An open temporary file, as far as writing needs it.
pub(crate) trait LayerFile: Send + Sync {
    /// Sets the length; new bytes are zero.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Writes some of the bytes at an offset and gives their number.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize>;
    /// Reads some bytes at an offset and gives their number, 0 at the end.
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Makes contents and length durable.
    fn sync(&self) -> io::Result<()>;
}

/// The operations on files that writing needs, so that tests can make each of them fail.
pub(crate) trait FileLayer: Send + Sync {
    /// Creates a file that must not exist yet, opens it for reading and writing, and locks it.
    fn create(&self, path: &Path) -> io::Result<Box<dyn LayerFile>>;
    /// Renames a file over another.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Makes the names in a folder durable.
    fn sync_folder(&self, folder: &Path) -> io::Result<()>;
    /// The names in a folder.
    fn names(&self, folder: &Path) -> io::Result<Vec<OsString>>;
    /// Removes a temporary file if its writer is gone, and tells whether it has.
    fn remove_abandoned(&self, path: &Path) -> io::Result<bool>;
}

/// The operating system's files.
pub(crate) struct OsLayer;

impl FileLayer for OsLayer {
    fn create(&self, path: &Path) -> io::Result<Box<dyn LayerFile>> {
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(path)?;
        let taken = match file.try_lock() {
            // Between the creation and the lock, another writer may have taken the file for left
            // over. From here on it cannot.
            Ok(()) => !path.try_exists()?,
            Err(TryLockError::WouldBlock) => true,
            // The file system has no locks; see `remove_abandoned`.
            Err(TryLockError::Error(_)) => false,
        };
        if taken {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        Ok(Box::new(file))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    #[cfg(unix)]
    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        let folder = match File::open(folder) {
            Ok(folder) => folder,
            // A folder may allow new files in it but not to be read, and then cannot be synced.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Ok(()),
            Err(error) => return Err(error),
        };
        match folder.sync_all() {
            // What file systems answer that have nothing to sync.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported
                ) =>
            {
                Ok(())
            }
            result => result,
        }
    }

    #[cfg(not(unix))]
    fn sync_folder(&self, _folder: &Path) -> io::Result<()> {
        Ok(())
    }

    fn names(&self, folder: &Path) -> io::Result<Vec<OsString>> {
        std::fs::read_dir(folder)?.map(|entry| Ok(entry?.file_name())).collect()
    }

    fn remove_abandoned(&self, path: &Path) -> io::Result<bool> {
        if !std::fs::symlink_metadata(path)?.is_file() {
            return Ok(false);
        }
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        let abandoned = match file.try_lock() {
            Ok(()) => true,
            Err(TryLockError::WouldBlock) => false,
            Err(TryLockError::Error(_)) => {
                let modified = file.metadata()?.modified()?;
                modified.elapsed().is_ok_and(|age| age > ABANDONED_AFTER)
            }
        };
        if abandoned {
            std::fs::remove_file(path)?;
        }
        Ok(abandoned)
    }
}

impl LayerFile for File {
    fn set_len(&self, len: u64) -> io::Result<()> {
        File::set_len(self, len)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        #[cfg(unix)]
        return std::os::unix::fs::FileExt::write_at(self, bytes, offset);
        #[cfg(windows)]
        return std::os::windows::fs::FileExt::seek_write(self, bytes, offset);
        #[cfg(not(any(unix, windows)))]
        {
            let _ = (bytes, offset);
            Err(io::ErrorKind::Unsupported.into())
        }
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        #[cfg(unix)]
        return std::os::unix::fs::FileExt::read_at(self, bytes, offset);
        #[cfg(windows)]
        return std::os::windows::fs::FileExt::seek_read(self, bytes, offset);
        #[cfg(not(any(unix, windows)))]
        {
            let _ = (bytes, offset);
            Err(io::ErrorKind::Unsupported.into())
        }
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_all()
    }
}

/// A temporary file that will take the place of its destination. Dropped without
/// [`Temporary::commit`], it is removed.
pub(crate) struct Temporary {
    layer: Arc<dyn FileLayer>,
    /// `None` only while it is dropped.
    file: Option<Box<dyn LayerFile>>,
    path: PathBuf,
    destination: PathBuf,
    committed: bool,
}

impl Temporary {
    /// Creates a temporary file of `len` zero bytes beside `destination`, and removes those that
    /// killed writers of the same destination have left.
    ///
    /// # Errors
    ///
    /// [`WriteError`] if the destination names no file or is a folder, or the system refuses.
    pub(crate) fn create(
        layer: Arc<dyn FileLayer>,
        destination: &Path,
        len: u64,
    ) -> Result<Temporary, WriteError> {
        let fail = |source| WriteError::new(destination, "creating a temporary file", source);
        let stem = stem(destination).map_err(fail)?;
        if destination.is_dir() {
            return Err(fail(io::Error::new(io::ErrorKind::IsADirectory, "this is a folder")));
        }
        remove_abandoned(&*layer, destination, &stem);

        let (path, file) = create_unique(&*layer, folder(destination), &stem).map_err(fail)?;
        let temporary = Temporary {
            layer,
            file: Some(file),
            path,
            destination: destination.to_owned(),
            committed: false,
        };
        temporary.file().set_len(len).map_err(fail)?;
        Ok(temporary)
    }

    fn file(&self) -> &dyn LayerFile {
        self.file.as_deref().expect("taken only by drop")
    }

    /// The file that is going to be replaced.
    pub(crate) fn destination(&self) -> &Path {
        &self.destination
    }

    /// Writes all the bytes at an offset. Several threads may write different parts at once.
    ///
    /// # Errors
    ///
    /// [`WriteError`] if the system refuses.
    pub(crate) fn write_all_at(&self, bytes: &[u8], offset: u64) -> Result<(), WriteError> {
        let fail = |source| WriteError::new(&self.destination, "writing", source);
        let (mut rest, mut offset) = (bytes, offset);
        while !rest.is_empty() {
            match self.file().write_at(&rest[..rest.len().min(WRITE_CHUNK)], offset) {
                Ok(0) => return Err(fail(io::ErrorKind::WriteZero.into())),
                Ok(written) => {
                    rest = &rest[written..];
                    offset += written as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(fail(error)),
            }
        }
        Ok(())
    }

    /// Fills `bytes` from an offset on.
    ///
    /// # Errors
    ///
    /// [`WriteError`] if the system refuses or the file ends too early.
    pub(crate) fn read_exact_at(&self, bytes: &mut [u8], offset: u64) -> Result<(), WriteError> {
        let fail = |source| WriteError::new(&self.destination, "reading back", source);
        let (mut rest, mut offset) = (bytes, offset);
        while !rest.is_empty() {
            match self.file().read_at(rest, offset) {
                Ok(0) => return Err(fail(io::ErrorKind::UnexpectedEof.into())),
                Ok(read) => {
                    rest = &mut rest[read..];
                    offset += read as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(fail(error)),
            }
        }
        Ok(())
    }

    /// Makes the bytes durable and puts the file in the place of the destination.
    ///
    /// # Errors
    ///
    /// [`WriteError`]. The destination is as it was, except if the action is
    /// `syncing the folder`: then it is the new file.
    pub(crate) fn commit(mut self) -> Result<(), WriteError> {
        let fail = |action| {
            let destination = self.destination.clone();
            move |source| WriteError::new(destination, action, source)
        };
        self.file().sync().map_err(fail("syncing"))?;
        self.layer
            .rename(&self.path, &self.destination)
            .map_err(fail("renaming the temporary file"))?;
        let synced =
            self.layer.sync_folder(folder(&self.destination)).map_err(fail("syncing the folder"));
        self.committed = true;
        synced
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // Closed first: not every system removes open files.
        drop(self.file.take());
        if !self.committed {
            // The next writer tries again.
            let _ = self.layer.remove(&self.path);
        }
    }
}

/// Writes `bytes` to `path`: whole, or not at all.
///
/// # Errors
///
/// [`WriteError`].
pub(crate) fn save_bytes(path: &Path, bytes: &[u8]) -> Result<(), WriteError> {
    save_bytes_in(Arc::new(OsLayer), path, bytes)
}

/// [`save_bytes`] through a given layer.
pub(crate) fn save_bytes_in(
    layer: Arc<dyn FileLayer>,
    path: &Path,
    bytes: &[u8],
) -> Result<(), WriteError> {
    let temporary = Temporary::create(layer, path, bytes.len() as u64)?;
    temporary.write_all_at(bytes, 0)?;
    temporary.commit()
}

/// Removes the temporary files that killed writers of `destination` have left, and gives their
/// number. Writers do so themselves before they write. Files that cannot be removed are left.
#[cfg(test)]
pub(crate) fn clean_temporaries(destination: &Path) -> usize {
    match stem(destination) {
        Ok(stem) => remove_abandoned(&OsLayer, destination, &stem),
        Err(_) => 0,
    }
}

fn remove_abandoned(layer: &dyn FileLayer, destination: &Path, stem: &OsStr) -> usize {
    let folder = folder(destination);
    // A folder that cannot be listed can still be written to.
    let Ok(names) = layer.names(folder) else { return 0 };
    names
        .into_iter()
        .filter(|name| is_temporary(name, stem))
        .filter(|name| layer.remove_abandoned(&folder.join(name)).unwrap_or(false))
        .count()
}

/// The folder of a file.
fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// What the names of all temporary files of a destination start with.
fn stem(destination: &Path) -> io::Result<OsString> {
    let Some(name) = destination.file_name() else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the path names no file"));
    };
    let mut stem = OsString::from(".");
    if name.len() <= LONGEST_NAME {
        stem.push(name);
    } else {
        stem.push(format!("{:08x}", crc32c::crc32c(name.as_encoded_bytes())));
    }
    stem.push(MARK);
    Ok(stem)
}

/// True for the name of a temporary file with the given stem.
fn is_temporary(name: &OsStr, stem: &OsStr) -> bool {
    let Some(number) = name.as_encoded_bytes().strip_prefix(stem.as_encoded_bytes()) else {
        return false;
    };
    let mut parts = number.splitn(2, |&byte| byte == b'-');
    let is = |part: Option<&[u8]>, digit: fn(&u8) -> bool| {
        part.is_some_and(|part| !part.is_empty() && part.iter().all(digit))
    };
    is(parts.next(), u8::is_ascii_digit) && is(parts.next(), u8::is_ascii_hexdigit)
}

/// Creates a temporary file under a name that nobody uses.
fn create_unique(
    layer: &dyn FileLayer,
    folder: &Path,
    stem: &OsStr,
) -> io::Result<(PathBuf, Box<dyn LayerFile>)> {
    const ATTEMPTS: usize = 100;
    let mut result = Err(io::ErrorKind::AlreadyExists.into());
    for attempt in 0..ATTEMPTS {
        // The time keeps a process from meeting the name that another of the same id has left.
        let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        let mut name = stem.to_owned();
        name.push(format!("{}-{:x}", std::process::id(), time + attempt as u128));
        let path = folder.join(name);
        match layer.create(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => result = Err(error),
            other => {
                result = other.map(|file| (path, file));
                break;
            }
        }
    }
    result
}

/// A layer that fails on demand.
#[cfg(test)]
pub(crate) mod testing {
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

    use super::*;

    /// How an operation fails.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) enum Fault {
        /// The disk is full.
        NoSpace,
        /// The disk is broken.
        Io,
        /// A write that takes no bytes. Only writes are counted.
        WriteZero,
        /// No failure: every read and write handles a few bytes, and every other one is
        /// interrupted.
        Short,
    }

    struct Plan {
        nth: u64,
        fault: Fault,
        seen: AtomicU64,
        failed: Mutex<Option<&'static str>>,
        interrupted: AtomicBool,
    }

    impl Plan {
        fn step(&self, operation: &'static str) -> io::Result<()> {
            let kind = match self.fault {
                Fault::NoSpace => io::ErrorKind::StorageFull,
                Fault::Io => io::ErrorKind::Other,
                Fault::WriteZero | Fault::Short => return Ok(()),
            };
            if self.due(operation) { Err(kind.into()) } else { Ok(()) }
        }

        fn due(&self, operation: &'static str) -> bool {
            let due = self.seen.fetch_add(1, Ordering::Relaxed) == self.nth;
            if due {
                *self.failed.lock().unwrap() = Some(operation);
            }
            due
        }

        fn interrupt(&self) -> io::Result<()> {
            if self.fault == Fault::Short && !self.interrupted.fetch_xor(true, Ordering::Relaxed) {
                return Err(io::ErrorKind::Interrupted.into());
            }
            Ok(())
        }

        fn limit(&self, len: usize) -> usize {
            if self.fault == Fault::Short { len.min(7) } else { len }
        }
    }

    /// The operating system's files, of whose operations one fails.
    pub(crate) struct FaultyLayer(Arc<Plan>);

    impl FaultyLayer {
        /// Lets the operation `nth`, counted from 0, fail.
        pub(crate) fn new(nth: u64, fault: Fault) -> FaultyLayer {
            FaultyLayer(Arc::new(Plan {
                nth,
                fault,
                seen: AtomicU64::new(0),
                failed: Mutex::new(None),
                interrupted: AtomicBool::new(false),
            }))
        }

        /// The operation that has failed.
        pub(crate) fn failed(&self) -> Option<&'static str> {
            *self.0.failed.lock().unwrap()
        }
    }

    impl FileLayer for FaultyLayer {
        fn create(&self, path: &Path) -> io::Result<Box<dyn LayerFile>> {
            self.0.step("create")?;
            Ok(Box::new(FaultyFile(OsLayer.create(path)?, self.0.clone())))
        }

        fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
            self.0.step("rename")?;
            OsLayer.rename(from, to)
        }

        fn remove(&self, path: &Path) -> io::Result<()> {
            OsLayer.remove(path)
        }

        fn sync_folder(&self, folder: &Path) -> io::Result<()> {
            self.0.step("sync_folder")?;
            OsLayer.sync_folder(folder)
        }

        fn names(&self, folder: &Path) -> io::Result<Vec<OsString>> {
            OsLayer.names(folder)
        }

        fn remove_abandoned(&self, path: &Path) -> io::Result<bool> {
            OsLayer.remove_abandoned(path)
        }
    }

    struct FaultyFile(Box<dyn LayerFile>, Arc<Plan>);

    impl LayerFile for FaultyFile {
        fn set_len(&self, len: u64) -> io::Result<()> {
            self.1.step("set_len")?;
            self.0.set_len(len)
        }

        fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
            self.1.step("write_at")?;
            self.1.interrupt()?;
            if self.1.fault == Fault::WriteZero && self.1.due("write_at") {
                return Ok(0);
            }
            self.0.write_at(&bytes[..self.1.limit(bytes.len())], offset)
        }

        fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
            self.1.step("read_at")?;
            self.1.interrupt()?;
            let limit = self.1.limit(bytes.len());
            self.0.read_at(&mut bytes[..limit], offset)
        }

        fn sync(&self) -> io::Result<()> {
            self.1.step("sync")?;
            self.0.sync()
        }
    }

    /// The names in a folder, sorted.
    pub(crate) fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> = OsLayer
            .names(folder)
            .unwrap()
            .into_iter()
            .map(|name| name.into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

#[cfg(test)]
mod tests {
    use super::testing::names;
    use super::*;

    #[test]
    fn saves_and_replaces() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.nonius");
        for content in [&b"first"[..], b"", b"second"] {
            save_bytes(&path, content).unwrap();
            assert_eq!(std::fs::read(&path).unwrap(), content);
            assert_eq!(names(folder.path()), ["a.nonius"]);
        }
    }

    #[test]
    fn long_names_do() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("n".repeat(255));
        save_bytes(&path, b"bytes").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"bytes");
        assert_eq!(names(folder.path()).len(), 1);
    }

    #[test]
    fn a_path_without_a_folder_is_in_the_current_one() {
        assert_eq!(folder(Path::new("a.nonius")), Path::new("."));
        assert_eq!(folder(Path::new("b/a.nonius")), Path::new("b"));
        assert_eq!(folder(Path::new("/a.nonius")), Path::new("/"));
    }

    #[test]
    fn no_file_is_made_of_a_folder() {
        let folder = tempfile::tempdir().unwrap();
        for path in [folder.path(), &folder.path().join(".."), Path::new(""), Path::new("/")] {
            assert!(save_bytes(path, b"bytes").is_err(), "{}", path.display());
        }
        let error = save_bytes(&folder.path().join("none/a.nonius"), b"bytes").unwrap_err();
        assert_eq!(error.source.kind(), io::ErrorKind::NotFound);
        assert!(names(folder.path()).is_empty());
    }

    #[test]
    fn only_the_pattern_is_a_temporary() {
        let stem = stem(Path::new("folder/a.nonius")).unwrap();
        let is = |name: &str| is_temporary(OsStr::new(name), &stem);
        assert!(is(".a.nonius.nonius-tmp-12-3fa"));
        for name in [
            "a.nonius",
            ".a.nonius.nonius-tmp-",
            ".a.nonius.nonius-tmp-12",
            ".a.nonius.nonius-tmp-12-",
            ".a.nonius.nonius-tmp--3fa",
            ".a.nonius.nonius-tmp-12-3fa.bak",
            ".a.nonius.nonius-tmp-12-3-4",
            ".b.nonius.nonius-tmp-12-3fa",
        ] {
            assert!(!is(name), "{name}");
        }
    }

    #[test]
    fn the_left_over_are_removed_and_the_living_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.nonius");
        let left_over = ".a.nonius.nonius-tmp-1-abc";
        // Of another destination, of no destination, and no file.
        let others = [".b.nonius.nonius-tmp-1-abc", ".a.nonius.nonius-tmp-notes"];
        for name in [left_over].iter().chain(&others) {
            std::fs::write(folder.path().join(name), b"half").unwrap();
        }
        std::fs::create_dir(folder.path().join(".a.nonius.nonius-tmp-1-def")).unwrap();

        let living = Temporary::create(Arc::new(OsLayer), &path, 10).unwrap();
        assert!(!folder.path().join(left_over).exists());
        // A second writer of the same file, in the same process.
        save_bytes(&path, b"second").unwrap();
        assert_eq!(clean_temporaries(&path), 0);
        living.write_all_at(b"first", 5).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"second");
        living.commit().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"\0\0\0\0\0first");
        assert_eq!(
            names(folder.path()),
            [
                ".a.nonius.nonius-tmp-1-def",
                ".a.nonius.nonius-tmp-notes",
                ".b.nonius.nonius-tmp-1-abc",
                "a.nonius"
            ]
        );
    }

    const KILLED: &str = "NONIUS_TEST_KILLED_WRITER";

    /// The other half of `a_killed_writer_leaves_the_old_file`; alone it does nothing.
    #[test]
    fn killed_writer() {
        if let Some(path) = std::env::var_os(KILLED) {
            let temporary = Temporary::create(Arc::new(OsLayer), Path::new(&path), 100).unwrap();
            temporary.write_all_at(b"half", 0).unwrap();
            // Ends the process without running destructors, as a kill does.
            std::process::abort();
        }
    }

    #[test]
    fn a_killed_writer_leaves_the_old_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.nonius");
        save_bytes(&path, b"old").unwrap();
        let status = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "storage::atomic::tests::killed_writer", "--nocapture"])
            .env(KILLED, &path)
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .status()
            .unwrap();
        assert!(!status.success());
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
        assert_eq!(names(folder.path()).len(), 2, "the child has left its temporary file");
        assert_eq!(clean_temporaries(&path), 1);
        assert_eq!(names(folder.path()), ["a.nonius"]);
    }
}
