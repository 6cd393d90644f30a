//! A value that is replaced while it is read, without a lock and without a counter that all readers write.

use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;
use std::sync::atomic::{AtomicPtr, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::readers::{Readers, Visit, Visits};

/// Readers whose value is gone, for the next: they are never freed.
static SPARE: Mutex<Vec<&'static Readers>> = Mutex::new(Vec::new());

/// A shared value that can be replaced by another at any time.
pub struct Swap<T: Send + Sync + 'static> {
    /// From `Arc::into_raw`; this owns one count of it.
    current: AtomicPtr<T>,
    readers: &'static Readers,
    /// What the readers had counted for others.
    before: u64,
    _owns: PhantomData<Arc<T>>,
}

/// A look at the value, which stays the same and stays alive until this is dropped.
pub struct Read<'a, T> {
    value: &'a T,
    visit: Visit,
}

/// A value that is not found any more, until this is dropped and nobody reads it.
pub struct Replaced<T: Send + Sync + 'static> {
    old: Arc<T>,
    readers: &'static Readers,
}

impl<T: Send + Sync + 'static> Swap<T> {
    /// Begins with this value.
    pub fn new(value: Arc<T>) -> Self {
        let spare = SPARE.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let readers = spare.unwrap_or_else(|| Box::leak(Box::default()));
        let before = readers.visits().counted;
        Swap { current: AtomicPtr::new(Arc::into_raw(value).cast_mut()), readers, before, _owns: PhantomData }
    }

    /// The value of this moment; counted.
    #[inline]
    pub fn read(&self) -> Read<'_, T> {
        self.found(self.readers.enter())
    }

    /// The same for who makes no call: not counted. Its drop may be the end of what was replaced.
    pub fn look(&self) -> Read<'_, T> {
        self.found(self.readers.look())
    }

    #[inline]
    fn found(&self, visit: Visit) -> Read<'_, T> {
        let found = self.current.load(Ordering::SeqCst);
        // SAFETY: it came from an Arc whose count is given up only by way of the readers, after it could no longer be found
        // here; the visit began before it was found, and keeps it.
        Read { value: unsafe { &*found }, visit }
    }

    /// The value of this moment, to be kept; not counted.
    pub fn load(&self) -> Arc<T> {
        let read = self.look();
        let found = std::ptr::from_ref(read.value);
        // SAFETY: it came from Arc::into_raw, and the visit keeps it alive.
        unsafe { Arc::increment_strong_count(found) };
        // SAFETY: as above; the count is the one that was just taken.
        unsafe { Arc::from_raw(found) }
    }

    /// From here on, `value` is found. What was there before is handed back, to be let go of where it may end: who still reads
    /// it keeps it longer.
    pub fn replace(&self, value: Arc<T>) -> Replaced<T> {
        let old = self.current.swap(Arc::into_raw(value).cast_mut(), Ordering::SeqCst);
        // SAFETY: it came from Arc::into_raw, and its count is this one's.
        let old = unsafe { Arc::from_raw(old) };
        Replaced { old, readers: self.readers }
    }

    /// Who reads, now and ever.
    pub fn visits(&self) -> Visits {
        let visits = self.readers.visits();
        Visits { counted: visits.counted.wrapping_sub(self.before), ..visits }
    }

    /// Those who read: what they may be using besides the value can be retired there too.
    pub fn readers(&self) -> &'static Readers {
        self.readers
    }
}

impl<T: Send + Sync + 'static> Drop for Swap<T> {
    fn drop(&mut self) {
        // SAFETY: it came from Arc::into_raw, and its count is this one's; nobody reads what is being dropped.
        drop(unsafe { Arc::from_raw(*self.current.get_mut()) });
        SPARE.lock().unwrap_or_else(PoisonError::into_inner).push(self.readers);
    }
}

impl<T: Send + Sync + fmt::Debug + 'static> fmt::Debug for Swap<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Swap").field(&self.load()).finish()
    }
}

impl<T> Read<'_, T> {
    /// See [`Visit::nth`].
    #[inline]
    pub fn nth(&self) -> u64 {
        self.visit.nth()
    }
}

impl<T> Deref for Read<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        self.value
    }
}

impl<T: Send + Sync + 'static> Deref for Replaced<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.old
    }
}

impl<T: Send + Sync + 'static> Drop for Replaced<T> {
    fn drop(&mut self) {
        self.readers.retire(Box::new(self.old.clone()));
    }
}

impl<T: fmt::Debug> fmt::Debug for Read<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.value.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Weak;
    use std::sync::atomic::AtomicBool;

    #[test]
    fn a_value_lives_as_long_as_it_is_read() {
        let swap = Swap::new(Arc::new(1));
        let first = Arc::downgrade(&swap.load());
        let read = swap.read();
        drop(swap.replace(Arc::new(2)));
        assert_eq!((*read, *swap.read(), first.strong_count()), (1, 2, 1));
        drop(read);
        assert_eq!(first.strong_count(), 0);
        let last = Arc::downgrade(&swap.load());
        drop(swap);
        assert_eq!(last.strong_count(), 0);
    }

    #[test]
    fn who_comes_later_keeps_nothing_that_was_replaced_before() {
        let swap = Swap::new(Arc::new(0));
        let mut reads = vec![swap.read()];
        let mut values: Vec<Weak<i32>> = Vec::new();
        for n in 1..6 {
            values.push(Arc::downgrade(&swap.replace(Arc::new(n)).old));
            reads.push(swap.read());
        }
        assert!(reads.iter().zip(0..).all(|(read, n)| **read == n));
        // Whoever came before may keep what came after, until it leaves.
        drop(reads.remove(0));
        assert_eq!(values.first().map(Weak::strong_count), Some(0));
        drop(reads);
        assert!(values.iter().all(|value| value.strong_count() == 0));
    }

    #[test]
    fn readers_are_counted_from_the_start_of_their_value() {
        for _ in 0..3 {
            let swap = Swap::new(Arc::new(()));
            let (first, second) = (swap.read(), swap.read());
            drop((first, swap.load()));
            assert_eq!(swap.visits(), Visits { inside: 1, counted: 2 });
            drop(second);
            assert_eq!(swap.visits(), Visits { inside: 0, counted: 2 });
        }
    }

    #[test]
    fn threads_read_whole_values_while_they_are_replaced() {
        struct Ends(u64, Arc<AtomicBool>);
        impl Drop for Ends {
            fn drop(&mut self) {
                assert!(!self.1.swap(true, Ordering::SeqCst));
            }
        }
        let make = |n| Arc::new(Ends(n, Arc::default()));
        let swap = Swap::new(make(0));
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let read = || {
                let mut last = 0;
                while !over.load(Ordering::Relaxed) {
                    let read = swap.read();
                    assert!(read.0 >= last && !read.1.load(Ordering::SeqCst));
                    last = read.0;
                }
            };
            let readers: Vec<_> = (0..4).map(|_| scope.spawn(read)).collect();
            let replaced: Vec<_> = (1..2000).map(|n| swap.replace(make(n)).1.clone()).collect();
            over.store(true, Ordering::Relaxed);
            readers.into_iter().for_each(|reader| reader.join().unwrap());
            assert!(replaced.iter().all(|ended| ended.load(Ordering::SeqCst)));
        });
        assert_eq!(swap.visits().inside, 0);
    }
}
