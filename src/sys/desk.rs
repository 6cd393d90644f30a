//! Questions that wait for an answer, by number: put by one thread, settled once, by any.
//!
//! Each lies in a place, and a place without a question belongs to one thread: putting one there, and taking back what is
//! settled, is a plain store. Everybody else holds the question first, with one locked instruction, for as long as a few more
//! instructions take: who finds it held tries again. A number names a place and how often there was a question, so that none
//! is given twice. Places are never freed: a number that is void can be looked up for ever.

use std::sync::{Mutex, OnceLock, PoisonError};

use super::sync::{AtomicU64, Ordering, Shared, pause};

/// Of a place's state, below its generation; none of them: nothing lies there.
const OPEN: u64 = 1;
/// Somebody looks at what lies there.
const HELD: u64 = 2;
/// What lies there is for who asked.
const SETTLED: u64 = 4;
const FLAGS: u32 = 3;

/// The bits of a number that name the place; those above are its generation.
const PLACES: u32 = 20;
const GENERATIONS: u64 = u64::MAX >> PLACES;
/// Places come in chunks, each twice as large as the one before.
const FIRST: usize = 16;
const CHUNKS: usize = 16;

/// Places for questions: a million at a time.
pub struct Desk<T: 'static> {
    chunks: [OnceLock<Box<[Place<T>]>>; CHUNKS],
    spare: Mutex<Vec<Seat<T>>>,
}

/// A place, on cache lines of its own.
#[repr(align(128))]
pub struct Place<T> {
    index: u64,
    state: AtomicU64,
    thing: Shared<Option<T>>,
}

// SAFETY: what lies there is handed from thread to thread by the state, and is touched by one at a time: by who has the seat
// while the state says that nothing lies there, by who holds it, and by who asked when it is settled.
unsafe impl<T: Send> Sync for Place<T> {}

/// A place where nothing lies, and the right to put something there.
pub struct Seat<T: 'static>(&'static Place<T>);

/// A question, on the side of who put it.
pub struct Asked<T: 'static> {
    place: &'static Place<T>,
    generation: u64,
}

/// While it lives, what lies there is this one's.
struct Held<'a, T> {
    place: &'a Place<T>,
    after: u64,
}

impl<T> Held<'_, T> {
    #[inline]
    fn with<R>(&mut self, f: impl FnOnce(&mut T) -> R) -> Option<R> {
        // SAFETY: the state says that somebody holds it, and that is this one.
        self.place.thing.with(|thing| unsafe { &mut *thing }.as_mut().map(f))
    }
}

impl<T> Drop for Held<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.place.state.store(self.after, Ordering::Release);
    }
}

impl<T> Place<T> {
    fn new(index: usize) -> Self {
        Place { index: index as u64, state: AtomicU64::new(1 << FLAGS), thing: Shared::new(None) }
    }

    /// What is open in this generation; none if it is settled or void, and what settled it was seen.
    #[inline]
    fn hold(&self, generation: u64) -> Option<Held<'_, T>> {
        let open = generation << FLAGS | OPEN;
        let mut tries = 0;
        loop {
            match self.state.compare_exchange(open, open | HELD, Ordering::Acquire, Ordering::Acquire) {
                Ok(_) => return Some(Held { place: self, after: open }),
                Err(found) if found == open | HELD => pause(&mut tries),
                Err(_) => return None,
            }
        }
    }

    /// Looks at the question of this number; none if it is settled or void.
    #[inline]
    pub fn with<R>(&self, number: u64, f: impl FnOnce(&mut T) -> R) -> Option<R> {
        self.hold(number >> PLACES)?.with(f)
    }

    /// The same; if what comes of it is `Ok`, the number is void and the question settled.
    #[inline]
    pub fn settle<R, E>(&self, number: u64, f: impl FnOnce(&mut T) -> Result<R, E>) -> Option<Result<R, E>> {
        let generation = number >> PLACES;
        let mut held = self.hold(generation)?;
        let result = held.with(f)?;
        if result.is_ok() {
            held.after = generation << FLAGS | SETTLED;
        }
        Some(result)
    }
}

impl<T> Seat<T> {
    /// By itself, on no desk.
    pub fn alone() -> Self {
        Seat(Box::leak(Box::new(Place::new(0))))
    }

    /// Puts a question.
    #[inline]
    pub fn ask(self, thing: T) -> Asked<T> {
        let Seat(place) = self;
        let generation = place.state.load(Ordering::Relaxed) >> FLAGS;
        // SAFETY: nothing lies there, so that nobody holds it, and there is one seat of each place.
        place.thing.with(|there| unsafe { *there = Some(thing) });
        place.state.store(generation << FLAGS | OPEN, Ordering::Release);
        Asked { place, generation }
    }
}

