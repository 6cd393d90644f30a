//! What every call carries: how long it may take, what can end it, whose it is and where its answer goes.
//!
//! Nothing here reads the clock until somebody asks: a warm wasm call that ends within a tick never does.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use crate::error::{Error, Kind, Result};

pub use deadline::Deadline;

mod deadline;

/// Calls a plugin's host call may set off in turn before the innermost is refused as `busy`.
pub const MAX_DEPTH: usize = 8;

/// A token that ends the calls that carry it, from any thread. Sticky: once set it stays set.
#[derive(Clone, Debug, Default)]
pub struct Cancel(Arc<CancelState>);

#[derive(Debug, Default)]
struct CancelState {
    set: AtomicBool,
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    next: u64,
    wakers: Vec<(u64, Waker)>,
}

impl Cancel {
    /// A token that is not set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets it and wakes whoever waits. Again does nothing.
    pub fn cancel(&self) {
        self.0.set.store(true, Ordering::SeqCst);
        let woken = std::mem::take(&mut self.waiting().wakers);
        for (_, waker) in woken {
            waker.wake();
        }
    }

    /// Whether it is set.
    #[inline]
    pub fn is_set(&self) -> bool {
        self.0.set.load(Ordering::SeqCst)
    }

    /// Wakes `waker` when the token is set (at once if it is), until the guard is dropped.
    pub fn wake(&self, waker: Waker) -> WakeGuard<'_> {
        let mut waiting = self.waiting();
        let id = waiting.next;
        waiting.next += 1;
        waiting.wakers.push((id, waker.clone()));
        drop(waiting);
        if self.is_set() {
            waker.wake();
        }
        WakeGuard { cancel: self, id }
    }

    /// Resolves when the token is set.
    pub async fn cancelled(&self) {
        let mut guard = None;
        std::future::poll_fn(|cx: &mut Context<'_>| {
            if self.is_set() {
                return Poll::Ready(());
            }
            if guard.as_ref().is_none_or(|(waker, _): &(Waker, _)| !waker.will_wake(cx.waker())) {
                // Registered before the second look, so that a token set in between is not missed.
                guard = Some((cx.waker().clone(), self.wake(cx.waker().clone())));
            }
            if self.is_set() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, Waiting> {
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A registration of [`Cancel::wake`]; dropped, it is taken back.
#[derive(Debug)]
pub struct WakeGuard<'a> {
    cancel: &'a Cancel,
    id: u64,
}

impl Drop for WakeGuard<'_> {
    fn drop(&mut self) {
        let mut waiting = self.cancel.waiting();
        let own = waiting.wakers.iter().position(|(id, _)| *id == self.id).map(|own| waiting.wakers.swap_remove(own));
        // Behind the lock: a waker's end may be that of a task.
        drop(waiting);
        drop(own);
    }
}

/// A waker that unparks the thread that made it.
pub fn thread_waker() -> Waker {
    struct Unpark(std::thread::Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    Waker::from(Arc::new(Unpark(std::thread::current())))
}

/// The plugins whose calls led to this one, outermost first: what a nested call must not wait for. Copied, never shared.
#[derive(Clone, Copy, Debug, Default)]
pub struct Chain {
    depth: u8,
    plugins: [u32; MAX_DEPTH],
}

thread_local! {
    static CURRENT: Cell<Chain> = const { Cell::new(Chain { depth: 0, plugins: [0; MAX_DEPTH] }) };
}

impl Chain {
    /// The chain of the host callback that runs on this thread; empty outside of one.
    #[inline]
    pub fn current() -> Self {
        CURRENT.get()
    }

    /// This chain with one more plugin in it, by its [`serial`](crate::host::PluginContext::serial); `busy` past [`MAX_DEPTH`].
    #[inline]
    pub fn enter(mut self, serial: u32) -> Result<Self> {
        *self.plugins.get_mut(usize::from(self.depth)).ok_or_else(too_deep)? = serial;
        self.depth += 1;
        Ok(self)
    }

    /// `busy` where one more would be past [`MAX_DEPTH`].
    #[inline]
    pub fn check(&self) -> Result<()> {
        if usize::from(self.depth) < MAX_DEPTH { Ok(()) } else { Err(too_deep()) }
    }

    /// How many calls of this plugin are in the chain: so many of its instances cannot come free while we wait.
    pub fn holds(&self, serial: u32) -> usize {
        self.plugins.iter().take(usize::from(self.depth)).filter(|held| **held == serial).count()
    }

    /// Whether nothing led here but the embedding program.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.depth == 0
    }

    /// Runs `f`, a host callback, with this as the thread's chain.
    #[inline]
    pub fn scope<R>(self, f: impl FnOnce() -> R) -> R {
        struct Restore(Chain);
        impl Drop for Restore {
            fn drop(&mut self) {
                CURRENT.set(self.0);
            }
        }
        let _restore = Restore(CURRENT.replace(self));
        f()
    }
}

#[cold]
fn too_deep() -> Error {
    Error::new(
        Kind::Busy,
        format!(
            "Calls are nested more than {MAX_DEPTH} deep: a host callback called a plugin whose host callback called a plugin, and so on."
        ),
    )
}

/// One call on its way to a plugin.
#[derive(Clone, Debug)]
pub struct Call {
    /// When it has to be over: the smallest of the caller's, the manifest's and the policy's bound.
    pub deadline: Deadline,
    /// The caller's token.
    pub cancel: Option<Cancel>,
    /// The plugins whose host calls led here.
    pub chain: Chain,
    /// The embedding program's own mark, handed to its callbacks.
    pub tag: u64,
    /// W3C trace context, handed to callbacks and to the plugin; empty if none.
    pub traceparent: Box<str>,
    /// The caller parses the answer anyway: its envelope is located and its UTF-8 checked, no more.
    pub trust_json: bool,
}

impl Call {
    /// A call with this bound and nothing else, on this thread's chain.
    pub fn new(deadline: Deadline) -> Self {
        Call { deadline, cancel: None, chain: Chain::current(), tag: 0, traceparent: Box::default(), trust_json: false }
    }

    /// The same call, over at most this long after its start, which is now if it had none.
    #[must_use]
    pub fn within(self, limit: Duration) -> Self {
        let deadline = self.deadline.at_most(limit);
        deadline.begin();
        Call { deadline, ..self }
    }

    /// Resolves when the call may not go on: then [`check`](Self::check) says why.
    pub async fn over(&self) {
        let cancelled = async {
            match &self.cancel {
                Some(cancel) => cancel.cancelled().await,
                None => std::future::pending().await,
            }
        };
        let late = async {
            while let Some(left) = self.deadline.remaining().filter(|left| !left.is_zero()) {
                tokio::time::sleep(left).await;
            }
            if self.deadline.remaining().is_none() {
                std::future::pending().await
            }
        };
        tokio::select! {
            () = cancelled => (),
            () = late => (),
        }
    }

    /// `timeout` or `cancelled` if the call may not go on. Reads the clock if there is a deadline.
    pub fn check(&self) -> Result<()> {
        check(&self.deadline, &[self.cancel.as_ref()])
    }
}

/// `cancelled` if one of the tokens is set, `timeout` if the deadline has passed.
pub fn check(deadline: &Deadline, cancels: &[Option<&Cancel>]) -> Result<()> {
    if cancels.iter().flatten().any(|c| c.is_set()) {
        return Err(Error::new(Kind::Cancelled, "The call was cancelled."));
    }
    if deadline.expired() {
        return Err(Error::new(Kind::Timeout, "The call did not end before its deadline."));
    }
    Ok(())
}

/// Blocks this thread until `ready` gives a value, the deadline passes (`timeout`) or a token is set (`cancelled`).
/// `arm` is given the waker that whoever makes `ready` true must wake.
pub fn wait<T>(
    deadline: &Deadline,
    cancels: &[Option<&Cancel>],
    arm: impl FnOnce(Waker),
    mut ready: impl FnMut() -> Option<T>,
) -> Result<T> {
    if let Some(value) = ready() {
        return Ok(value);
    }
    let waker = thread_waker();
    let _guards: Vec<_> = cancels.iter().flatten().map(|c| c.wake(waker.clone())).collect();
    arm(waker);
    loop {
        if let Some(value) = ready() {
            return Ok(value);
        }
        check(deadline, cancels)?;
        match deadline.remaining() {
            Some(left) => std::thread::park_timeout(left),
            None => std::thread::park(),
        }
    }
}

/// Where the answer of a call goes. What it was given counts only if the call then returns ok: a plugin can still run past
/// its deadline while it frees what it answered with.
pub trait Sink: Send {
    /// Takes a copy of the answer, one JSON value in UTF-8.
    fn put(&mut self, json: &[u8]);

    /// Takes over the answer, where it is owned already.
    fn give(&mut self, json: Vec<u8>) {
        self.put(&json);
    }
}

impl Sink for Vec<u8> {
    fn put(&mut self, json: &[u8]) {
        self.clear();
        self.extend_from_slice(json);
    }

    fn give(&mut self, json: Vec<u8>) {
        *self = json;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_wakes_a_thread_that_waits_without_a_deadline() {
        let cancel = Cancel::new();
        let other = cancel.clone();
        let waiter = std::thread::spawn(move || wait::<()>(&Deadline::never(), &[Some(&other)], |_| (), || None));
        cancel.cancel();
        let error = waiter.join().unwrap().unwrap_err();
        assert_eq!(error.kind(), Kind::Cancelled);
        assert!(cancel.is_set());
    }

    #[test]
    fn a_registration_is_taken_back() {
        let cancel = Cancel::new();
        drop(cancel.wake(thread_waker()));
        assert!(cancel.waiting().wakers.is_empty());
    }

    #[test]
    fn a_future_that_is_polled_again_registers_once_and_follows_its_waker() {
        let cancel = Cancel::new();
        let (first, second) = (thread_waker(), thread_waker());
        let other = cancel.wake(first.clone());
        let mut cancelled = Box::pin(cancel.cancelled());
        for waker in [&first, &first, &second, &second] {
            assert!(cancelled.as_mut().poll(&mut Context::from_waker(waker)).is_pending());
        }
        let registered: Vec<_> = cancel.waiting().wakers.iter().map(|(_, waker)| waker.will_wake(&second)).collect();
        assert_eq!(registered, [false, true]);
        assert_eq!(cancel.waiting().next, 3);
        drop(other);
        assert_eq!(cancel.waiting().wakers.len(), 1);
        drop(cancelled);
        assert!(cancel.waiting().wakers.is_empty());
    }

    #[test]
    fn a_chain_counts_its_plugins_and_ends_at_eight() {
        let mut chain = Chain::default();
        for serial in [1, 2, 1, 3, 4, 5, 6, 7] {
            chain = chain.enter(serial).unwrap();
        }
        assert_eq!((chain.holds(1), chain.holds(7), chain.holds(9)), (2, 1, 0));
        assert_eq!(chain.enter(9).unwrap_err().kind(), Kind::Busy);
        chain.scope(|| assert_eq!(Chain::current().holds(1), 2));
        assert!(Chain::current().is_empty());
    }
}
