//! How much a plugin may emit: so many a second, the rest is refused and counted.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A bound on what happens in each second, counted from the first of it.
#[derive(Debug)]
pub struct Rate {
    max: u32,
    window: Mutex<Option<Window>>,
}

#[derive(Debug)]
struct Window {
    start: Instant,
    count: u32,
    refused: u64,
}

/// What became of one more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It is within the bound.
    Admitted {
        /// How many were refused in the second before, if this one begins a new second.
        refused_before: u64,
    },
    /// It is past the bound.
    Refused,
}

impl Rate {
    /// At most `max` a second.
    pub fn new(max: u32) -> Self {
        Rate { max, window: Mutex::new(None) }
    }

    /// Asks for one more.
    pub fn admit(&self) -> Admission {
        self.admit_at(Instant::now())
    }

    /// Counts so many as refused, without asking.
    pub fn refuse(&self, more: u64) {
        if let Some(window) = &mut *self.window.lock().unwrap_or_else(PoisonError::into_inner) {
            window.refused += more;
        }
    }

    fn admit_at(&self, now: Instant) -> Admission {
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        let refused_before = match &*window {
            Some(current) if now.saturating_duration_since(current.start) < Duration::from_secs(1) => 0,
            over => {
                let refused = over.as_ref().map_or(0, |w| w.refused);
                *window = None;
                refused
            }
        };
        let current = window.get_or_insert(Window { start: now, count: 0, refused: 0 });
        if current.count >= self.max {
            current.refused += 1;
            return Admission::Refused;
        }
        current.count += 1;
        Admission::Admitted { refused_before }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_past_the_bound_is_counted_and_told_in_the_next_second() {
        let (rate, start) = (Rate::new(2), Instant::now());
        let admitted = |refused_before| Admission::Admitted { refused_before };
        assert_eq!(rate.admit_at(start), admitted(0));
        assert_eq!(rate.admit_at(start), admitted(0));
        assert_eq!(rate.admit_at(start), Admission::Refused);
        assert_eq!(rate.admit_at(start + Duration::from_millis(999)), Admission::Refused);
        rate.refuse(5);
        assert_eq!(rate.admit_at(start + Duration::from_secs(1)), admitted(7));
        assert_eq!(rate.admit_at(start + Duration::from_secs(1)), admitted(0));
        assert_eq!(Rate::new(0).admit_at(start), Admission::Refused);
    }
}
