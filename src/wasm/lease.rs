//! One call's hold on an instance, and what becomes of the instance after it.

use super::Plugin;
use super::instance::Instance;
use super::pool::{Cause, Turn};
use super::state::Due;
use crate::error::{Error, Kind, Result};

/// A turn of the pool. Dropped, it goes back: with its instance if that is clean and to be kept.
pub(super) struct Lease<'a> {
    plugin: &'a Plugin,
    keep: bool,
    pub(super) turn: Turn<'a, Box<Instance>>,
    // After the turn: who replaces an instance needs its place.
    loss: Loss<'a>,
}

impl<'a> Lease<'a> {
    #[inline]
    pub(super) fn new(plugin: &'a Plugin, turn: Turn<'a, Box<Instance>>) -> Self {
        plugin.blueprint.machine.ticker.needed();
        Lease { plugin, keep: false, turn, loss: Loss(None) }
    }

    /// The instance, made if there is none yet.
    #[inline]
    pub(super) fn instance(&mut self, due: &Due<'_>) -> Result<&mut Instance> {
        if self.turn.is_none() {
            self.turn.put(self.plugin.blueprint.make(due.current())?);
            self.plugin.upkeep.gained(self.plugin.pool.warm());
        }
        self.turn.item().map(Box::as_mut).ok_or_else(|| Error::new(Kind::Internal, "A lease has no instance."))
    }

    /// The instance may be used again if it is clean. Without this it is discarded, as after a panic.
    #[inline]
    pub(super) fn keep(&mut self) {
        self.keep = true;
    }

    #[cold]
    fn discard(&mut self) {
        let Some(instance) = self.turn.as_deref() else { return };
        let cause = match (instance.is_clean(), instance.has_grown()) {
            (true, _) if self.plugin.instance_per_call => Cause::Spent,
            (_, true) => Cause::Grown,
            (_, false) => Cause::Broken,
        };
        self.loss.0 = (!self.plugin.instance_per_call && !instance.needs_init()).then_some(self.plugin);
        self.turn.discard(cause);
    }
}

impl Drop for Lease<'_> {
    #[inline]
    fn drop(&mut self) {
        if !(self.keep && self.turn.as_deref().is_some_and(Instance::is_clean)) {
            self.discard();
        }
    }
}

/// An instance of this plugin broke, and is replaced in the background.
struct Loss<'a>(Option<&'a Plugin>);

impl Drop for Loss<'_> {
    #[inline]
    fn drop(&mut self) {
        if let Some(plugin) = self.0 {
            plugin.upkeep.lost();
        }
    }
}
