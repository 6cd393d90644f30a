//! Another version in the place of the one that runs, without a call that is refused or lost.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::call::{self, Call, Deadline};
use crate::error::{Error, Kind, Result};
use crate::manifest::Manifest;
use crate::plugin::generation::Generation;
use crate::plugin::info::Moment;
use crate::plugin::state::{Changing, Draining};
use crate::plugin::{Plugin, State, info};
use crate::sys::swap::Replaced;

/// How long a version that was started may take until it says that it is ready.
const READY_WITHIN: Duration = Duration::from_secs(10);
/// How often it is asked.
const ASK: Duration = Duration::from_millis(20);

impl Plugin {
    /// Loads and starts another version (an empty config: as before), waits until it is ready, and puts it in the place of
    /// the old one, which then is drained and stopped: what is still in flight after `drain` ends with `cancelled`. Calls
    /// find the old or the new, whole, and none is refused. Any failure before the exchange leaves the old as it was.
    ///
    /// `call` bounds what comes before the exchange. Until the old has ended, there are up to twice as many instances; while
    /// so many old ones drain that there is no room for another, it is `busy`.
    pub fn reload(&self, manifest: Arc<Manifest>, config: &[u8], call: &Call, drain: &Deadline) -> Result<()> {
        self.reload_or_refuse(manifest, config, call, drain).unwrap_or_else(Err)
    }

    /// The same; the outer error is that of a reload that is refused before it begins: no event tells of that one.
    pub fn reload_or_refuse(&self, manifest: Arc<Manifest>, config: &[u8], call: &Call, drain: &Deadline) -> Result<Result<()>> {
        let changing = self.reload_begins(call).map_err(|e| e.with_plugin(self.identity()))?;
        Ok(self.reload_once(changing, manifest, config, call, drain).map_err(|e| e.with_plugin(self.identity())))
    }

    fn reload_begins(&self, call: &Call) -> Result<Changing<'_>> {
        self.check_outside("reloaded", &call.chain)?;
        let changing = self.shared.change_over_restart(call.deadline.remaining())?;
        if matches!(self.state(), State::Running | State::Error) { Ok(changing) } else { Err(self.wrong_state("reloaded").1) }
    }

    fn reload_once(&self, changing: Changing<'_>, manifest: Arc<Manifest>, config: &[u8], call: &Call, drain: &Deadline) -> Result<()> {
        let kept = self.current.load().config();
        let config = if config.is_empty() { kept.as_bytes() } else { config };
        let ready = self.bring_up(manifest, config, call).and_then(|next| self.wait_ready(next, call));
        match ready.and_then(|next| self.exchange(next, &changing)) {
            Ok((old, provides_changed, moment)) => {
                // The drain holds up neither the next reload nor the restart of what runs now.
                drop(changing);
                self.meter.reloaded(true);
                self.tell(&info::reloaded(&moment, self.identity(), provides_changed));
                self.end_old(old, drain);
                Ok(())
            }
            Err(e) => {
                self.meter.reloaded(false);
                self.event(&self.shared.moment(), "reload_failed", Some(e.message()));
                let message = format!("{} The plugin was not reloaded; it is as it was.", e.message());
                Err(e.with_message(message))
            }
        }
    }

    /// A version that was loaded and started, beside the one that is.
    pub(super) fn bring_up(&self, manifest: Arc<Manifest>, config: &[u8], call: &Call) -> Result<Generation> {
        let value = manifest.validate_config(config, &call.deadline)?;
        let next = Generation::load(&self.origin, &self.shared, manifest, call)?;
        let text = next.take_config(config, value);
        match next.runner.start(&text, call) {
            Ok(()) => Ok(next),
            Err(e) => Err(given_up(&next, e)),
        }
    }

    fn wait_ready(&self, next: Generation, call: &Call) -> Result<Generation> {
        match self.wait_ready_of(&next, call) {
            Ok(()) => Ok(next),
            Err(e) => Err(given_up(&next, e)),
        }
    }

    fn wait_ready_of(&self, next: &Generation, call: &Call) -> Result<()> {
        let deadline = call.deadline.clone().at_most(READY_WITHIN);
        let cancels = [call.cancel.as_ref(), Some(&next.context.ending)];
        loop {
            let health = next.runner.health();
            if health.ready {
                return Ok(());
            }
            self.shared.check_lost(next.serial())?;
            call::check(&deadline, &cancels).map_err(|e| match e.kind() {
                Kind::Timeout => {
                    let said = if health.last_error.is_empty() { "it says that it is not" } else { &health.last_error };
                    Error::new(Kind::Timeout, format!("The new version was started, and did not become ready in time: {said}."))
                }
                _ => e,
            })?;
            // The one value it waits for is a token; else the pause is over.
            drop(call::wait::<()>(&Deadline::after(ASK), &cancels, drop, || None));
        }
    }

    /// From here on, calls find the new version. The old one, whether what is provided differs, and when it was.
    pub(super) fn exchange<'a>(&self, next: Generation, changing: &Changing<'a>) -> Result<(Old<'a>, bool, Moment)> {
        let (serial, next) = (next.serial(), Arc::new(next));
        let replace = || {
            self.process.store(next.is_process(), Ordering::Relaxed);
            let old = self.current.replace(next.clone());
            // Under the lock under which measures are taken, so that no count goes back.
            self.meter.keep(old.runner.stats());
            old
        };
        let (version, draining, moment) = changing.exchange(serial, replace).inspect_err(|_| next.end())?;
        let changed = version.manifest.provides != next.manifest.provides;
        Ok((Old { version, _draining: draining }, changed, moment))
    }

    /// Lets a version that was replaced finish its calls, and ends it.
    pub(super) fn end_old(&self, old: Old<'_>, drain: &Deadline) {
        if !old.version.runner.stop(drain) {
            self.stuck().push(old.version.runner.clone());
        }
    }
}

/// A version that was replaced, to be let go of by [`Plugin::end_old`].
pub(super) struct Old<'a> {
    version: Replaced<Generation>,
    _draining: Draining<'a>,
}

/// A version that is not to be.
fn given_up(next: &Generation, e: Error) -> Error {
    next.end();
    e
}
