//! The WASI functions that can take time, in our own way: the deadline and a cancel end them at once.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use wasmtime::Caller;
use wasmtime_wasi::HostMonotonicClock;

use super::memory;
use super::state::State;
use super::wasi::Monotonic;
use crate::call::{self, Deadline};
use crate::error::{Error, Kind};

/// `errno` of preview 1.
const SUCCESS: i32 = 0;
const FAULT: i32 = 21;
const INVALID: i32 = 28;
const IO: i32 = 29;

/// Sizes of `subscription` and `event`.
const SUBSCRIPTION: usize = 48;
const EVENT: usize = 32;

/// The most subscriptions of one call.
const SUBSCRIPTIONS_MAX: i32 = 4096;

/// Random bytes that are made between two looks at the deadline.
const RANDOM_STEP: usize = 256 << 10;

/// `random_get`, in steps.
pub(super) fn random_get(mut caller: Caller<'_, State>, ptr: i32, len: i32) -> wasmtime::Result<i32> {
    let Ok(memory) = memory::of(&mut caller) else { return Ok(FAULT) };
    let (bytes, state) = memory.data_and_store_mut(&mut caller);
    let start = memory::offset(ptr);
    let place = start.checked_add(memory::offset(len)).and_then(|end| bytes.get_mut(start..end));
    let Some(place) = place else { return Ok(FAULT) };
    state.call.look(&state.context)?;
    let many = place.len() > RANDOM_STEP;
    for step in place.chunks_mut(RANDOM_STEP) {
        if getrandom::fill(step).is_err() {
            return Ok(IO);
        }
        if many {
            state.call.armed = true;
            state.call.check(&state.context)?;
        }
    }
    Ok(SUCCESS)
}

/// What a guest waits for.
struct Subscription {
    userdata: u64,
    kind: u8,
    /// When it is due; none: at once. Files and standard streams are always ready.
    due: Option<Instant>,
}

/// `poll_oneoff`: waits for the first of its clocks, unless something else is ready.
pub(super) fn poll_oneoff(mut caller: Caller<'_, State>, subs: i32, events: i32, count: i32, written: i32) -> wasmtime::Result<i32> {
    if !(1..=SUBSCRIPTIONS_MAX).contains(&count) {
        return Ok(INVALID);
    }
    let Ok(memory) = memory::of(&mut caller) else { return Ok(FAULT) };
    let (bytes, state) = memory.data_and_store_mut(&mut caller);
    let size = count.saturating_mul(SUBSCRIPTION as i32);
    let Ok(subs) = memory::slice(bytes, subs, size) else { return Ok(FAULT) };
    let now = Instant::now();
    let Some(subs) = subs.chunks_exact(SUBSCRIPTION).map(|sub| read(sub, now)).collect::<Option<Vec<_>>>() else {
        return Ok(INVALID);
    };
    if let Some(first) = subs.iter().map(|sub| sub.due.unwrap_or(now)).min() {
        sleep_until(state, first)?;
    }
    let now = Instant::now();
    let ready = subs.iter().filter(|sub| sub.due.is_none_or(|due| due <= now));
    let mut count = 0i32;
    let mut out = Vec::with_capacity(subs.len() * EVENT);
    for sub in ready {
        out.extend_from_slice(&sub.userdata.to_le_bytes());
        out.extend_from_slice(&[0, 0, sub.kind, 0, 0, 0, 0, 0]);
        out.extend_from_slice(&[0; 16]);
        count += 1;
    }
    let done = memory::write(bytes, events, &out).and_then(|()| memory::write(bytes, written, &count.to_le_bytes()));
    Ok(done.map_or(FAULT, |()| SUCCESS))
}

/// One subscription; none if it is not one that preview 1 has.
fn read(sub: &[u8], now: Instant) -> Option<Subscription> {
    let number = |at: usize| Some(u64::from_le_bytes(sub.get(at..at + 8)?.try_into().ok()?));
    let (userdata, kind) = (number(0)?, *sub.get(8)?);
    let due = match kind {
        0 => {
            let (clock, timeout) = (number(16)? & 0xffff_ffff, number(24)?);
            let absolute = number(40)? & 1 == 1;
            Some(due(clock, timeout, absolute, now)?)
        }
        1 | 2 => None,
        _ => return None,
    };
    Some(Subscription { userdata, kind, due })
}

/// When a clock subscription is due; a time too far away to name is a year from now, past every deadline.
fn due(clock: u64, timeout: u64, absolute: bool, now: Instant) -> Option<Instant> {
    let elapsed = match (clock, absolute) {
        (0 | 1, false) => 0,
        (0, true) => SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)),
        (1, true) => Monotonic.now(),
        _ => return None,
    };
    let left = Duration::from_nanos(timeout.saturating_sub(elapsed)).min(Duration::from_secs(365 * 24 * 3600));
    Some(now + left)
}

/// Sleeps; ends with the call's error if the call ends first.
fn sleep_until(state: &mut State, moment: Instant) -> crate::error::Result<()> {
    state.call.armed = true;
    let end = state.call.deadline.moment();
    let until = Deadline::at(end.map_or(moment, |end| end.min(moment)));
    let cancels = [state.call.cancel.as_ref(), Some(&state.context.ending)];
    match call::wait::<()>(&until, &cancels, drop, || None) {
        Err(error) if error.kind() == Kind::Timeout => state.call.check(&state.context),
        Err(error) => Err(error),
        Ok(()) => Err(Error::new(Kind::Internal, "A wait for nothing ended.")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_are_relative_or_absolute() {
        let now = Instant::now();
        let second = 1_000_000_000;
        assert_eq!(due(1, second, false, now), Some(now + Duration::from_secs(1)));
        assert!(due(1, Monotonic.now() + 100 * second, true, now).unwrap() > now + Duration::from_secs(50));
        assert_eq!(due(0, second, true, now), Some(now));
        assert!(due(0, u64::MAX, true, now).unwrap() > now);
        assert_eq!(due(2, second, false, now), None);
    }
}
