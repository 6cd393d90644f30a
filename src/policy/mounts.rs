//! Which folders a wasm guest sees: those it asks for, that the policy grants, and through which it cannot change what it
//! is itself.

use std::collections::HashSet;
use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

use crate::error::{Error, Kind, clean};
use crate::manifest::{FILE_NAME, FsPermission, Manifest, WasmConfig};
use crate::policy::Mount;
use crate::policy::admit::unbounded;
use crate::policy::entry::{Entry, Root};
use crate::policy::verdict::{Outcome, Request};

/// The most links that are followed on the way to a file; the system follows 40.
const LINKS_MAX: usize = 64;

/// The mounts that are granted, and why the first granted folder that cannot be used cannot. What is not granted is denied
/// before the system is asked whether the folder is there: a plugin that is granted nothing learns nothing.
pub(super) fn admit(
    entry: &Entry,
    manifest: &Manifest,
    wasm: &WasmConfig,
    protected: &[PathBuf],
    requests: &mut Vec<Request>,
) -> (Vec<Mount>, Option<Error>) {
    let own = own_places(manifest, wasm);
    let protected: Vec<PathBuf> = protected.iter().flat_map(|path| places(path)).collect();
    let (mut mounts, mut names) = (Vec::new(), HashSet::new());
    let mut failure = None;
    for (i, wish) in wasm.filesystem.iter().enumerate() {
        let asked = Asked { field: format!("wasm.permissions.filesystem[{i}]"), wish, roots: entry.filesystem.as_deref() };
        let path = manifest.base_dir().join(&wish.path);
        if asked.roots.is_some_and(<[Root]>::is_empty) {
            requests.push(asked.denied(&path));
            continue;
        }
        let host = match folder(&path) {
            Ok(host) => host,
            Err(why) => {
                let shown = clean(&path.to_string_lossy(), 200);
                let why = format!("the folder {shown:?} cannot be mounted: {why}. Create it, or take it out of the manifest.");
                failure.get_or_insert_with(|| asked.failure(&why));
                requests.push(asked.unusable(&why));
                continue;
            }
        };
        let exposed = own.iter().find(|place| place.starts_with(&host));
        let exposed = exposed.or_else(|| protected.iter().find(|place| place.starts_with(&host) || host.starts_with(place)));
        if let Some(place) = exposed {
            requests.push(asked.exposing(place));
            continue;
        }
        let root = asked.roots.into_iter().flatten().find(|root| grants(root, &host, wish));
        if asked.roots.is_some() && root.is_none() {
            requests.push(asked.denied(&host));
            continue;
        }
        let guest = guest_name(&wish.path);
        if !names.insert(guest.clone()) {
            let why = format!("the guest would see two folders as {:?}. Name each once.", clean(&guest, 200));
            failure.get_or_insert_with(|| asked.failure(&why));
            requests.push(asked.unusable(&why));
            continue;
        }
        requests.push(asked.granted(root));
        mounts.push(Mount { host, guest: vec![guest], writable: wish.writable });
    }
    if let [only] = mounts.as_mut_slice()
        && wasm.filesystem.len() == 1
        && !names.contains("/")
    {
        only.guest.push("/".to_owned());
    }
    (mounts, failure)
}

fn grants(root: &Root, host: &Path, wish: &FsPermission) -> bool {
    (root.writable || !wish.writable) && root.root.canonicalize().is_ok_and(|root| host.starts_with(root))
}

/// A folder that is asked for, and the roots that the policy grants; none: any.
struct Asked<'a> {
    field: String,
    wish: &'a FsPermission,
    roots: Option<&'a [Root]>,
}

