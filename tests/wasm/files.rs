//! Ways out of the granted folders, and into those that may only be read: by the guest's own WASI calls, on files of the
//! test's own. Every row of the tables must fail; the rows beside them must not.

use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;
use std::sync::Arc;

use flowplug::policy::Mount;
use flowplug::wasm::Plugin;

use crate::support::*;

/// The descriptors of the two folders: one to read, one to write.
const RO: char = '3';
const RW: char = '4';

struct Files {
    top: Folder,
    setup: Setup,
    plugin: Arc<Plugin>,
}

fn imports() -> String {
    let i32s = |n: usize| " i32".repeat(n);
    [
        ("path_open", "open", " i32 i32 i32 i32 i32 i64 i64 i32 i32".to_owned()),
        ("fd_close", "close", i32s(1)),
        ("fd_write", "write", i32s(4)),
        ("fd_pwrite", "pwrite", " i32 i32 i32 i64 i32".to_owned()),
        ("fd_allocate", "allocate", " i32 i64 i64".to_owned()),
        ("fd_fdstat_set_flags", "set_flags", i32s(2)),
        ("fd_filestat_set_size", "size", " i32 i64".to_owned()),
        ("fd_filestat_set_times", "fd_times", " i32 i64 i64 i32".to_owned()),
        ("path_filestat_get", "stat", i32s(5)),
        ("path_filestat_set_times", "times", " i32 i32 i32 i32 i64 i64 i32".to_owned()),
        ("path_link", "link", i32s(7)),
        ("path_symlink", "symlink", i32s(5)),
        ("path_rename", "rename", i32s(6)),
        ("path_unlink_file", "unlink", i32s(3)),
        ("path_create_directory", "mkdir", i32s(3)),
        ("path_remove_directory", "rmdir", i32s(3)),
        ("path_readlink", "readlink", i32s(6)),
    ]
    .map(|(name, own, params)| format!(r#"(import "wasi_snapshot_preview1" "{name}" (func ${own} (param{params}) (result i32)))"#))
    .concat()
}

/// What lies in a folder that is granted, links out of it by every way among it.
fn fill(folder: &Path, secret: &Path, other: &str) {
    std::fs::create_dir_all(folder.join("sub/deep")).unwrap();
    std::fs::write(folder.join("file.txt"), "content").unwrap();
    std::fs::write(folder.join("sub/inner.txt"), "content").unwrap();
    let mkfifo = std::process::Command::new("mkfifo").arg(folder.join("fifo")).status().unwrap();
    assert!(mkfifo.success());
    drop(std::os::unix::net::UnixListener::bind(folder.join("socket")).unwrap());
    for (name, target) in [
        ("in", "file.txt"),
        ("in-sub", "sub/../sub/inner.txt"),
        ("out", "../secret.txt"),
        ("out-deep", "sub/../../secret.txt"),
        ("out-absolute", secret.to_str().unwrap()),
        ("out-twice", "out"),
        ("out-folder", ".."),
        ("out-other", other),
        ("back", &format!("../{}/file.txt", folder.file_name().unwrap().to_str().unwrap())),
        ("root", "/"),
        ("proc-root", "/proc/self/root"),
        ("proc-cwd", "/proc/self/cwd"),
        ("proc-fd", "/proc/self/fd"),
        ("null", "/dev/null"),
        ("to-fifo", "fifo"),
        ("loop", "loop"),
    ] {
        symlink(target, folder.join(name)).unwrap();
    }
}

impl Files {
    fn new() -> Self {
        let (top, mut setup) = (Folder::new(), Setup::new());
        let secret = top.0.join("secret.txt");
        std::fs::write(&secret, "secret").unwrap();
        fill(&top.0.join("ro"), &secret, "../rw/file.txt");
        fill(&top.0.join("rw"), &secret, "../ro/file.txt");
        let mount = |name: &str, writable| Mount { host: top.0.join(name).canonicalize().unwrap(), guest: vec![name.to_owned()], writable };
        setup.grants.mounts = vec![mount("ro", false), mount("rw", true)];
        let plugin = setup.started(&guest(&imports(), include_str!("files.wat")));
        Files { top, setup, plugin }
    }

    /// The errno of one act.
    fn act(&self, act: char, (from, first): (char, &str), (to, second): (char, &str)) -> i32 {
        let digit = |n: usize| char::from(b'a' + u8::try_from(n).unwrap());
        let (high, low) = (digit(first.len() / 26), digit(first.len() % 26));
        let answer = ask(&self.plugin, "do", &format!("{act}{from}{to}{high}{low}{first}{second}")).unwrap();
        i32::from_str_radix(&answer[9..17], 16).unwrap()
    }

    /// Everything below a folder, with what of it a guest could change.
    fn state(&self, folder: &str) -> BTreeMap<String, (u32, u64, i64, Vec<u8>)> {
        let mut found = BTreeMap::new();
        let mut ahead = vec![self.top.0.join(folder)];
        while let Some(path) = ahead.pop() {
            let metadata = path.symlink_metadata().unwrap();
            let content = if metadata.is_file() { std::fs::read(&path).unwrap() } else { Vec::new() };
            if metadata.is_dir() {
                ahead.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            }
            let links = if metadata.is_dir() { 0 } else { metadata.nlink() };
            found.insert(path.to_str().unwrap().to_owned(), (metadata.mode(), links, metadata.mtime(), content));
        }
        found
    }
}

/// Paths that lead out, or to what is no file.
const OUT: [&str; 33] = [
    "..",
    "../",
    "../secret.txt",
    "./../secret.txt",
    "sub/../../secret.txt",
    "sub/deep/../../../secret.txt",
    "sub/deep/../../..",
    "../ro/file.txt",
    "../rw/file.txt",
    "..//secret.txt",
    "/",
    "//",
    "/etc/passwd",
    "//etc/passwd",
    "/proc/self/root/etc/passwd",
    "out",
    "out-deep",
    "out-absolute",
    "out-twice",
    "out-folder/secret.txt",
    "out-folder/out-folder",
    "out-other",
    "back",
    "root/etc/passwd",
    "proc-root/etc/passwd",
    "proc-cwd/Cargo.toml",
    "proc-fd/0",
    "null",
    "loop",
    "file.txt/",
    "file.txt/../../secret.txt",
    "file.txt\0/../../secret.txt",
    "..\\secret.txt",
];

#[test]
fn no_path_leads_out() {
    let files = Files::new();
    for mount in [RO, RW] {
        for path in ["file.txt", "./file.txt", "sub/inner.txt", "sub/../file.txt", "sub/deep/../../file.txt", "in", "in-sub"] {
            assert_eq!(files.act('o', (mount, path), (mount, "")), 0, "{path}: the control");
        }
        assert_eq!(files.act('O', (mount, "sub"), (mount, "inner.txt")), 0, "the control");
    }
    let before = ["secret.txt", "ro", "rw"].map(|folder| files.state(folder));
    for mount in [RO, RW] {
        for path in OUT.iter().chain(&["fifo", "to-fifo", "socket"]) {
            // Not those that act on a link itself, which is inside.
            for act in ['o', 'w', 'a', 't', 'T', 'x', 'z', 'W', 'P', 'F', 'S', 's'] {
                // What it is may be asked of what is not opened.
                if act == 's' && path.ends_with(['o', 't']) && ["fifo", "to-fifo", "socket"].contains(path) {
                    continue;
                }
                if act == 'S' && mount == RW && ["fifo", "to-fifo", "socket"].contains(path) {
                    continue;
                }
                assert_ne!(files.act(act, (mount, path), (mount, "")), 0, "{act} {mount} {path}");
            }
        }
        for path in OUT {
            // From a folder below it, too.
            assert_ne!(files.act('O', (mount, "sub"), (mount, path)), 0, "O {mount} {path}");
            assert_ne!(files.act('D', (mount, "sub"), (mount, &format!("../{path}"))), 0, "D {mount} {path}");
        }
        for folder in ["..", "/", "out-folder", "root", "proc-root", "proc-cwd", "proc-fd", "sub/../..", "../ro", "../rw", "out-folder/ro"]
        {
            assert_ne!(files.act('d', (mount, folder), (mount, "")), 0, "d {mount} {folder}");
            assert_ne!(files.act('c', (mount, &format!("{folder}/new.txt")), (mount, "")), 0, "c {mount} {folder}");
            assert_ne!(files.act('m', (mount, &format!("{folder}/new")), (mount, "")), 0, "m {mount} {folder}");
            assert_ne!(files.act('u', (mount, &format!("{folder}/secret.txt")), (mount, "")), 0, "u {mount} {folder}");
            assert_ne!(files.act('R', (mount, &format!("{folder}/rw/sub/deep")), (mount, "")), 0, "R {mount} {folder}");
        }
    }
    assert!(before == ["secret.txt", "ro", "rw"].map(|folder| files.state(folder)));
    assert!(!files.top.0.join("new.txt").exists() && !files.top.0.join("new").exists());
}

#[test]
fn what_may_only_be_read_is_not_changed() {
    let files = Files::new();
    let before = files.state("ro");
    for path in ["file.txt", "in", "sub/inner.txt", "new.txt", "sub/new.txt", "sub/../new.txt"] {
        for act in ['w', 'a', 'c', 'C', 't', 'T', 'x', 'z', 'Z', 'A', 'F', 'W', 'P', 'S', 'u', 'm'] {
            // Created only if it is not there: then it is opened to be read.
            if act == 'C' && !path.ends_with("new.txt") {
                continue;
            }
            assert_ne!(files.act(act, (RO, path), (RO, "")), 0, "{act} {path}");
        }
        assert_ne!(files.act('r', (RO, path), (RO, "renamed")), 0, "{path}");
        assert_ne!(files.act('l', (RO, path), (RO, "linked")), 0, "{path}");
    }
    for (act, first, second) in [('y', "file.txt", "link"), ('R', "sub/deep", ""), ('D', "sub", "new.txt"), ('D', "sub", "inner.txt")] {
        assert_ne!(files.act(act, (RO, first), (RO, second)), 0, "{act} {first}");
    }
    assert!(before == files.state("ro"));
}

/// A file to read would become one to write, if it could be moved or linked into a folder to write; and one folder's own
/// could be put over another's.
#[test]
fn nothing_crosses_from_one_folder_to_another() {
    let files = Files::new();
    let (ro, rw) = (files.state("ro"), files.state("rw"));
    for (act, from, first, to, second) in [
        ('l', RO, "file.txt", RW, "stolen"),
        ('L', RO, "file.txt", RW, "stolen"),
        ('l', RW, "file.txt", RO, "planted"),
        ('r', RO, "file.txt", RW, "stolen"),
        ('r', RO, "sub", RW, "stolen"),
        ('r', RW, "file.txt", RO, "file.txt"),
        ('r', RW, "file.txt", RO, "planted"),
        ('r', RW, "sub", RO, "planted"),
        ('L', RW, "out", RW, "stolen"),
        ('L', RW, "out-absolute", RW, "stolen"),
        ('L', RW, "out-other", RW, "stolen"),
        ('l', RW, "../secret.txt", RW, "stolen"),
        ('l', RW, "../ro/file.txt", RW, "stolen"),
        ('l', RW, "file.txt", RW, "../planted"),
        ('r', RW, "../secret.txt", RW, "stolen"),
        ('r', RW, "../ro/file.txt", RW, "stolen"),
        ('r', RW, "file.txt", RW, "../planted"),
        ('r', RW, "file.txt", RW, "../secret.txt"),
        ('r', RW, "file.txt", RW, "out-folder/planted"),
        ('r', RW, "sub", RW, "../planted"),
        ('y', RW, "/etc/passwd", RW, "absolute"),
        ('y', RW, "/proc/self/root", RW, "absolute"),
        ('y', RW, "x", RW, "../planted"),
        ('y', RW, "x", RW, "out-folder/planted"),
    ] {
        assert_ne!(files.act(act, (from, first), (to, second)), 0, "{act} {first} {second}");
    }
    assert!((ro, rw) == (files.state("ro"), files.state("rw")));
    // A link that the guest makes itself leads no further than one it finds.
    for (target, name) in [("../secret.txt", "own"), ("..", "own-folder"), ("../ro/file.txt", "own-other"), ("own", "own-twice")] {
        files.act('y', (RW, target), (RW, name));
        for act in ['o', 'w', 'T', 'c'] {
            assert_ne!(files.act(act, (RW, name), (RW, "")), 0, "{act} {name}");
        }
        assert_ne!(files.act('o', (RW, &format!("{name}/secret.txt")), (RW, "")), 0, "{name}");
    }
    assert_eq!(std::fs::read(files.top.0.join("secret.txt")).unwrap(), b"secret");
    assert_eq!(std::fs::metadata(files.top.0.join("secret.txt")).unwrap().nlink(), 1);
}

#[test]
fn what_may_be_written_is() {
    let files = Files::new();
    for (act, first, second) in [
        ('w', "file.txt", ""),
        ('c', "new.txt", ""),
        ('l', "file.txt", "hard"),
        ('y', "file.txt", "soft"),
        ('o', "soft", ""),
        ('r', "hard", "moved"),
        ('m', "folder", ""),
        ('D', "folder", "inner.txt"),
        ('O', "folder", "inner.txt"),
        ('u', "folder/inner.txt", ""),
        ('R', "folder", ""),
        ('S', "moved", ""),
        ('T', "moved", ""),
        ('u', "moved", ""),
        ('k', "soft", ""),
    ] {
        assert_eq!(files.act(act, (RW, first), (RW, second)), 0, "{act} {first} {second}");
    }
    // Opened to be read is not opened to be written, whatever the folder allows.
    for act in ['W', 'P', 'F'] {
        assert_ne!(files.act(act, (RW, "file.txt"), (RW, "")), 0, "{act}");
    }
    drop(files.setup);
}
