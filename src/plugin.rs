//! One plugin: its state, what starts and ends it, and the calls in between.
//!
//! `loading` (after the load too) → `running` → `stopping` → `stopped`, and `error`. A change is visible to every thread
//! at once and is told to the host as an event.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use serde_json::{Value, json};

use crate::call::{Call, Chain, Deadline};
use crate::error::{Error, Kind, Result};
use crate::host::Host;
use crate::manifest::Manifest;
use crate::policy::{Admission, Policy};
use crate::runner::Runner;
use crate::sys;
use crate::sys::readers::Readers;
use crate::sys::swap::Swap;

mod calls;
mod environment;
mod generation;
mod info;
pub mod metrics;
mod reload;
mod state;
mod supervise;

pub use calls::{Entered, Resolved};
pub use environment::Environment;
use generation::{Generation, Origin};
use info::Moment;
use metrics::{Measures, Meter};
pub use state::State;
use state::{Over, Shared, What};

/// How long a second stop waits for calls that were cancelled.
const ENDED_WITHIN: Duration = Duration::from_secs(10);

/// How long a stop waits past its drain for what was given up on before, however much that is.
const UNSTUCK_WITHIN: Duration = Duration::from_secs(5);

/// A loaded plugin. Any number of threads may use it at once.
#[derive(Debug)]
pub struct Plugin {
    origin: Origin,
    /// The version that calls find.
    current: Swap<Generation>,
    /// Whether that version is a process: for who asks before each call.
    process: AtomicBool,
    shared: Arc<Shared>,
    meter: Meter,
    /// What was replaced and has been given up on: a callback of its calls had not returned.
    stuck: Mutex<Vec<Runner>>,
}

/// What is known of a plugin without asking it.
#[derive(Clone, Debug)]
pub struct Vitals {
    /// Where it stands.
    pub state: State,
    /// When this version began to run; none: it never did.
    pub started_at: Option<SystemTime>,
    /// What went wrong last; empty if nothing did since.
    pub last_error: String,
    /// How often it was started again after its process had ended.
    pub restarts: u32,
    /// Calls that were made of it, by any version.
    pub calls: u64,
    /// Those that are under way.
    pub in_flight: u64,
}

impl Plugin {
    /// Admits the manifest by the policy, then compiles the module or starts the process.
    pub fn load(
        environment: &Arc<Environment>,
        host: Arc<dyn Host>,
        policy: &Arc<Policy>,
        identity: &str,
        manifest: Arc<Manifest>,
        call: &Call,
    ) -> Result<Arc<Self>> {
        check_identity(identity)?;
        environment.check_open()?;
        let (tally, named) = (OnceLock::new(), identity.to_owned());
        let origin = Origin { environment: environment.clone(), host, policy: policy.clone(), identity: named, tally };
        let shared = Arc::new(Shared::new());
        let first = Generation::load(&origin, &shared, manifest, call).map_err(|e| e.with_plugin(identity))?;
        let process = AtomicBool::new(first.is_process());
        let (current, meter, stuck) = (Swap::new(Arc::new(first)), Meter::default(), Mutex::default());
        let plugin = Arc::new(Plugin { origin, current, process, shared, meter, stuck });
        plugin.shared.log().supervision.plugin = Arc::downgrade(&plugin);
        let loaded = plugin.shared.moment();
        if let Err(closed) = environment.add(&plugin) {
            plugin.stop_now();
            return Err(closed);
        }
        plugin.event(&loaded, "loaded", None);
        Ok(plugin)
    }

    /// What [`load`](Self::load) would grant to the manifest under this identity; nothing is loaded, and nothing audited.
    pub fn admit(environment: &Environment, policy: &Policy, identity: &str, manifest: &Manifest) -> Result<Admission> {
        check_identity(identity)?;
        environment.check_open()?;
        policy.check(identity, manifest, environment.protected()).map_err(|e| e.with_plugin(identity))
    }

    /// Checks the config (empty: absent) and hands it to the plugin. A config that is refused leaves it as it was; any other failure is `error`.
    pub fn start(&self, config: &[u8], call: &Call) -> Result<()> {
        self.start_once(config, call).map_err(|e| e.with_plugin(self.identity()))
    }

    fn start_once(&self, config: &[u8], call: &Call) -> Result<()> {
        let _changing = self.shared.change(What::Start)?;
        let state = self.state();
        if state != State::Loading {
            return Err(self.wrong_state("started").1);
        }
        let version = self.current.load();
        let text = version.configure(config, &call.deadline)?;
        if let Err(e) = version.runner.start(&text, call) {
            self.shared.failed(&e);
            if e.kind() != Kind::InvalidConfig
                && let Ok(moment) = self.shared.advance(&[State::Loading], State::Error)
            {
                self.event(&moment, "start_failed", Some(e.message()));
            }
            return Err(e);
        }
        self.shared.log().started = Some((Instant::now(), SystemTime::now()));
        let moment = self.shared.advance(&[State::Loading], State::Running).map_err(|_| self.wrong_state("started").1)?;
        self.event(&moment, "started", None);
        Ok(())
    }

