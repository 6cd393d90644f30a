//! A disk that is full: the write fails, and nothing else does.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use flowplug::error::Kind;
use flowplug::host::PluginContext;
use flowplug::host::kv::file::FileKv;

use super::asking;
use crate::support::{Folder, TestHost, grants};

/// In the child, which may not make a file larger than a few megabytes: the file.
const FILE: &str = "FLOWPLUG_TEST_KV_FULL";

fn fill(path: &Path) {
    let kv = FileKv::open(path).unwrap();
    let plugin = PluginContext::new("p", grants(), Arc::new(TestHost::default()));
    let value = |n: u8| vec![n; 64 << 10];
    let key = |n: u8| format!("plugin:p:{n}");
    let failed = asking(&plugin, |caller| {
        (0..250).find_map(|n| kv.set(caller, &key(n), &value(n)).err().map(|e| (n, e))).expect("the file may grow as it likes")
    });
    let (stored, error) = failed;
    assert_eq!(error.kind(), Kind::Io, "{error}");
    assert!(stored > 2, "{stored}");
    for n in 0..stored {
        assert_eq!(kv.get(&key(n)).unwrap().unwrap(), value(n));
    }
    asking(&plugin, |caller| {
        (0..stored).for_each(|n| kv.delete(caller, &key(n)).unwrap());
        kv.set(caller, &key(0), &value(9)).unwrap();
    });
    drop(kv);
    let kv = FileKv::open(path).unwrap();
    assert_eq!((kv.get(&key(0)).unwrap().unwrap(), kv.get(&key(1)).unwrap()), (value(9), None));
}

#[test]
fn a_full_disk_fails_the_write_and_nothing_else() {
    if let Ok(path) = std::env::var(FILE) {
        return fill(Path::new(&path));
    }
    let folder = Folder::new();
    let test = std::env::current_exe().unwrap();
    let status = Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -f 16000; exec \"$0\" full::a_full_disk_fails_the_write_and_nothing_else --exact"])
        .arg(test)
        .env(FILE, folder.0.join("kv"))
        .status()
        .unwrap();
    assert!(status.success());
}
