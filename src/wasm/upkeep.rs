//! What keeps a pool in shape beside its calls: a fresh instance in the place of one that broke, made on a thread of its own
//! so that the next call does not pay for it, and the end of instances that nobody uses any more.
//!
//! Threads live only while there is something to do: one for each plugin that lacks an instance, one for all that have
//! instances to spare.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use super::Plugin;
use super::lease::Lease;
use super::refill::Refill;
use super::state::Running;
use crate::call::{Call, Deadline};
use crate::error::Result;
use crate::sys;

/// How often the instances of all plugins are looked at: one that is unused from one look to the next is ended, so after 30
/// to 60 seconds.
const SWEEP: Duration = Duration::from_secs(30);

/// How long the making of an instance in the background may hold its place: past this a call makes its own, in its own time.
const REFILL_WITHIN: Duration = Duration::from_secs(1);

static KEEPER: Keeper = Keeper::new(SWEEP);

/// The upkeep of one plugin.
#[derive(Default)]
pub(super) struct Upkeep {
    plugin: OnceLock<Weak<Plugin>>,
    /// Of instances that broke.
    refill: Refill,
    /// The keeper knows of it.
    watched: AtomicBool,
}

impl Upkeep {
    /// Whose it is; until then nothing is done.
    pub(super) fn begin(&self, plugin: &Arc<Plugin>) {
        self.plugin.get_or_init(|| Arc::downgrade(plugin));
    }

    /// An instance was made.
    pub(super) fn gained(&self, live: usize) {
        self.refill.gained();
        if live > 1
            && let Some(plugin) = self.plugin.get()
            && !self.watched.swap(true, Ordering::SeqCst)
        {
            KEEPER.watch(plugin.clone());
        }
    }

    /// An instance broke, and its place is free: another is made in the background. Where that fails nothing is said: the
    /// next call makes its own and reports.
    pub(super) fn lost(&self) {
        let begins = self.refill.lost();
        if !begins {
            return;
        }
        let Some(plugin) = self.plugin.get().and_then(Weak::upgrade) else { return self.refill.stop() };
        let thread = std::thread::Builder::new().name("flowplug-refill".to_owned()).stack_size(sys::STACK_SIZE);
        let refilling = Refilling { plugin, active: true };
        // The thread that does not start drops what it was given.
        drop(thread.spawn(move || {
            sys::block_signals();
            refilling.run();
        }));
    }
}

impl Drop for Upkeep {
    fn drop(&mut self) {
        if *self.watched.get_mut() {
            KEEPER.look();
        }
    }
}

/// While it lives, a thread makes the instances that a plugin lacks.
struct Refilling {
    plugin: Arc<Plugin>,
    active: bool,
}

impl Refilling {
    fn run(mut self) {
        self.plugin.upkeep.refill.run(|| matches!(self.plugin.replace(), Ok(true)));
        self.active = false;
    }
}

impl Drop for Refilling {
    fn drop(&mut self) {
        if self.active {
            self.plugin.upkeep.refill.stop();
        }
    }
}

impl Plugin {
    /// Makes and initialises an instance in a place that is free; whether there was one that nobody else waits for.
    fn replace(&self) -> Result<bool> {
        let (Some(config), Some(turn)) = (self.config.get(), self.pool.try_vacant()) else { return Ok(false) };
        let mut lease = Lease::new(self, turn);
        let _surroundings = self.blueprint.enter()?;
        let call = Call::new(Deadline::after(REFILL_WITHIN));
        self.prepare(&mut lease, config, &self.due(&call, Running::Own("init"))?)?;
        lease.keep();
        Ok(true)
    }
}

/// What the keeper looks at.
trait Sweep: Send + Sync {
    /// Ends what nobody uses; whether it must be called again.
    fn sweep(&self) -> bool;
}

impl Sweep for Plugin {
    fn sweep(&self) -> bool {
        // Before the look: an instance that is made during it is watched anew.
        self.upkeep.watched.store(false, Ordering::SeqCst);
        self.pool.sweep() && !self.upkeep.watched.swap(true, Ordering::SeqCst)
    }
}

