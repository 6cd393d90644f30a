//! Numbers that stand for things: a number that was answered, freed or made up is told from one that is in use.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

const SHARDS: usize = 32;

/// A table of things by number. A number holds its place and the generation of that place, so that none is given twice
/// (but after 4 billion uses of one place). Threads use shards of their own, so that they seldom meet.
#[derive(Debug)]
pub(crate) struct Tokens<T> {
    shards: [Mutex<Shard<T>>; SHARDS],
}

#[derive(Debug)]
struct Shard<T> {
    places: Vec<Place<T>>,
    free: Vec<u32>,
}

#[derive(Debug)]
struct Place<T> {
    generation: u32,
    thing: Option<T>,
}

thread_local! {
    static SHARD: usize = {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        NEXT.fetch_add(1, Ordering::Relaxed) % SHARDS
    };
}

impl<T> Tokens<T> {
    pub(crate) const fn new() -> Self {
        Tokens { shards: [const { Mutex::new(Shard { places: Vec::new(), free: Vec::new() }) }; SHARDS] }
    }

    /// Keeps a thing and returns its number, never 0.
    pub(crate) fn insert(&self, thing: T) -> u64 {
        let shard_index = SHARD.with(|s| *s);
        let mut shard = self.shard(shard_index);
        let index = match shard.free.pop() {
            Some(index) => index,
            None => {
                shard.places.push(Place { generation: 1, thing: None });
                (shard.places.len() - 1) as u32
            }
        };
        match shard.places.get_mut(index as usize) {
            Some(place) => {
                place.thing = Some(thing);
                u64::from(place.generation) << 32 | u64::from(index) << 5 | shard_index as u64
            }
            None => 0,
        }
    }

    /// Looks at the thing of a number, if there is one.
    pub(crate) fn with<R>(&self, token: u64, f: impl FnOnce(&mut T) -> R) -> Option<R> {
        let (shard, index) = place(token);
        let mut shard = self.shard(shard);
        let place = shard.places.get_mut(index).filter(|p| p.generation == generation(token))?;
        place.thing.as_mut().map(f)
    }

    /// Takes the thing of a number out; the number is void from here on.
    pub(crate) fn remove(&self, token: u64) -> Option<T> {
        self.remove_if(token, |_| true)
    }

    /// The same, if the thing is as asked for.
    pub(crate) fn remove_if(&self, token: u64, wanted: impl FnOnce(&T) -> bool) -> Option<T> {
        let (shard, index) = place(token);
        let mut shard = self.shard(shard);
        let place = shard.places.get_mut(index).filter(|p| p.generation == generation(token))?;
        let thing = place.thing.take_if(|thing| wanted(thing))?;
        place.generation = place.generation.wrapping_add(1).max(1);
        shard.free.push(index as u32);
        Some(thing)
    }

    fn shard(&self, index: usize) -> MutexGuard<'_, Shard<T>> {
        let shard = self.shards.get(index % SHARDS).unwrap_or(&self.shards[0]);
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn place(token: u64) -> (usize, usize) {
    ((token & 31) as usize, ((token & 0xffff_ffff) >> 5) as usize)
}

fn generation(token: u64) -> u32 {
    (token >> 32) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_void_once_its_thing_is_gone() {
        let tokens = Tokens::new();
        let first = tokens.insert("a");
        assert_ne!(first, 0);
        assert_eq!(tokens.with(first, |t| *t), Some("a"));
        assert_eq!(tokens.remove(first), Some("a"));
        assert_eq!(tokens.remove(first), None);
        let second = tokens.insert("b");
        assert_ne!(first, second);
        assert_eq!(tokens.with(first, |t| *t), None);
        for made_up in [0, 1, u64::MAX, second ^ 1, second + (1 << 32)] {
            assert_eq!(tokens.with(made_up, |t| *t), None, "{made_up}");
        }
    }
}
