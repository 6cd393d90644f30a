//! A host, manifests and plugins through the C ABI, as a C program has them.
#![allow(dead_code, reason = "no benchmark uses all of it")]

use std::path::{Path, PathBuf};
use std::ptr::{null, null_mut};

use flowplug::ffi::call::flowplug_call_options;
use flowplug::ffi::function::{flowplug_function, flowplug_function_call, flowplug_function_free, flowplug_function_new};
use flowplug::ffi::host::{
    flowplug_host, flowplug_host_api, flowplug_host_close, flowplug_host_free, flowplug_host_new, flowplug_host_options,
};
use flowplug::ffi::manifest::{flowplug_manifest, flowplug_manifest_free, flowplug_manifest_options, flowplug_manifest_parse};
use flowplug::ffi::plugin::{flowplug_plugin, flowplug_plugin_call, flowplug_plugin_free, flowplug_plugin_load, flowplug_plugin_start};
use flowplug::ffi::text::{flowplug_bytes, flowplug_bytes_free, flowplug_str};

pub fn text(s: &str) -> flowplug_str {
    flowplug_str { ptr: s.as_ptr().cast(), len: s.len() }
}

pub struct Host(*mut flowplug_host);

impl Host {
    pub fn new(config: &str) -> Self {
        Self::with(config, null())
    }

    pub fn with(config: &str, api: *const flowplug_host_api) -> Self {
        let options = flowplug_host_options { struct_size: size_of::<flowplug_host_options>(), config: text(config), api };
        let mut host = null_mut();
        assert_eq!(unsafe { flowplug_host_new(&options, &mut host, null_mut()) }, 0);
        Host(host)
    }

    pub fn load(&self, manifest: &Manifest) -> Plugin {
        let mut plugin = null_mut();
        let status = unsafe { flowplug_plugin_load(self.0, manifest.0, text("bench"), null(), null(), &mut plugin, null_mut()) };
        assert_eq!(status, 0);
        Plugin(plugin)
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        unsafe {
            assert_eq!(flowplug_host_close(self.0, null(), null_mut()), 0);
            flowplug_host_free(self.0);
        }
    }
}

pub struct Manifest(*mut flowplug_manifest);

impl Manifest {
    /// Of a module in `folder`; `more` are members of its `wasm` section.
    pub fn new(folder: &Path, module: &str, more: &str) -> Self {
        let base_dir = text(folder.to_str().unwrap());
        let options = flowplug_manifest_options { struct_size: size_of::<flowplug_manifest_options>(), base_dir, strict: 0 };
        let yaml = format!("{{name: bench, runtime: wasm, wasm: {{module: {module}{more}}}}}");
        let mut manifest = null_mut();
        assert_eq!(unsafe { flowplug_manifest_parse(text(&yaml), &options, &mut manifest, null_mut()) }, 0);
        Manifest(manifest)
    }
}

impl Drop for Manifest {
    fn drop(&mut self) {
        unsafe { flowplug_manifest_free(self.0) }
    }
}

pub struct Plugin(*mut flowplug_plugin);

// A plugin may be used from any number of threads.
unsafe impl Sync for Plugin {}

impl Plugin {
    pub fn start(self) -> Self {
        assert_eq!(unsafe { flowplug_plugin_start(self.0, text(""), null(), null_mut()) }, 0);
        self
    }

    pub fn call(&self, function: &str, input: &str) {
        self.call_with(function, input, null());
    }

    /// The length of the answer.
    pub fn call_with(&self, function: &str, input: &str, options: *const flowplug_call_options) -> usize {
        let mut out = flowplug_bytes { ptr: null_mut(), len: 0, owner: null_mut() };
        let status = unsafe { flowplug_plugin_call(self.0, text(function), text(input), options, &mut out, null_mut()) };
        let len = out.len;
        unsafe { flowplug_bytes_free(&mut out) };
        assert_eq!(status, 0);
        len
    }

    pub fn function(&self, name: &str) -> Function {
        let mut function = null_mut();
        assert_eq!(unsafe { flowplug_function_new(self.0, text(name), &mut function, null_mut()) }, 0);
        Function(function)
    }
}

pub struct Function(*mut flowplug_function);

// As a plugin.
unsafe impl Sync for Function {}

impl Function {
    /// An echo whose answer goes into the buffer.
    pub fn echo(&self, input: &str, options: *const flowplug_call_options, buffer: &mut [u8]) {
        let mut out = flowplug_bytes { ptr: null_mut(), len: 0, owner: null_mut() };
        let status =
            unsafe { flowplug_function_call(self.0, text(input), options, buffer.as_mut_ptr(), buffer.len(), &mut out, null_mut()) };
        assert_eq!((status, out.len, out.ptr), (0, input.len(), buffer.as_mut_ptr()));
    }
}

impl Drop for Function {
    fn drop(&mut self) {
        unsafe { flowplug_function_free(self.0) }
    }
}

impl Drop for Plugin {
    fn drop(&mut self) {
        unsafe { flowplug_plugin_free(self.0) }
    }
}

/// A folder that is removed at the end.
pub struct Folder(pub PathBuf);

impl Folder {
    pub fn new() -> Self {
        let path = std::env::temp_dir().join(format!("flowplug-bench-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Folder(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}