    /// How the plugin is; in every state, and never a failure.
    pub fn health(&self) -> Value {
        let state = self.state();
        let version = self.current.load();
        let asked = (state == State::Running).then(|| version.runner.health());
        let log = self.shared.log();
        // Under the lock, as for the measures: this version's counts are not yet among those that are kept.
        let counted = self.current.look();
        let pool = counted.runner.stats().map(|stats| self.meter.with_kept(stats));
        let uptime = log.started.filter(|_| state == State::Running).map_or(0, |(at, _)| at.elapsed().as_nanos() as u64);
        let ready = asked.as_ref().is_some_and(|h| h.ready);
        let last_error = asked.map(|h| h.last_error).filter(|e| !e.is_empty()).unwrap_or_else(|| log.last_error.clone());
        let mut health = json!({"ready": ready, "last_error": last_error, "uptime_ns": uptime, "state": state.name(), "restarts": log.supervision.restarts});
        if let Some(members) = health.as_object_mut() {
            members.extend(pool.map(|stats| ("pool".to_owned(), info::pool(&stats))));
            members.extend(log.supervision.crash.clone().map(|crash| ("crash".to_owned(), crash)));
        }
        // Before what was looked at: to let go of that may be the end of a version that was replaced.
        drop(log);
        health
    }

    /// What the plugin is and what it was granted.
    pub fn info(&self) -> Value {
        let version = self.current.load();
        info::info(&version.manifest, &version.context, &version.requests, version.runner.interface())
    }

    /// Where it stands.
    pub fn state(&self) -> State {
        self.shared.state()
    }

    /// Whether calls are answered by a process, which their threads wait for; while it is reloaded, either may be told.
    #[inline]
    pub fn is_process(&self) -> bool {
        self.process.load(Ordering::Relaxed)
    }

    /// Who it is.
    pub fn identity(&self) -> &str {
        &self.origin.identity
    }

    /// What it was made from, as of now.
    pub fn manifest(&self) -> Arc<Manifest> {
        self.current.load().manifest.clone()
    }

    /// How it fares, without asking it.
    pub fn vitals(&self) -> Vitals {
        let (log, visits) = (self.shared.log(), self.current.visits());
        let (started_at, last_error) = (log.started.map(|(_, at)| at), log.last_error.clone());
        Vitals {
            state: self.state(),
            started_at,
            last_error,
            restarts: log.supervision.restarts,
            calls: visits.counted,
            in_flight: visits.inside,
        }
    }

    /// What there is to count of it.
    pub fn measures(&self) -> Measures {
        let (version, pool, restarts) = {
            let log = self.shared.log();
            // Let go of after the lock: that may be the end of a version that was replaced.
            let version = self.current.look();
            let pool = version.runner.stats().map(|stats| self.meter.with_kept(stats));
            (version, pool, u64::from(log.supervision.restarts))
        };
        let pid = version.runner.pid();
        // Before the visits are counted, of which it is one.
        drop(version);
        let (visits, up) = (self.current.visits(), self.state() == State::Running);
        let memory = match pid {
            Some(pid) => sys::resident(pid).filter(|_| up),
            None => Some(self.shared.versions().iter().map(|version| version.memory().load(Ordering::Relaxed)).sum()),
        };
        let (calls, in_flight) = (visits.counted, visits.inside);
        Measures { up, calls, in_flight, restarts, memory, pool, counts: self.meter.read() }
    }

