//! When a call has to be over, in two words.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::sys::{clock, coarse_clock};

/// When a call has to be over. The clock is read when it is first asked for, so a limit can run late by the time until
/// then, never early.
///
/// Two words, because every call copies it several times.
#[derive(Debug)]
pub struct Deadline {
    /// Nanoseconds; [`NEVER`]: no bound.
    limit: u64,
    /// By the [clock]; 0 until somebody asks.
    at: AtomicU64,
}

const NEVER: u64 = u64::MAX;

/// How far the coarse clock may be behind, at most: a tick of the slowest kernel. Where less than `MUCH` is left, that counts.
const COARSE: u64 = 10_000_000;
const MUCH: u64 = 1_000_000_000;

/// As a limit: what is too long for it is none.
#[inline]
const fn nanos(duration: Duration) -> u64 {
    let nanos = duration.as_nanos();
    if nanos < NEVER as u128 { nanos as u64 } else { NEVER }
}

impl Clone for Deadline {
    #[inline]
    fn clone(&self) -> Self {
        Deadline { limit: self.limit, at: AtomicU64::new(self.at.load(Ordering::Relaxed)) }
    }
}

impl Deadline {
    /// No bound at all.
    pub const fn never() -> Self {
        Deadline { limit: NEVER, at: AtomicU64::new(0) }
    }

    /// A bound that starts to run when it is first asked about.
    #[inline]
    pub const fn after(limit: Duration) -> Self {
        Deadline { limit: nanos(limit), at: AtomicU64::new(0) }
    }

    /// A bound at a moment.
    pub fn at(moment: Instant) -> Self {
        let at = clock().saturating_add(nanos(moment.saturating_duration_since(Instant::now())));
        Deadline { limit: 0, at: AtomicU64::new(at) }
    }

    /// The same deadline, or one after `limit` from its start if that is earlier.
    #[must_use]
    #[inline]
    pub fn at_most(&self, limit: Duration) -> Self {
        let limit = nanos(limit);
        match self.at.load(Ordering::Relaxed) {
            0 => Deadline { limit: self.limit.min(limit), at: AtomicU64::new(0) },
            at => Deadline { limit: 0, at: AtomicU64::new(at.min(clock().saturating_add(limit))) },
        }
    }

    /// The length of the bound as it was given, if it has not begun to run; none if there is no bound.
    pub fn limit(&self) -> Option<Duration> {
        (self.limit != NEVER).then(|| Duration::from_nanos(self.limit))
    }

    /// Starts the clock if it does not run yet.
    #[inline]
    pub fn begin(&self) {
        self.started();
    }

    /// Starts the clock if it does not run yet and returns the moment; none if there is no bound (or it is too far away to name).
    pub fn moment(&self) -> Option<Instant> {
        let left = self.remaining()?;
        Instant::now().checked_add(left)
    }

    /// The time left; none if there is no bound. Starts the clock.
    pub fn remaining(&self) -> Option<Duration> {
        self.started().map(|at| Duration::from_nanos(at.saturating_sub(clock())))
    }

    /// The same in nanoseconds, for those to whom it is a hint: where seconds are left, some milliseconds less than there are,
    /// at a fifth of the cost.
    pub fn remaining_about(&self) -> Option<u64> {
        self.started().map(|at| match at.saturating_sub(coarse_clock()) {
            much if much > MUCH => much - COARSE,
            _ => at.saturating_sub(clock()),
        })
    }

    /// Whether the time is up. Starts the clock.
    pub fn expired(&self) -> bool {
        self.started().is_some_and(|at| clock() >= at)
    }

    /// When it is over, by the clock, which runs from here on.
    #[inline]
    fn started(&self) -> Option<u64> {
        match self.at.load(Ordering::Relaxed) {
            0 => self.start(),
            at => Some(at),
        }
    }

    fn start(&self) -> Option<u64> {
        if self.limit == NEVER {
            return None;
        }
        let at = clock().checked_add(self.limit)?;
        // The first who asks sets it.
        Some(self.at.compare_exchange(0, at, Ordering::Relaxed, Ordering::Relaxed).map_or_else(|set| set, |_| at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smaller_limit_wins_before_and_after_the_clock_runs() {
        let hour = Duration::from_secs(3600);
        assert_eq!(Deadline::never().at_most(hour).limit(), Some(hour));
        assert_eq!(Deadline::after(hour).at_most(Duration::ZERO).limit(), Some(Duration::ZERO));
        let running = Deadline::after(hour);
        assert!(!running.expired());
        assert!(running.at_most(Duration::ZERO).expired() && Deadline::at(Instant::now()).expired());
        assert!(Deadline::after(Duration::MAX).moment().is_none());
        let (left, about) = (running.remaining().unwrap(), Duration::from_nanos(running.remaining_about().unwrap()));
        assert!(left.abs_diff(about) < Duration::from_secs(60), "{left:?} {about:?}");
        for limit in [hour, Duration::from_millis(50)] {
            let deadline = Deadline::after(limit);
            let about = |deadline: &Deadline| deadline.remaining_about().unwrap();
            assert!((0..1000).all(|_| about(&Deadline::after(limit)) <= nanos(limit)), "more than there was");
            deadline.begin();
            assert!(about(&deadline.at_most(hour)) > nanos(limit) / 2, "running, and bounded anew");
        }
        assert!(running.moment().unwrap() > Instant::now() + hour / 2);
    }
}