impl Asked<'_> {
    fn request(&self, outcome: Outcome, granted: String, rule: String, grant: String) -> Request {
        let asked = format!("{:?}, {}", clean(&self.wish.path, 200), self.wish.mode());
        Request { what: "filesystem", field: self.field.clone(), asked, granted, outcome, rule, grant }
    }

    /// The policy's roots, each as it stands in the policy.
    fn lines(&self) -> Vec<String> {
        self.roots.into_iter().flatten().map(|root| line(&root.root, root.writable)).collect()
    }

    fn rule(&self) -> String {
        if self.roots.is_none() { unbounded("filesystem") } else { format!("filesystem: [{}]", self.lines().join(", ")) }
    }

    fn granted(&self, root: Option<&Root>) -> Request {
        let rule = root.map_or_else(|| self.rule(), |root| format!("filesystem: [{}]", line(&root.root, root.writable)));
        let granted = format!("{:?}, {}", clean(&guest_name(&self.wish.path), 200), self.wish.mode());
        self.request(Outcome::Granted, granted, rule, String::new())
    }

    fn denied(&self, path: &Path) -> Request {
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let mut with = self.lines();
        let granted = if with.is_empty() { "no folder".to_owned() } else { with.join(", ") };
        with.push(line(&path, self.wish.writable));
        self.request(Outcome::Denied, granted, self.rule(), format!("filesystem: [{}]", with.join(", ")))
    }

    /// Denied under any policy.
    fn exposing(&self, place: &Path) -> Request {
        let granted = format!("no folder that holds or lies in {:?}", clean(&place.to_string_lossy(), 200));
        self.request(
            Outcome::Denied,
            granted,
            "no mount shows what the plugin is made of, or what is the host's own".to_owned(),
            String::new(),
        )
    }

    fn unusable(&self, why: &str) -> Request {
        self.request(Outcome::Unusable, format!("nothing: {}", why.trim_end_matches('.')), self.rule(), String::new())
    }

    fn failure(&self, why: &str) -> Error {
        Error::new(Kind::LoadFailed, format!("{}: {why}", self.field)).with_detail("field", self.field.clone())
    }
}

/// A root as it stands in a policy.
fn line(path: &Path, writable: bool) -> String {
    let mode = if writable { "readwrite" } else { "read" };
    format!("{{ root: {:?}, mode: {mode} }}", clean(&path.to_string_lossy(), 200))
}

/// A folder's own path, links resolved.
fn folder(path: &Path) -> Result<PathBuf, String> {
    let host = path.canonicalize().map_err(|e| e.to_string())?;
    match host.metadata() {
        Ok(metadata) if metadata.is_dir() => Ok(host),
        Ok(_) => Err("it is not a folder".to_owned()),
        Err(e) => Err(e.to_string()),
    }
}

/// The path as it was written, without a leading `./` and a trailing slash.
fn guest_name(path: &str) -> String {
    let mut name = path;
    while let Some(rest) = name.strip_prefix("./") {
        name = rest.trim_start_matches('/');
    }
    match name.trim_end_matches('/') {
        "" if path.starts_with('/') => "/".to_owned(),
        "" => ".".to_owned(),
        name => name.to_owned(),
    }
}

/// What a plugin must not be able to write: its manifest, its artifact, the folder they are found in, and every link on
/// the way to them.
fn own_places(manifest: &Manifest, wasm: &WasmConfig) -> Vec<PathBuf> {
    let base = manifest.base_dir();
    let mut own = vec![base.to_owned(), base.join(FILE_NAME), base.join(&wasm.module)];
    own.extend(manifest.file().map(Path::to_owned));
    // The sockets of plugin processes are below it, where the host names no other folder.
    own.push(std::env::temp_dir());
    own.extend(manifest.grpc.iter().map(|grpc| base.join(&grpc.binary)));
    own.iter().flat_map(|path| places(path)).collect()
}

/// Every place that the system passes when it opens a path and a link leads on from, and where it ends, there or not.
fn places(path: &Path) -> Vec<PathBuf> {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    let Ok(path) = std::path::absolute(path) else { return Vec::new() };
    let mut passed = Vec::new();
    let mut links = 0;
    let mut here = PathBuf::from("/");
    let mut ahead: Vec<OsString> = Vec::new();
    let push = |ahead: &mut Vec<OsString>, path: &Path| ahead.extend(path.components().rev().map(|part| part.as_os_str().to_owned()));
    push(&mut ahead, &path);
    while let Some(part) = ahead.pop() {
        match Path::new(&part).components().next() {
            Some(Component::RootDir) => here = PathBuf::from("/"),
            Some(Component::ParentDir) => {
                here.pop();
            }
            Some(Component::Normal(name)) => {
                let next = here.join(name);
                match next.read_link() {
                    Ok(target) if links < LINKS_MAX => {
                        links += 1;
                        passed.push(next);
                        push(&mut ahead, &target);
                    }
                    _ => here = next,
                }
            }
            _ => {}
        }
    }
    passed.push(here);
    passed
}
