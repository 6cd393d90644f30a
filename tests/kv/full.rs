//! A disk that is full: the write fails, and nothing else does.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

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
    asking(&plugin, |caller| kv.set(caller, &key(0), &value(0)).unwrap());
    let full = AtomicBool::new(false);
    let read = || {
        while !full.load(Ordering::SeqCst) {
            assert_eq!(kv.get(&key(0)).unwrap().unwrap(), value(0));
        }
    };
    // Who reads meanwhile does not notice that the file is opened again, as often as it is.
    let (first, more) = std::thread::scope(|scope| {
        let readers: [_; 4] = std::array::from_fn(|_| scope.spawn(read));
        let failed = asking(&plugin, |caller| {
            let first = (1..250).find_map(|n| kv.set(caller, &key(n), &value(n)).err().map(|e| (n, e)));
            let large = |n| kv.set(caller, &key(249), &vec![n; 2 << 20]);
            (first, (0..20).filter(|n| large(*n).is_err()).count())
        });
        full.store(true, Ordering::SeqCst);
        readers.into_iter().for_each(|reader| reader.join().expect("what is stored can be read"));
        failed
    });
    let (stored, error) = first.expect("the file may not grow as it likes");
    assert_eq!(more, 20);
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
