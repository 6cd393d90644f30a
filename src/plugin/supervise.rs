//! A plugin whose process ended is started again: so many times in a row, each try later than the one before.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::sync::oneshot;

use crate::call::{Call, Deadline};
use crate::error::{Error, Kind};
use crate::manifest::{Restart, RestartPolicy};
use crate::plugin::Plugin;
use crate::plugin::state::What;
use crate::sys;

/// The longest pause before a try.
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// After so long without a crash, the next one is the first again.
const HEALTHY: Duration = Duration::from_secs(60);

/// How soon it is looked again whether a reload that is in progress has taken the place of a restart.
const RELOADING: Duration = Duration::from_millis(100);

/// How long the last calls of a process that is gone may take to learn it; what takes longer ends with `cancelled`.
const LEARNED: Duration = Duration::from_secs(5);

/// The tries of a host that begin at once: what crashed together must not come back in one rush.
pub(super) const TRIES: usize = 8;

/// How long a try keeps its turn, where it takes longer: by then it mostly waits for a process that hangs, which is no reason
/// for others to.
const TURN: Duration = Duration::from_secs(5);

/// What is known of a plugin's crashes, and what follows.
#[derive(Debug, Default)]
pub(super) struct Supervision {
    /// The plugin, once it is loaded.
    pub(super) plugin: Weak<Plugin>,
    /// How the last crash ended the process, and what it printed: the details of its error.
    pub(super) crash: Option<Value>,
    /// The restarts that succeeded, of all time.
    pub(super) restarts: u32,
    /// The tries since it was last well, and how many there may be.
    tries: (u32, u32),
    next: Next,
}

#[derive(Clone, Copy, Debug, Default)]
enum Next {
    /// It runs, or nobody starts it again.
    #[default]
    Nothing,
    /// It is tried then.
    At(Instant),
    /// It has been tried often enough.
    GivenUp,
}

impl Supervision {
    /// Its process ended after it had run for so long (none: it never ran). The pause before the next try; none: there is
    /// no other.
    pub(super) fn crashed(&mut self, ran: Option<Duration>, error: &Error, policy: Option<Restart>) -> Option<Duration> {
        self.crash = Some(Value::Object(error.details().clone()));
        if ran.is_some_and(|ran| ran >= HEALTHY) {
            self.tries.0 = 0;
        }
        let policy = policy.filter(|_| ran.is_some())?;
        self.fails(policy)
    }

    /// The pause before the next try.
    fn fails(&mut self, Restart { policy, max_restarts, backoff }: Restart) -> Option<Duration> {
        self.next = Next::Nothing;
        self.tries.1 = max_restarts;
        if policy == RestartPolicy::Never {
            return None;
        }
        if self.tries.0 >= max_restarts {
            self.next = Next::GivenUp;
            return None;
        }
        self.tries.0 += 1;
        let pause = pause(backoff, self.tries.0, chance());
        self.next = Next::At(Instant::now() + pause);
        Some(pause)
    }

    /// Another version runs: after a restart, or (`anew`) after a reload, which is nobody's retry.
    pub(super) fn runs(&mut self, anew: bool) {
        self.next = Next::Nothing;
        if anew {
            self.tries.0 = 0;
        } else {
            self.restarts = self.restarts.saturating_add(1);
        }
    }

    /// What is to be done about a plugin whose process ended.
    pub(super) fn hint(&self) -> Option<String> {
        let (tries, most) = self.tries;
        match self.next {
            Next::Nothing => None,
            Next::At(moment) => Some(match moment.saturating_duration_since(Instant::now()).as_millis() {
                0 => format!("it is being started again (try {tries} of {most}); call it again soon"),
                left => format!("it is started again in {left} ms (try {tries} of {most}); call it again then"),
            }),
            Next::GivenUp => Some(format!(
                "it failed again after {most} restarts, the most that grpc.restart.max_restarts allows, and is left as it is; see its last error, \
                 then reload it, or stop it and load it anew"
            )),
        }
    }
}

/// Doubled with each try, and up to a quarter longer by chance, so that what crashed together does not come back together.
fn pause(backoff: Duration, tries: u32, chance: u8) -> Duration {
    let doubled = backoff.saturating_mul(1u32.checked_shl(tries.saturating_sub(1)).unwrap_or(u32::MAX)).min(PAUSE_MAX);
    doubled + doubled / 1024 * u32::from(chance)
}

fn chance() -> u8 {
    let mut byte = [0];
    // Without chance it is as well.
    let _same = getrandom::fill(&mut byte);
    byte[0]
}

