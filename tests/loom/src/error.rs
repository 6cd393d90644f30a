//! As much of an error as the pool makes.

pub type Result<T, E = Error> = std::result::Result<T, E>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Busy,
    Cancelled,
    InvalidState,
    Timeout,
    Unavailable,
}

#[derive(Debug)]
pub struct Error(Kind);

impl Error {
    pub fn new(kind: Kind, _: impl Into<String>) -> Self {
        Error(kind)
    }

    #[must_use]
    pub fn of_no_run(self) -> Self {
        self
    }

    pub fn kind(&self) -> Kind {
        self.0
    }
}
