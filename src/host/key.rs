//! Keys as the host knows them, written where the thread wrote the last: that is cheaper than to allocate each.

use std::cell::Cell;

/// The most bytes that a thread keeps for the next.
const KEPT: usize = 1024;

thread_local! {
    static LAST: Cell<String> = const { Cell::new(String::new()) };
}

/// Runs `f` with `prefix` and `key` in one.
pub(super) fn joined<R>(prefix: &str, key: &str, f: impl FnOnce(&str) -> R) -> R {
    // A thread that is ending may have none any more.
    let mut full = LAST.try_with(Cell::take).unwrap_or_default();
    full.push_str(prefix);
    full.push_str(key);
    let result = f(&full);
    full.clear();
    full.shrink_to(KEPT);
    let _ = LAST.try_with(|last| last.set(full));
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_may_be_asked_for_while_another_is() {
        let inner = |outer: &str| joined("b:", "c", |inner| format!("{outer} {inner}"));
        assert_eq!(joined("a:", "b", inner), "a:b b:c");
        assert_eq!(joined("", &"k".repeat(3000), str::len), 3000);
        assert_eq!((joined("a:", "b", str::to_owned), LAST.take().capacity() <= KEPT), ("a:b".to_owned(), true));
    }

    #[test]
    fn a_thread_that_ends_can_still_ask() {
        struct Asks(std::sync::mpsc::Sender<String>);
        impl Drop for Asks {
            fn drop(&mut self) {
                self.0.send(joined("a:", "b", str::to_owned)).unwrap();
            }
        }
        thread_local! {
            static BEFORE: Cell<Option<Asks>> = const { Cell::new(None) };
            static AFTER: Cell<Option<Asks>> = const { Cell::new(None) };
        }
        let (told, asked) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            // One of the two is dropped when the last key is gone.
            BEFORE.set(Some(Asks(told.clone())));
            joined("a:", "b", |_| ());
            AFTER.set(Some(Asks(told)));
        });
        assert_eq!(asked.iter().collect::<Vec<_>>(), ["a:b", "a:b"]);
    }
}
