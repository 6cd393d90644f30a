//! The program of a plugin: where it is, and whether it is the one that was meant.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::call::Call;
use crate::error::{Error, Kind, Result};
use crate::manifest::GrpcConfig;
use crate::sys;
use crate::sys::process::Refusal;

/// A file to run.
#[derive(Debug)]
pub(super) struct Program {
    /// Absolute.
    pub(super) path: PathBuf,
    /// The file whose digest was checked, open: it is run, and not what its path leads to by then.
    pub(super) pinned: Option<File>,
}

/// The file to run, its digest checked where the manifest has one, within the call's time.
pub(super) fn find(config: &GrpcConfig, base_dir: &Path, call: &Call) -> Result<Program> {
    let path = locate(&config.binary, base_dir)?;
    let about = std::fs::metadata(&path).map_err(|e| failed(&path, &format!("cannot be read: {e}")))?;
    if !about.is_file() {
        return Err(failed(&path, "is not a file; grpc.binary must name the program itself"));
    }
    if about.permissions().mode() & 0o111 == 0 {
        return Err(failed(&path, "is not executable; run chmod +x on it"));
    }
    let pinned = config.sha256.as_ref().map(|expected| check_digest(&path, expected, call)).transpose()?;
    Ok(Program { path, pinned })
}

/// The absolute path. Relative: against the manifest's folder. A bare name: that folder first, then `PATH`.
fn locate(binary: &str, base_dir: &Path) -> Result<PathBuf> {
    let own = base_dir.join(binary);
    let own = std::path::absolute(&own).map_err(|e| failed(&own, &format!("has no absolute path: {e}")))?;
    if own.exists() {
        return Ok(own);
    }
    if binary.contains('/') {
        return Err(failed(&own, "does not exist; build the plugin, or correct grpc.binary"));
    }
    let search = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&search).filter(|folder| folder.is_absolute()).map(|folder| folder.join(binary));
    found.into_iter().find(|path| path.is_file()).ok_or_else(|| {
        let text =
            format!("The plugin's program {binary:?} is neither {} nor in PATH; build the plugin, or correct grpc.binary.", own.display());
        Error::new(Kind::LoadFailed, text)
    })
}

/// Opens the file and reads it to its end, which may be far: the call's end is looked for after each piece.
fn check_digest(path: &Path, expected: &str, call: &Call) -> Result<File> {
    let unreadable = |e| failed(path, &format!("cannot be read: {e}"));
    let late = |e: Error| Error::new(e.kind(), format!("{} It was reading {} for grpc.sha256.", e.message(), path.display()));
    let mut file = sys::open_regular(path).map_err(unreadable)?;
    let mut digest = Sha256::new();
    let mut piece = vec![0; 1 << 20];
    loop {
        call.check().map_err(late)?;
        let read = file.read(&mut piece).map_err(unreadable)?;
        match piece.get(..read) {
            Some(bytes) if read > 0 => digest.update(bytes),
            _ => break,
        }
    }
    let found: String = digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    if found.eq_ignore_ascii_case(expected) {
        return Ok(file);
    }
    let text = format!("has the digest {found}, not the {expected} of grpc.sha256; it is not the program that was meant, and is not run");
    Err(failed(path, &text).with_detail("sha256", found))
}

/// What to say when the system does not run the program.
pub(super) fn not_run(path: &Path, e: &std::io::Error) -> Error {
    let hint = match Refusal::of(e) {
        Refusal::WrongFormat => "it is built for another architecture, or is a script without a #! line".to_owned(),
        Refusal::NoInterpreter => "the interpreter or loader that it names is not on this machine".to_owned(),
        Refusal::NotPermitted => "it is not executable for this user, or its file system is mounted noexec".to_owned(),
        Refusal::BeingWritten => "it is being written to; try again when that is over".to_owned(),
        Refusal::TooLong => "its arguments and environment are too large (grpc.args, grpc.env)".to_owned(),
        Refusal::NoRoom => "a limit of this machine or user on processes, memory or open files is reached".to_owned(),
        Refusal::Other => format!("the system says: {e}"),
    };
    failed(path, &format!("could not be started: {hint}")).with_detail("errno", e.raw_os_error().unwrap_or(0))
}

/// Whether it is the error of a program that somebody has open for writing.
pub(super) fn is_being_written(e: &Error) -> bool {
    let errno = e.details().get("errno").and_then(serde_json::Value::as_i64).and_then(|errno| i32::try_from(errno).ok());
    errno.is_some_and(|errno| Refusal::of(&std::io::Error::from_raw_os_error(errno)) == Refusal::BeingWritten)
}

fn failed(path: &Path, what: &str) -> Error {
    Error::new(Kind::LoadFailed, format!("The plugin's program {} {what}.", path.display()))
}
