//! What is counted of a plugin whichever of its versions runs: a reload, or a restart after a crash, is no way to begin anew.

use std::sync::Arc;

use crate::host::audit::Audit;
use crate::host::http::Lookups;
use crate::host::rate::Rate;
use crate::policy::Grants;

/// The counts of one plugin.
#[derive(Debug)]
pub struct Tally {
    pub(super) log: Rate,
    pub(super) event: Rate,
    pub(super) audit: Audit,
    pub(super) lookups: Lookups,
}

impl Tally {
    /// That of a plugin that was granted this; the rates are the policy's, and so every version's.
    pub fn new(grants: &Grants) -> Arc<Self> {
        let (log, event) = (Rate::new(grants.rates.log), Rate::new(grants.rates.event));
        Arc::new(Tally { log, event, audit: Audit::default(), lookups: Lookups::default() })
    }
}
