//! A value lent to code that cannot carry its lifetime: what a host call of a guest needs of the call that runs the guest.

/// The two ways of a call's bytes, seen from inside: into the guest's memory and out of it. True: the call ends here.
pub trait Exchange: Send {
    /// Writes the parameters to the buffer that the guest made for them.
    fn put(&mut self, memory: &mut [u8], at: i32) -> bool;
    /// Reads the result, `(ptr << 32) | size`, before the guest frees it.
    fn take(&mut self, memory: &[u8], result: i64) -> bool;
}

/// A place for a loan: empty, but while [`lend`] runs.
#[derive(Debug, Default)]
pub struct Loan(Option<*mut (dyn Exchange + 'static)>);

// SAFETY: the pointer is used only through `&mut Loan`, so by one thread at a time, and what it points to is Send.
unsafe impl Send for Loan {}

impl Loan {
    /// What is lent here; none outside of [`lend`].
    pub fn get(&mut self) -> Option<&mut dyn Exchange> {
        // SAFETY: `lend` lets nothing return before the pointer is gone, holds the only reference to what it points to
        // meanwhile, and hands it out nowhere else; `&mut self` keeps a second one from being made here.
        self.0.map(|lent| unsafe { &mut *lent })
    }
}

/// Runs `work` with `lent` in the place that `place` finds in `owner`.
pub fn lend<O, R>(owner: &mut O, place: fn(&mut O) -> &mut Loan, lent: &mut (dyn Exchange + '_), work: impl FnOnce(&mut O) -> R) -> R {
    struct Return<'a, O> {
        owner: &'a mut O,
        place: fn(&mut O) -> &mut Loan,
        lent: *mut (),
        before: Option<*mut (dyn Exchange + 'static)>,
    }
    impl<O> Drop for Return<'_, O> {
        fn drop(&mut self) {
            let found = std::mem::replace(&mut (self.place)(self.owner).0, self.before);
            if found.map(|lent| lent.cast::<()>()) != Some(self.lent) {
                // The loan was moved away and would outlive what was lent.
                std::process::abort();
            }
        }
    }
    let thin = std::ptr::from_mut(lent).cast::<()>();
    // SAFETY: only the lifetime changes; `Return` takes the pointer back before `lent` is usable again, or aborts.
    let erased = unsafe { std::mem::transmute::<*mut (dyn Exchange + '_), *mut (dyn Exchange + 'static)>(lent) };
    let before = place(owner).0.replace(erased);
    let lending = Return { owner, place, lent: thin, before };
    work(&mut *lending.owner)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Sum(i64);

    impl Exchange for Sum {
        fn put(&mut self, memory: &mut [u8], at: i32) -> bool {
            memory.fill(1);
            self.0 += i64::from(at);
            false
        }

        fn take(&mut self, memory: &[u8], result: i64) -> bool {
            self.0 += result + memory.iter().map(|b| i64::from(*b)).sum::<i64>();
            true
        }
    }

    #[test]
    fn a_loan_is_there_while_it_runs_and_can_be_nested() {
        let mut place = Loan::default();
        let (mut outer, mut inner) = (Sum(0), Sum(0));
        let mut memory = [0; 3];
        let (a, b) = lend(
            &mut place,
            |p| p,
            &mut outer,
            |place| {
                let a = place.get().unwrap().put(&mut memory, 10);
                lend(place, |p| p, &mut inner, |place| place.get().unwrap().put(&mut [], 7));
                (a, place.get().unwrap().take(&memory, 100))
            },
        );
        assert!(!a && b && place.get().is_none());
        assert_eq!((outer.0, inner.0), (113, 7));
    }

    #[test]
    fn a_panic_takes_it_back() {
        let mut place = Loan::default();
        let work = std::panic::AssertUnwindSafe(|| lend(&mut place, |p| p, &mut Sum(0), |_| panic!("while lent")));
        std::panic::catch_unwind(work).unwrap_err();
        assert!(place.get().is_none());
    }
}