impl<T> Asked<T> {
    /// Never 0.
    #[inline]
    pub fn number(&self) -> u64 {
        self.generation << PLACES | self.place.index
    }

    /// Where it lies.
    #[inline]
    pub fn place(&self) -> &'static Place<T> {
        self.place
    }

    /// Whether it is settled, and will not change any more.
    #[inline]
    pub fn is_settled(&self) -> bool {
        self.place.state.load(Ordering::Acquire) == self.generation << FLAGS | SETTLED
    }

    /// Takes it back, settled or not; its number is void.
    #[inline]
    pub fn end(self) -> (Option<T>, Seat<T>) {
        let Asked { place, generation } = self;
        // Settled, it is this one's already; if not, it is held, and not let go.
        if !self.is_settled() {
            std::mem::forget(place.hold(generation));
        }
        // SAFETY: as above.
        let thing = place.thing.with(|there| unsafe { &mut *there }.take());
        place.state.store(((generation + 1) & GENERATIONS).max(1) << FLAGS, Ordering::Release);
        (thing, Seat(place))
    }
}

impl<T> Desk<T> {
    /// Without any place yet.
    pub const fn new() -> Self {
        Desk { chunks: [const { OnceLock::new() }; CHUNKS], spare: Mutex::new(Vec::new()) }
    }

    /// A seat; none if all are taken.
    #[cold]
    pub fn seat(&'static self) -> Option<Seat<T>> {
        let mut spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner);
        if spare.is_empty() {
            let (number, chunk) = self.chunks.iter().enumerate().find(|(_, chunk)| chunk.get().is_none())?;
            let size = FIRST << number;
            let places = chunk.get_or_init(|| (size - FIRST..).take(size).map(Place::new).collect());
            spare.extend(places.iter().map(Seat));
        }
        spare.pop()
    }

    /// Takes a seat back, for the next.
    #[cold]
    pub fn give_back(&self, seat: Seat<T>) {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner).push(seat);
    }

    /// The place that a number names, whatever lies there.
    #[inline]
    pub fn find(&'static self, number: u64) -> Option<&'static Place<T>> {
        let index = (number & ((1 << PLACES) - 1)) as usize;
        let chunk = (index / FIRST + 1).ilog2();
        let places = self.chunks.get(chunk as usize)?.get()?;
        places.get(index + FIRST - (FIRST << chunk))
    }
}

impl<T> Default for Desk<T> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(thing: &mut Option<u32>) -> Result<(), ()> {
        *thing = Some(7);
        Ok(())
    }

    #[test]
    fn a_question_is_settled_once_and_its_number_void_after() {
        static DESK: Desk<Option<u32>> = Desk::new();
        let mut seat = DESK.seat().unwrap();
        let mut numbers = vec![0, u64::MAX];
        for _ in 0..3 {
            let asked = seat.ask(None);
            let number = asked.number();
            let place = DESK.find(number).unwrap();
            assert!(numbers.iter().all(|other| DESK.find(*other).is_none_or(|place| place.with(*other, |_| ()).is_none())));
            assert_eq!(place.settle(number, |_| Err::<(), ()>(())), Some(Err(())));
            assert_eq!((asked.is_settled(), place.with(number, |thing| *thing)), (false, Some(None)));
            assert_eq!(place.settle(number, put), Some(Ok(())));
            assert_eq!((asked.is_settled(), place.settle(number, put), place.with(number, |_| ())), (true, None, None));
            let (thing, back) = asked.end();
            assert_eq!((thing, place.settle(number, put)), (Some(Some(7)), None));
            numbers.push(number);
            seat = back;
        }
        let (thing, _) = seat.ask(Some(1)).end();
        assert_eq!(thing, Some(Some(1)));
    }

    #[test]
    fn every_seat_has_a_place_of_its_own() {
        static DESK: Desk<usize> = Desk::new();
        let asked: Vec<_> = (0..FIRST * 5).map(|n| DESK.seat().unwrap().ask(n)).collect();
        for (n, asked) in asked.iter().enumerate() {
            assert_eq!(DESK.find(asked.number()).and_then(|place| place.with(asked.number(), |thing| *thing)), Some(n));
        }
        for asked in asked {
            DESK.give_back(asked.end().1);
        }
        assert_eq!(DESK.spare.lock().unwrap().len(), FIRST * 7);
    }
}
