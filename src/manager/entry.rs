//! What the manager knows of one identity, and whose turn it is to change that.

use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::task::{Wake, Waker};
use std::time::Duration;

use crate::call::{self, Call, Deadline};
use crate::error::{Error, Kind, Result};
use crate::manifest::Manifest;
use crate::plugin::{Plugin, State, Vitals};
use crate::source::Change;

/// One identity, from its discovery to its unloading.
pub(super) struct Entry {
    pub(super) identity: String,
    row: RwLock<Row>,
    turn: Mutex<Turn>,
    freed: Condvar,
}

/// What is known of it. Written by who has the turn, read by anybody.
#[derive(Default)]
pub(super) struct Row {
    /// None: it is being loaded, or could not be.
    pub(super) plugin: Option<Arc<Plugin>>,
    /// As it was found; its plugin may have a newer one.
    pub(super) manifest: Option<Arc<Manifest>>,
    pub(super) folder: PathBuf,
    /// Which source it is from; none: it was loaded by hand.
    pub(super) source: Option<usize>,
    /// What it was started with, JSON text.
    pub(super) config: String,
    /// Why it could not be loaded, or its newest version; empty where nothing is wrong.
    pub(super) last_error: String,
    /// Nobody was told yet that it was discovered.
    pub(super) new: bool,
    /// It has no place among the plugins: there are as many as there may be.
    pub(super) refused: bool,
}

impl Row {
    /// The plugin is loaded: what was wrong before is past.
    pub(super) fn comes(&mut self, plugin: &Arc<Plugin>) {
        self.plugin = Some(plugin.clone());
        self.last_error.clear();
    }
}

/// One operation at a time; what a source tells meanwhile waits.
#[derive(Default)]
struct Turn {
    taken: bool,
    /// It was unloaded: nobody finds it any more.
    gone: bool,
    pending: Vec<Task>,
}

/// What is done to an entry without anybody waiting for it.
pub(super) enum Task {
    /// A source, by its number, tells of a change.
    Change(usize, Change),
    /// A place has come free for one that had none.
    Place,
}

impl Task {
    /// Whether `newer` says all that this does.
    fn is_past(&self, newer: &Task) -> bool {
        match (self, newer) {
            (Task::Change(own, _), Task::Change(other, _)) => own == other,
            (Task::Place, Task::Place) => true,
            _ => false,
        }
    }
}

/// What became of a task that was handed to an entry.
pub(super) enum Handed {
    /// The turn is taken for it.
    Taken(Task),
    /// Whoever has the turn goes on with it.
    Waits,
    /// The entry is nobody's any more.
    Gone(Task),
}

/// What the end of a turn leaves to do.
pub(super) enum Next {
    Nothing,
    /// The turn goes on with a task.
    Task(Task),
    /// It is gone: these concern another entry of the same identity.
    Elsewhere(Vec<Task>),
}

impl Entry {
    /// A new one, whose turn is its maker's.
    pub(super) fn new(identity: &str, row: Row) -> Arc<Self> {
        let turn = Mutex::new(Turn { taken: true, ..Turn::default() });
        Arc::new(Entry { identity: identity.to_owned(), row: RwLock::new(row), turn, freed: Condvar::new() })
    }