impl Plugin {
    /// Starts it again after a pause, if the version with this number is still the one that crashed then. A stop or another
    /// version ends the wait.
    pub(super) fn restart_later(self: &Arc<Self>, crashed: u32, pause: Duration) {
        let (plugin, ending) = (Arc::downgrade(self), self.current.load().context.ending.clone());
        let tries = self.origin.environment.tries();
        drop(self.origin.environment.handle().spawn(async move {
            let turn = async {
                tokio::time::sleep(pause).await;
                tries.acquire().await
            };
            let turn = tokio::select! {
                biased;
                () = ending.cancelled() => return,
                turn = turn => turn,
            };
            let Some(plugin) = plugin.upgrade() else { return };
            let (trying, over) = oneshot::channel();
            plugin.restart_on_thread(crashed, trying);
            let _either = tokio::time::timeout(TURN, over).await;
            drop(turn);
        }));
    }

    /// A thread of its own, so that those that hang hold up nothing else.
    fn restart_on_thread(self: Arc<Self>, crashed: u32, trying: oneshot::Sender<()>) {
        let own = self.clone();
        let work = move || {
            sys::block_signals();
            own.restart(crashed, trying);
        };
        let thread = std::thread::Builder::new().name("flowplug-restart".into()).stack_size(sys::STACK_SIZE);
        if thread.spawn(work).is_err() {
            self.restart_later(crashed, RELOADING);
        }
    }

    /// One try; `trying` is dropped when it is decided, before anybody is told of it.
    fn restart(self: &Arc<Self>, crashed: u32, trying: oneshot::Sender<()>) {
        let Ok(changing) = self.shared.change(What::Restart) else { return self.restart_later(crashed, RELOADING) };
        if !self.shared.is_lost(crashed) {
            return;
        }
        let version = self.current.load();
        let (manifest, config) = (version.manifest.clone(), version.config());
        let call = Call::new(Deadline::never());
        let tried = self.bring_up(manifest, config.as_bytes(), &call).and_then(|next| self.exchange(next, &changing));
        drop(trying);
        match tried {
            Ok((old, _, moment)) => {
                drop(changing);
                self.event(&moment, "restarted", None);
                // What is left of it: its folder, and calls that are about to learn that it is gone.
                self.end_old(old, &Deadline::after(LEARNED));
            }
            // It was stopped, or a reload takes its place; where that fails, this goes on.
            Err(e) if e.kind() == Kind::Cancelled => self.restart_later(crashed, RELOADING),
            Err(e) => {
                let failed = self.shared.restart_failed(&e, |supervision| supervision.fails(version.restart()?));
                let Some((next, moment)) = failed else { return };
                self.event(&moment, "restart_failed", Some(e.message()));
                if let Some(pause) = next {
                    self.restart_later(crashed, pause);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(policy: RestartPolicy, max_restarts: u32) -> Restart {
        Restart { policy, max_restarts, backoff: Duration::from_millis(200) }
    }

    #[test]
    fn pauses_double_up_to_a_bound_and_differ() {
        let seconds = |tries, chance| pause(Duration::from_millis(200), tries, chance).as_secs_f64();
        assert_eq!([1, 2, 3, 4].map(|tries| seconds(tries, 0)), [0.2, 0.4, 0.8, 1.6]);
        for tries in [9, 33, 1_000_000] {
            assert_eq!(seconds(tries, 0), 30.0);
            assert!((37.0..37.5).contains(&seconds(tries, 255)));
        }
        assert_eq!(pause(Duration::MAX, 7, 0), PAUSE_MAX);
    }

    #[test]
    fn tries_in_a_row_are_bounded_and_a_minute_of_health_forgets_them() {
        let (error, brief) = (Error::new(Kind::Unavailable, "x"), Some(Duration::from_secs(59)));
        let three = || Some(policy(RestartPolicy::OnFailure, 3));
        let mut own = Supervision::default();
        for tries in 1..=3 {
            let pause = own.crashed(brief, &error, three()).unwrap();
            assert!(pause >= Duration::from_millis(100 << tries));
            assert!(own.hint().unwrap().contains(&format!("try {tries} of 3")));
            own.runs(false);
            assert!(own.hint().is_none());
        }
        assert_eq!(own.crashed(brief, &error, three()), None);
        assert!(own.hint().unwrap().contains("after 3 restarts"));
        assert_eq!(own.restarts, 3);
        // One more after a reload, or after a minute.
        own.runs(true);
        assert!(own.crashed(brief, &error, three()).is_some());
        own.tries.0 = 3;
        assert!(own.crashed(Some(HEALTHY), &error, three()).unwrap() < Duration::from_millis(300));
    }

    #[test]
    fn what_never_ran_or_asks_for_it_is_not_started_again() {
        let error = Error::new(Kind::Unavailable, "x");
        let mut own = Supervision::default();
        assert_eq!(own.crashed(None, &error, Some(policy(RestartPolicy::OnFailure, 3))), None);
        assert_eq!(own.crashed(Some(HEALTHY), &error, Some(policy(RestartPolicy::Never, 3))), None);
        assert!(own.hint().is_none());
    }
}
