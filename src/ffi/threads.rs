//! The threads of detached callbacks: made when there is work, kept for a while, bounded in number.
//!
//! Requests run several at once. What needs no answer stands in two lines, each in its order on one thread at a time:
//! records and events, and the requests that nobody waits for any more.

use std::collections::{HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::error::{Error, Kind, Result};
use crate::host::PluginContext;
use crate::sys;

/// Requests at once; each has a thread to itself for as long as its callback runs, hangs or not.
const AT_ONCE: usize = 256;
/// Of those, for one plugin: its instances never ask for more at once, but what they asked for in calls that are over may
/// hang. Nor does a process.
const OF_ONE: usize = 32;
/// How long a thread waits for more.
const IDLE: Duration = Duration::from_secs(10);
/// Bytes of records and events that wait for their callbacks; more are lost, and counted.
const RECORDS_MAX: usize = 16 << 20;
/// Requests that wait to be dropped, past which no more are asked.
const DROPS_MAX: usize = 1024;

pub(crate) type Job = Box<dyn FnOnce() + Send>;

/// The threads of one host.
pub(crate) struct Threads {
    state: Mutex<State>,
    work: Condvar,
    at_once: usize,
    idle: Duration,
}

#[derive(Default)]
struct State {
    /// Never more than threads are idle.
    jobs: VecDeque<Job>,
    idle: usize,
    threads: usize,
    /// Those that have begun or are about to, by the plugins that ask.
    requests: HashMap<u32, usize>,
    ended: bool,
    lines: [Line; 2],
    lost: u64,
}

#[derive(Default)]
struct Line {
    jobs: VecDeque<(usize, Job)>,
    bytes: usize,
    /// A thread is at it.
    served: bool,
}

/// Whose requests are bounded together.
#[derive(Clone, Copy)]
pub(crate) struct Share {
    plugin: u32,
    most: usize,
}

impl Share {
    /// A plugin's: what each of its instances may ask, or what a process may.
    pub(crate) fn of(context: &PluginContext) -> Self {
        let instances = usize::try_from(context.grants().max_instances).unwrap_or(usize::MAX);
        Share { plugin: context.serial(), most: OF_ONE.max(instances) }
    }
}

/// A request's place among those at once.
struct Place(Arc<Threads>, u32);

impl Drop for Place {
    fn drop(&mut self) {
        let requests = &mut self.0.state().requests;
        let left = requests.remove(&self.1).map_or(0, |count| count - 1);
        if left > 0 {
            requests.insert(self.1, left);
        }
    }
}

#[derive(Clone, Copy)]
enum Of {
    Records,
    Drops,
}

impl Default for Threads {
    fn default() -> Self {
        Threads { state: Mutex::default(), work: Condvar::new(), at_once: AT_ONCE, idle: IDLE }
    }
}

impl Threads {
    /// Runs a request's callback on a thread of its own; `busy` if all are taken, or all that one plugin may have. A job that
    /// is refused is dropped.
    pub(crate) fn run(self: &Arc<Self>, share: Share, job: Job) -> Result<()> {
        let mut state = self.state();
        if state.line(Of::Drops).jobs.len() >= DROPS_MAX {
            let message = format!("{DROPS_MAX} ended requests wait for the host's request_dropped callback; it must return.");
            return Err(Error::new(Kind::Busy, message));
        }
        let own = state.requests.get(&share.plugin).copied().unwrap_or(0);
        if own >= share.most {
            let message =
                format!("{own} callbacks that this plugin asked for have not returned, the most at once; call again when some have.");
            return Err(Error::new(Kind::Busy, message));
        }
        if state.requests.values().sum::<usize>() >= self.at_once {
            let message = format!("{} callbacks of the host have not returned, the most at once; call again when some have.", self.at_once);
            return Err(Error::new(Kind::Busy, message));
        }
        state.requests.insert(share.plugin, own + 1);
        let place = Place(self.clone(), share.plugin);
        self.start(
            state,
            Box::new(move || {
                let _place = place;
                job();
            }),
        )
    }

    /// Runs the callback of a record or an event of about so many bytes, after those before it; none if too many wait, else
    /// how many were lost since the last that was taken.
    pub(crate) fn tell(self: &Arc<Self>, bytes: usize, job: Job) -> Option<u64> {
        let mut state = self.state();
        if state.line(Of::Records).bytes >= RECORDS_MAX {
            state.lost += 1;
            return None;
        }
        let lost = std::mem::take(&mut state.lost);
        self.queue(state, Of::Records, bytes, job);
        Some(lost)
    }

    /// Runs the callback of a request that nobody waits for; none is lost.
    pub(crate) fn drop_request(self: &Arc<Self>, job: Job) {
        self.queue(self.state(), Of::Drops, 0, job);
    }

    /// Lets idle threads end at once, and the others when they have done what they do.
    pub(crate) fn end(&self) {
        self.state().ended = true;
        self.work.notify_all();
    }

    fn queue(self: &Arc<Self>, mut state: MutexGuard<'_, State>, of: Of, bytes: usize, job: Job) {
        let line = state.line(of);
        line.bytes += bytes;
        line.jobs.push_back((bytes, job));
        if std::mem::replace(&mut line.served, true) {
            return;
        }
        let own = self.clone();
        // Without a thread, whoever has something to tell tells it.
        if self.start(state, Box::new(move || own.serve(of))).is_err() {
            self.serve(of);
        }
    }

    /// Runs what stands in a line until it is empty.
    fn serve(&self, of: Of) {
        loop {
            let mut state = self.state();
            let line = state.line(of);
            let Some((bytes, job)) = line.jobs.pop_front() else {
                line.served = false;
                return;
            };
            line.bytes -= bytes;
            drop(state);
            run(job);
        }
    }

    /// Gives a job to an idle thread or to a new one: as many as there are requests and lines at once.
    fn start(self: &Arc<Self>, mut state: MutexGuard<'_, State>, job: Job) -> Result<()> {
        if state.jobs.len() < state.idle {
            state.jobs.push_back(job);
            drop(state);
            self.work.notify_one();
            return Ok(());
        }
        state.threads += 1;
        drop(state);
        let own = self.clone();
        let thread = std::thread::Builder::new().name("flowplug-host".to_owned()).stack_size(sys::STACK_SIZE);
        let work = move || {
            sys::block_signals();
            own.work(job);
        };
        thread.spawn(work).map(drop).map_err(|e| {
            self.state().threads -= 1;
            Error::new(
                Kind::Busy,
                format!("The system refused a thread for a host callback: {e}. Check the limits on processes and memory."),
            )
        })
    }

    fn work(&self, first: Job) {
        let mut next = Some(first);
        while let Some(job) = next {
            run(job);
            next = self.next();
        }
    }

    /// The next job; none if this thread is to end.
    fn next(&self) -> Option<Job> {
        let until = Instant::now() + self.idle;
        let mut state = self.state();
        state.idle += 1;
        loop {
            let job = state.jobs.pop_front();
            let left = until.saturating_duration_since(Instant::now());
            if job.is_some() || state.ended || left.is_zero() {
                state.idle -= 1;
                state.threads -= usize::from(job.is_none());
                return job;
            }
            state = self.work.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn line(&mut self, of: Of) -> &mut Line {
        let [records, drops] = &mut self.lines;
        match of {
            Of::Records => records,
            Of::Drops => drops,
        }
    }
}

/// A panic of ours must not take the thread from those who wait for it.
fn run(job: Job) {
    drop(catch_unwind(AssertUnwindSafe(job)));
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{Receiver, Sender, channel};

    /// Of one plugin that may have all.
    const ALL: Share = Share { plugin: 1, most: AT_ONCE };

    fn threads(at_once: usize, idle: Duration) -> Arc<Threads> {
        Arc::new(Threads { at_once, idle, ..Threads::default() })
    }

    /// A job that says that it has begun, and ends when its other end is dropped.
    fn hanging(begun: &Sender<()>) -> (Job, Sender<()>) {
        let (release, held): (Sender<()>, Receiver<()>) = channel();
        let begun = begun.clone();
        let job = move || {
            begun.send(()).unwrap();
            held.recv().unwrap_err();
        };
        (Box::new(job), release)
    }

    fn until(ready: impl Fn() -> bool) {
        let bound = Instant::now() + Duration::from_secs(60);
        while !ready() {
            assert!(Instant::now() < bound);
            std::thread::yield_now();
        }
    }

    #[test]
    fn what_hangs_is_bounded_and_the_lines_go_on() {
        let threads = threads(2, IDLE);
        let (begun, begins) = channel();
        let held: Vec<_> = (0..2)
            .map(|_| {
                let (job, release) = hanging(&begun);
                threads.run(ALL, job).unwrap();
                release
            })
            .collect();
        begins.iter().take(2).for_each(drop);
        assert_eq!(threads.run(ALL, Box::new(|| ())).unwrap_err().kind(), Kind::Busy);
        let (told, tells) = channel();
        for n in 0..100 {
            let told = told.clone();
            assert_eq!(threads.tell(1, Box::new(move || told.send(n).unwrap())), Some(0));
        }
        assert!(tells.iter().take(100).eq(0..100));
        let dropped = begun.clone();
        threads.drop_request(Box::new(move || dropped.send(()).unwrap()));
        begins.recv().unwrap();
        drop(held);
        until(|| threads.run(ALL, Box::new(|| ())).is_ok());
        threads.end();
        until(|| threads.state().threads == 0);
    }

    #[test]
    fn a_plugin_whose_callbacks_hang_has_its_share_and_leaves_the_rest() {
        let threads = threads(3, IDLE);
        let (begun, begins) = channel();
        let hang = |plugin| {
            let (job, release) = hanging(&begun);
            threads.run(Share { plugin, most: 2 }, job).map(|()| release).map_err(|e| e.message().to_owned())
        };
        let held = [hang(1).unwrap(), hang(1).unwrap()];
        assert!(hang(1).unwrap_err().contains("2 callbacks that this plugin"));
        let other = hang(2).unwrap();
        assert!(hang(2).unwrap_err().contains("3 callbacks of the host"));
        begins.iter().take(3).for_each(drop);
        drop(other);
        until(|| threads.state().requests.len() == 1);
        drop((hang(2).unwrap(), held));
        until(|| threads.state().requests.is_empty());
        threads.end();
    }

    #[test]
    fn idle_threads_serve_again_and_end() {
        let threads = threads(1, Duration::from_millis(20));
        let (done, ends) = channel();
        for _ in 0..50 {
            let done = done.clone();
            // The place of the one before is free a moment after it has said so.
            until(|| threads.state().requests.is_empty());
            threads.run(ALL, Box::new(move || done.send(()).unwrap())).unwrap();
            ends.recv().unwrap();
        }
        until(|| threads.state().requests.is_empty());
        threads.run(ALL, Box::new(|| panic!("of a job"))).unwrap();
        until(|| threads.state().threads == 0);
        assert!(threads.state().jobs.is_empty());
    }

    #[test]
    fn records_past_the_bound_are_lost_and_counted() {
        let threads = threads(1, IDLE);
        let (begun, begins) = channel();
        let (job, release) = hanging(&begun);
        assert_eq!(threads.tell(1, job), Some(0));
        begins.recv().unwrap();
        assert_eq!(threads.tell(RECORDS_MAX, Box::new(|| ())), Some(0));
        assert_eq!(threads.tell(1, Box::new(|| ())), None);
        assert_eq!(threads.tell(1, Box::new(|| ())), None);
        drop(release);
        until(|| threads.state().line(Of::Records).bytes == 0);
        assert_eq!(threads.tell(1, Box::new(|| ())), Some(2));
        threads.end();
    }
}