/// The thread that ends what nobody uses. It lives while it has something to watch.
struct Keeper {
    period: Duration,
    watched: Mutex<Watched>,
    changed: Condvar,
}

struct Watched {
    plugins: Vec<Weak<dyn Sweep>>,
    running: bool,
}

impl Keeper {
    const fn new(period: Duration) -> Self {
        Keeper { period, watched: Mutex::new(Watched { plugins: Vec::new(), running: false }), changed: Condvar::new() }
    }

    fn watch(&'static self, plugin: Weak<dyn Sweep>) {
        let mut watched = self.watched();
        watched.plugins.push(plugin);
        if !watched.running {
            let thread = std::thread::Builder::new().name("flowplug-keeper".to_owned()).stack_size(sys::STACK_SIZE);
            watched.running = thread.spawn(|| self.run()).is_ok();
        }
    }

    /// Lets it see that a plugin is gone.
    fn look(&self) {
        drop(self.watched());
        self.changed.notify_all();
    }

    fn run(&self) {
        sys::block_signals();
        let mut due = Instant::now() + self.period;
        let mut watched = self.watched();
        loop {
            watched.plugins.retain(|plugin| plugin.strong_count() > 0);
            if watched.plugins.is_empty() {
                watched.running = false;
                return;
            }
            let left = due.saturating_duration_since(Instant::now());
            if !left.is_zero() {
                watched = self.changed.wait_timeout(watched, left).unwrap_or_else(PoisonError::into_inner).0;
                continue;
            }
            let plugins = std::mem::take(&mut watched.plugins);
            drop(watched);
            let rest: Vec<_> = plugins.into_iter().filter(|plugin| plugin.upgrade().is_some_and(|plugin| plugin.sweep())).collect();
            due = Instant::now() + self.period;
            watched = self.watched();
            watched.plugins.extend(rest);
        }
    }

    fn watched(&self) -> MutexGuard<'_, Watched> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{Sender, channel};

    struct Three(Mutex<(u32, Sender<u32>)>);

    impl Sweep for Three {
        fn sweep(&self) -> bool {
            let mut state = self.0.lock().unwrap();
            state.0 += 1;
            state.1.send(state.0).unwrap();
            state.0 < 3
        }
    }

    fn ended(keeper: &Keeper) {
        while keeper.watched().running {
            std::thread::yield_now();
        }
    }

    #[test]
    fn the_keeper_sweeps_until_there_is_nothing_more_and_ends() {
        static KEEPER: Keeper = Keeper::new(Duration::from_millis(1));
        let (sender, swept) = channel();
        for _ in 0..2 {
            let three: Arc<dyn Sweep> = Arc::new(Three(Mutex::new((0, sender.clone()))));
            KEEPER.watch(Arc::downgrade(&three));
            assert_eq!([1, 2, 3], [0; 3].map(|_| swept.recv().unwrap()));
            ended(&KEEPER);
        }
    }

    #[test]
    fn two_who_come_first_at_the_same_time_have_one_keeper() {
        static KEEPER: Keeper = Keeper::new(Duration::from_millis(1));
        for _ in 0..50 {
            let (sender, swept) = channel();
            let both: [Arc<dyn Sweep>; 2] = [0, 0].map(|none| Arc::new(Three(Mutex::new((none, sender.clone())))) as Arc<dyn Sweep>);
            let together = std::sync::Barrier::new(2);
            std::thread::scope(|scope| {
                for three in &both {
                    scope.spawn(|| {
                        together.wait();
                        KEEPER.watch(Arc::downgrade(three));
                    });
                }
            });
            let mut seen = [0; 6].map(|_| swept.recv().unwrap());
            seen.sort_unstable();
            assert_eq!(seen, [1, 1, 2, 2, 3, 3]);
            ended(&KEEPER);
        }
    }

    #[test]
    fn the_keeper_ends_with_the_last_plugin() {
        static KEEPER: Keeper = Keeper::new(Duration::from_secs(3600));
        let three: Arc<dyn Sweep> = Arc::new(Three(Mutex::new((0, channel().0))));
        KEEPER.watch(Arc::downgrade(&three));
        assert!(KEEPER.watched().running);
        drop(three);
        KEEPER.look();
        ended(&KEEPER);
    }
}