    pub(super) fn row(&self) -> RwLockReadGuard<'_, Row> {
        self.row.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn row_mut(&self) -> RwLockWriteGuard<'_, Row> {
        self.row.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn turn(&self) -> MutexGuard<'_, Turn> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the turn, when it comes. `not found` if the identity is unloaded meanwhile. `inside`, from a callback, nobody
    /// waits: the operation under way may be the one that waits for the callback.
    pub(super) fn take(self: &Arc<Self>, call: &Call, inside: bool) -> Result<()> {
        let _woken = call.cancel.as_ref().map(|cancel| cancel.wake(Waker::from(self.clone())));
        let mut turn = self.turn();
        while turn.taken && !turn.gone {
            if inside {
                let message = "The plugin is being loaded, reloaded or unloaded, which cannot be waited for from inside a callback: it may be what waits for the callback. Do it from another thread.";
                return Err(Error::new(Kind::InvalidState, message).with_plugin(&self.identity));
            }
            call.check().map_err(|e| e.with_plugin(&self.identity))?;
            let left = call.deadline.remaining().unwrap_or(Duration::from_secs(3600));
            turn = self.freed.wait_timeout(turn, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        if turn.gone {
            return Err(not_found(&self.identity));
        }
        turn.taken = true;
        Ok(())
    }

    /// Takes the turn for a task, or leaves the task for its end.
    pub(super) fn take_for(&self, task: Task) -> Handed {
        let mut turn = self.turn();
        match (turn.taken, turn.gone) {
            (false, true) => return Handed::Gone(task),
            (false, false) => {
                turn.taken = true;
                return Handed::Taken(task);
            }
            (true, _) => {}
        }
        // What a source told before is old.
        turn.pending.retain(|other| !other.is_past(&task));
        turn.pending.push(task);
        Handed::Waits
    }

    /// Ends the turn.
    pub(super) fn release(&self) -> Next {
        let mut turn = self.turn();
        let next = if turn.gone {
            Next::Elsewhere(std::mem::take(&mut turn.pending))
        } else if turn.pending.is_empty() {
            Next::Nothing
        } else {
            Next::Task(turn.pending.remove(0))
        };
        turn.taken = matches!(next, Next::Task(_));
        drop(turn);
        self.freed.notify_all();
        next
    }

    /// Nobody is to find it any more. By who has the turn.
    pub(super) fn leave(&self) {
        self.turn().gone = true;
    }

    /// Waits until it is nobody's turn; false if that takes longer.
    pub(super) fn wait_free(&self, deadline: &Deadline) -> bool {
        let mut turn = self.turn();
        while turn.taken {
            let left = deadline.remaining().unwrap_or(Duration::from_secs(3600));
            if left.is_zero() {
                return false;
            }
            turn = self.freed.wait_timeout(turn, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    /// The plugin to call; `invalid state` with the cause where there is none.
    pub(super) fn plugin(&self) -> Result<Arc<Plugin>> {
        let row = self.row();
        if let Some(plugin) = &row.plugin {
            return Ok(plugin.clone());
        }
        let message = match row.last_error.as_str() {
            "" => "The plugin is being loaded; wait for the event that it was started.".to_owned(),
            cause => format!("The plugin could not be loaded ({cause}). Correct it, then reload it."),
        };
        drop(row);
        Err(Error::new(Kind::InvalidState, message).with_plugin(&self.identity))
    }

    /// Where it stands, and what went wrong last; its plugin's vitals, if it has one.
    pub(super) fn standing(&self) -> (State, String, Option<Vitals>) {
        let row = self.row();
        let vitals = row.plugin.as_ref().map(|plugin| plugin.vitals());
        let without = if row.last_error.is_empty() { State::Loading } else { State::Error };
        let own = vitals.as_ref().map_or((without, ""), |vitals| (vitals.state, vitals.last_error.as_str()));
        let last_error = if row.last_error.is_empty() { own.1.to_owned() } else { row.last_error.clone() };
        (own.0, last_error, vitals)
    }
}

impl Wake for Entry {
    fn wake(self: Arc<Self>) {
        drop(self.turn());
        self.freed.notify_all();
    }
}

pub(super) fn not_found(identity: &str) -> Error {
    let message = format!("There is no plugin {:?}; list tells which there are.", crate::error::clean(identity, 255));
    Error::new(Kind::NotFound, message)
}

/// A call that ends with the manager, too.
pub(super) struct Bound<'a> {
    pub(super) call: Call,
    _woken: [Option<call::WakeGuard<'a>>; 2],
}

struct Link(call::Cancel);

impl Wake for Link {
    fn wake(self: Arc<Self>) {
        self.0.cancel();
    }
}

impl<'a> Bound<'a> {
    pub(super) fn new(call: &'a Call, ending: &'a call::Cancel) -> Self {
        let own = call::Cancel::new();
        let waker = Waker::from(Arc::new(Link(own.clone())));
        let woken = [call.cancel.as_ref().map(|cancel| cancel.wake(waker.clone())), Some(ending.wake(waker))];
        Bound { call: Call { cancel: Some(own), ..call.clone() }, _woken: woken }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn removed(source: usize) -> Task {
        Task::Change(source, Change::Removed("a".into()))
    }

    #[test]
    fn what_is_handed_to_an_entry_is_done_in_its_turn_or_handed_back() {
        let entry = Entry::new("a", Row::default());
        for task in [removed(0), Task::Place, removed(1), removed(0), Task::Place] {
            assert!(matches!(entry.take_for(task), Handed::Waits));
        }
        assert!(matches!(entry.release(), Next::Task(Task::Change(1, _))), "what a source told before is old");
        assert!(matches!(entry.release(), Next::Task(Task::Change(0, _))));
        assert!(matches!(entry.release(), Next::Task(Task::Place)));
        assert!(matches!(entry.release(), Next::Nothing));
        assert!(matches!(entry.take_for(removed(0)), Handed::Taken(_)));
        entry.leave();
        assert!(matches!(entry.take_for(removed(1)), Handed::Waits));
        let Next::Elsewhere(left) = entry.release() else { panic!("it is gone") };
        assert_eq!(left.len(), 1);
        // From here on nobody would look what was left.
        assert!(matches!(entry.take_for(removed(0)), Handed::Gone(Task::Change(0, _))));
    }
}
