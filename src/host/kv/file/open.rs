//! How the KV file is found, made and verified, and what is said where it cannot be used.

use std::ffi::OsString;
use std::fmt::Display;
use std::fs::{File, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use redb::backends::FileBackend;
use redb::{Builder, Database, DatabaseError, ReadableDatabase, StorageError, TableHandle};

use super::VALUES;
use crate::error::{Error, Kind, Result, clean};

/// Bytes of the file that are kept in memory; redb's own default is a gigabyte.
const CACHE: usize = 8 << 20;

/// Opens the file of this absolute path, or makes it where there is none.
pub(super) fn open(path: &Path) -> Result<Database> {
    match std::fs::metadata(path) {
        Ok(_) => existing(path),
        Err(e) if e.kind() == io::ErrorKind::NotFound => create(path),
        Err(e) => Err(unusable(path, &e)),
    }
}

/// Opens a file that must be there and verifies all of it. It is never begun anew.
pub(super) fn existing(path: &Path) -> Result<Database> {
    let metadata = std::fs::metadata(path).map_err(|e| unusable(path, &e))?;
    if !metadata.is_file() {
        return Err(unusable(path, &"it is not a file"));
    }
    let opened = catch_unwind(AssertUnwindSafe(|| builder().open(path)));
    let database = opened.unwrap_or_else(|_| Err(StorageError::Corrupted("it cannot be understood".to_owned()).into()));
    let database = database.map_err(|e| explained(path, &e))?;
    let tables = || -> Result<bool, redb::Error> { Ok(database.begin_read()?.list_tables()?.any(|table| table.name() == VALUES.name())) };
    match tables() {
        Ok(true) => Ok(database),
        Ok(false) => Err(damaged(path, &"it is the database of another program")),
        Err(e) => Err(damaged(path, &e)),
    }
}

/// Makes the file beside its place and puts it there when it is whole: a host that is killed in between leaves nothing that
/// is neither empty nor a database.
fn create(path: &Path) -> Result<Database> {
    let mut name = path.as_os_str().to_owned();
    name.push(OsString::from(".new"));
    let new = PathBuf::from(name);
    let file = lock(path, &new)?;
    if path.symlink_metadata().is_ok() {
        drop(file);
        return existing(path);
    }
    let io = |e: io::Error| unusable(path, &e);
    file.set_len(0).map_err(io)?;
    let made = FileBackend::new(file.try_clone().map_err(io)?).and_then(|backend| builder().create_with_backend(backend));
    let database = made.map_err(|e| explained(path, &e))?;
    let begin = || -> Result<(), redb::Error> {
        let mut transaction = database.begin_write()?;
        transaction.set_two_phase_commit(true);
        transaction.open_table(VALUES)?;
        Ok(transaction.commit()?)
    };
    begin().map_err(|e| unusable(path, &e))?;
    // A link, because a rename would replace what came there meanwhile.
    std::fs::hard_link(&new, path).map_err(io)?;
    std::fs::remove_file(&new).map_err(io)?;
    let folder = path.parent().unwrap_or(Path::new("/"));
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(io)?;
    Ok(database)
}

/// The file that is being made, locked: what a killed host left of one is made anew by the next.
fn lock(path: &Path, new: &Path) -> Result<File> {
    let io = |e: io::Error| unusable(path, &e);
    loop {
        let file = File::options().read(true).write(true).create(true).truncate(false).mode(0o600).open(new).map_err(io)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(in_use(path)),
            Err(TryLockError::Error(e)) => return Err(io(e)),
        }
        let own = file.metadata().map_err(io)?;
        // Else it is another's by now: it was put into its place between the opening and the locking.
        if std::fs::symlink_metadata(new).is_ok_and(|there| (there.dev(), there.ino()) == (own.dev(), own.ino())) {
            return Ok(file);
        }
    }
}

fn builder() -> Builder {
    let mut builder = Builder::new();
    builder.set_cache_size(CACHE).set_check_integrity_on_open(true);
    builder
}

fn explained(path: &Path, error: &DatabaseError) -> Error {
    match error {
        DatabaseError::DatabaseAlreadyOpen | DatabaseError::LockProtocolMismatch => in_use(path),
        DatabaseError::Storage(StorageError::Io(e)) if !matches!(e.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof) => {
            unusable(path, e)
        }
        other => damaged(path, other),
    }
}

fn in_use(path: &Path) -> Error {
    let shown = clean(&path.to_string_lossy(), 200);
    Error::new(Kind::Io, format!("The KV file {shown:?} is in use by another host, of this process or of another. Give each its own."))
}

/// The system does not let us have it.
pub(super) fn unusable(path: &Path, why: &dyn Display) -> Error {
    let shown = clean(&path.to_string_lossy(), 200);
    Error::new(Kind::Io, format!("The KV file {shown:?} cannot be used: {why}. Its folder must be there and writable."))
}

/// It is there, and is not what it should be.
pub(super) fn damaged(path: &Path, why: &dyn Display) -> Error {
    let shown = clean(&path.to_string_lossy(), 200);
    Error::new(
        Kind::Io,
        format!("The KV file {shown:?} is damaged, or no KV file of flowplug: {why}. It was left as it is; move it away to begin anew."),
    )
}
