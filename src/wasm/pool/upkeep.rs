//! What is done with places beside the calls: looking whether anybody uses them, ending what nobody does, making what is missing.

use super::super::sync::{Ordering, lock};
use super::{Cause, Pool, Slot, Turn};

/// Bits of [`Slot::used`]: since the last look of the sweep, and of the ticker.
const SWEPT: usize = 1;
const LOOKED: usize = 2;
pub(super) const USED: usize = SWEPT | LOOKED;

impl<T> Slot<T> {
    /// Whether it was used since this was last asked by the same.
    fn was_used(&self, since: usize) -> bool {
        self.used.fetch_and(!since, Ordering::Relaxed) & since != 0
    }
}

impl<T> Pool<T> {
    /// An idle instance, if there is one this moment.
    pub(in super::super) fn try_take(&self) -> Option<Turn<'_, T>> {
        let waited_for = self.is_waited_for();
        let slots = self.slots.iter().filter(|slot| slot.is_warm() && !(waited_for && slot.is_reserved()));
        slots.filter_map(|slot| self.hold(slot)).find(|turn| turn.is_some())
    }

    /// A place for a new instance, if there is one this moment, nobody waits for it, and calls have another meanwhile.
    pub(in super::super) fn try_vacant(&self) -> Option<Turn<'_, T>> {
        if self.gate.state.load(Ordering::Relaxed) != 0 {
            return None;
        }
        let slots = self.slots.iter().filter(|slot| !slot.is_warm());
        let turn = slots.filter_map(|slot| self.hold(slot)).find(|turn| turn.is_none())?;
        let own = turn.place.as_ref().map(|place| place.index);
        let another = |(index, slot): (usize, &Slot<T>)| Some(index) != own && self.hold(slot).is_some();
        self.slots.iter().enumerate().any(another).then_some(turn)
    }

    /// Ends the instances but one that nobody has used since the last sweep. Whether more than one is left: then it has to
    /// be swept again.
    pub(in super::super) fn sweep(&self) -> bool {
        let mut warm = self.warm();
        for slot in self.slots.iter().filter(|slot| slot.is_warm()) {
            let Some(mut turn) = self.hold(slot) else { continue };
            let used = slot.was_used(SWEPT);
            if !used && turn.is_some() && warm > 1 {
                turn.discard(Cause::Idle);
                warm -= 1;
            }
        }
        warm > 1
    }

    /// Whether nobody has a turn that began before this was called, and nobody had one since it was called last. Takes the
    /// places for a moment, so not if they are likely to be wanted.
    pub(in super::super) fn is_idle(&self) -> bool {
        let used = self.slots.iter().fold(false, |used, slot| slot.was_used(LOOKED) | used);
        !used && self.slots.iter().all(|slot| lock(&slot.lock).map(|place| self.give_back(place)).is_some())
    }
}