    /// Those who are calling it. What a call may be using can be retired there.
    pub fn readers(&self) -> &'static Readers {
        self.current.readers()
    }

    /// Refuses new calls, waits for those in flight until `drain`, ends the rest with `cancelled`. Again: waits until it is over.
    ///
    /// Errors: `timeout` where a callback of a module's call has not returned: it is `stopped` nonetheless; `invalid state` from
    /// inside of its own call.
    pub fn stop(&self, drain: &Deadline) -> Result<()> {
        self.check_outside("stopped", &Chain::current())?;
        let Ok(moment) = self.shared.advance(&[State::Loading, State::Running, State::Error], State::Stopping) else {
            return self.wait_stopped(drain);
        };
        self.event(&moment, "stopping", None);
        let over = Over(&self.shared);
        self.shared.end_coming();
        let mut ended = self.current.load().runner.stop(drain);
        if !self.shared.settled_within(drain.remaining()) {
            self.end_calls();
            ended &= self.shared.settled_within(Some(ENDED_WITHIN));
        }
        let ended = if ended && self.unstuck(drain) { Ok(()) } else { Err(self.not_ended()) };
        drop(over);
        self.event(&self.shared.moment(), "stopped", ended.as_ref().err().map(Error::message));
        ended
    }

    /// `invalid state` for what waits for the plugin's own calls, where one of these, or a callback that is told of it, waits
    /// for this.
    fn check_outside(&self, what: &str, chain: &Chain) -> Result<()> {
        if !self.shared.versions().iter().any(|version| chain.holds(version.serial()) > 0 || version.is_telling()) {
            return Ok(());
        }
        let message = format!(
            "A plugin cannot be {what} from inside a callback of its own call: it would wait for itself. Free it, or do it from another thread."
        );
        Err(Error::new(Kind::InvalidState, message).with_plugin(self.identity()))
    }

    /// Waits for the stop that another thread began; past `drain` its drain is over too.
    fn wait_stopped(&self, drain: &Deadline) -> Result<()> {
        let mut stopped = self.shared.stopped_within(drain.remaining());
        if !stopped {
            self.end_calls();
            stopped = self.shared.stopped_within(Some(ENDED_WITHIN));
        }
        if stopped && self.current.load().runner.stop(drain) && self.unstuck(drain) { Ok(()) } else { Err(self.not_ended()) }
    }

    /// Waits for what was given up on before; whether nothing of it is left.
    fn unstuck(&self, drain: &Deadline) -> bool {
        let end = Deadline::after(UNSTUCK_WITHIN);
        let mut stuck = self.stuck();
        stuck.retain(|runner| !(runner.ended(drain) || runner.ended(&end)));
        stuck.is_empty()
    }

    fn stuck(&self) -> MutexGuard<'_, Vec<Runner>> {
        self.stuck.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cold]
    fn not_ended(&self) -> Error {
        let message = "A callback has not returned, so that not all of the plugin has ended. Keep what the callback uses, and stop the plugin again to wait for it.";
        Error::new(Kind::Timeout, message).with_plugin(self.identity())
    }

    /// Ends every call in flight with `cancelled`.
    fn end_calls(&self) {
        for version in self.shared.versions() {
            version.ending.cancel();
        }
    }

    /// Stops without a drain, wherever it is called.
    fn stop_now(&self) {
        Chain::default().scope(|| drop(self.stop(&Deadline::after(Duration::ZERO))));
    }

    /// Stops without a drain, on a thread of the library: for owners that let go and must not wait.
    pub fn stop_in_background(self: &Arc<Self>) {
        let plugin = self.clone();
        if self.state() != State::Stopped {
            let stop = move || {
                sys::block_signals();
                plugin.stop_now();
            };
            let own = std::thread::Builder::new().name("flowplug-stop".into());
            if own.spawn(stop).is_err() {
                let plugin = self.clone();
                drop(self.origin.environment.handle().spawn_blocking(move || plugin.stop_now()));
            }
        }
    }

    /// Why the plugin cannot be started, reloaded or called in its state, which is read once more: a restart may have ended
    /// meanwhile, and only under the lock does what is known belong to the state.
    #[cold]
    fn wrong_state(&self, what: &str) -> (State, Error) {
        let (state, cause, crashed, supervised) = {
            let log = self.shared.log();
            (self.state(), log.last_error.clone(), log.crashed, log.supervision.hint())
        };
        let hint = match state {
            State::Loading => "start it first",
            State::Running => "it runs already",
            State::Stopping | State::Stopped => "load it anew",
            State::Error => "see its last error; reload it, or stop it and load it anew",
        };
        let hint = supervised.as_deref().filter(|_| state == State::Error).unwrap_or(hint);
        let cause = if state == State::Error && !cause.is_empty() { format!(" ({cause})") } else { String::new() };
        // A process that ended is not the caller's mistake.
        let kind = if state == State::Error && crashed { Kind::Unavailable } else { Kind::InvalidState };
        (state, Error::new(kind, format!("The plugin cannot be {what} in the state {:?}: {hint}{cause}.", state.name())))
    }

    fn event(&self, moment: &Moment, kind: &str, cause: Option<&str>) {
        self.tell(&info::event(moment, kind, self.identity(), cause));
    }

    fn tell(&self, event: &str) {
        self.current.load().context.event(event);
    }
}

/// An identity is a relative path of plain components: it names folders and prefixes keys.
fn check_identity(identity: &str) -> Result<()> {
    let plain = |c: &str| !matches!(c, "" | "." | "..") && c.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
    if identity.len() <= 255 && identity.split('/').all(plain) {
        return Ok(());
    }
    Err(Error::new(
        Kind::InvalidArgument,
        format!(
            "{identity:?} is not an identity: use letters, digits, '.', '_', '-' and '/' between components, at most 255 bytes, no component empty, '.' or '..'."
        ),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities_are_plain_relative_paths() {
        for good in ["bookmarks", "org/repo", "a.b_c-d/E9"] {
            check_identity(good).unwrap();
        }
        for bad in ["", "/a", "a/", "a//b", ".", "a/../b", "a b", "ä", "a:b", &"x".repeat(256)] {
            assert_eq!(check_identity(bad).unwrap_err().kind(), Kind::InvalidArgument, "{bad:?}");
        }
    }
}
