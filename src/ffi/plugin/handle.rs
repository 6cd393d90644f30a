//! The handle of a plugin, and whose plugin it is.

use std::sync::Arc;

use crate::error::Result;
use crate::ffi::callbacks::Callbacks;
use crate::ffi::pin::Pinned;
use crate::ffi::text::handle;
use crate::plugin::Plugin;

/// A loaded plugin; ended with flowplug_plugin_free. Any number of threads may use it at once.
#[derive(Debug)]
pub struct flowplug_plugin {
    pub(super) plugin: Arc<Plugin>,
    pub(super) callbacks: Arc<Callbacks>,
    /// A manager ends it, not this handle.
    managed: bool,
}

impl flowplug_plugin {
    /// A handle with which the plugin ends.
    pub(super) fn new(plugin: Arc<Plugin>, callbacks: Arc<Callbacks>) -> Self {
        flowplug_plugin { plugin, callbacks, managed: false }
    }

    /// A handle of a plugin that is a manager's.
    pub(crate) fn managed(plugin: Arc<Plugin>, callbacks: Arc<Callbacks>) -> Self {
        flowplug_plugin { plugin, callbacks, managed: true }
    }

    /// Lets the plugin end in the background, if it is this handle's.
    pub(super) fn let_go(&self) {
        if !self.managed {
            self.plugin.stop_in_background();
        }
    }
}

impl Pinned for flowplug_plugin {
    fn plugin(&self) -> &Plugin {
        &self.plugin
    }
}

impl Drop for flowplug_plugin {
    fn drop(&mut self) {
        self.let_go();
    }
}

/// A reference of the call's own: the handle may be freed inside one of its callbacks.
///
/// # Safety
/// `plugin` is NULL or live.
pub(crate) unsafe fn plugin_of(plugin: *const flowplug_plugin) -> Result<Arc<Plugin>> {
    // SAFETY: by this function's contract.
    unsafe { handle(plugin, "plugin") }.map(|p| p.plugin.clone())
}
