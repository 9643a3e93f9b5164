//! Files that appear under their name only when they are complete.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::DatasetError;

/// A buffered writer to a temporary file beside its destination. Dropped unfinished, it leaves
/// nothing behind.
pub(crate) struct AtomicFile {
    path: PathBuf,
    temporary: PathBuf,
    /// `None` once finished.
    writer: Option<BufWriter<File>>,
}

impl AtomicFile {
    pub(crate) fn create(path: &Path) -> Result<AtomicFile, DatasetError> {
        // Writers in one process and in several must not meet in a temporary file.
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let Some(name) = path.file_name() else {
            return Err(DatasetError::io(path)(io::ErrorKind::InvalidInput.into()));
        };
        let mut hidden = OsString::from(".");
        hidden.push(name);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        hidden.push(format!(".{}-{number}.partial", std::process::id()));
        let temporary = path.with_file_name(hidden);
        let file = File::create_new(&temporary).map_err(DatasetError::io(path))?;
        let writer = BufWriter::with_capacity(1 << 18, file);
        Ok(AtomicFile { path: path.to_owned(), temporary, writer: Some(writer) })
    }

    /// Writes `bytes` at the start of the file, over what is there. Ends the sequence of writes.
    pub(crate) fn overwrite_start(&mut self, bytes: &[u8]) -> io::Result<()> {
        let writer = self.writer()?;
        writer.seek(SeekFrom::Start(0))?;
        writer.write_all(bytes)
    }

    /// Makes the file durable and gives it its name.
    pub(crate) fn finish(mut self) -> Result<(), DatasetError> {
        let mut finish = || {
            self.writer()?.flush()?;
            self.writer()?.get_ref().sync_all()?;
            fs::rename(&self.temporary, &self.path)
        };
        finish().map_err(DatasetError::io(&self.path))?;
        self.writer = None;
        Ok(())
    }

    fn writer(&mut self) -> io::Result<&mut BufWriter<File>> {
        self.writer.as_mut().ok_or_else(|| io::Error::other("the file is finished"))
    }
}

impl Write for AtomicFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.writer()?.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer()?.flush()
    }
}

impl Drop for AtomicFile {
    fn drop(&mut self) {
        if let Some(writer) = self.writer.take() {
            // The buffer's bytes are not wanted any more.
            let (file, _) = writer.into_parts();
            drop(file);
            // Nothing can be done about a temporary file that does not go away.
            let _ = fs::remove_file(&self.temporary);
        }
    }
}
