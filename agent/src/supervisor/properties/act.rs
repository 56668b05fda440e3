//! Steps of a random history of the supervisor.

use super::super::*;

#[derive(Clone, Copy, Debug)]
pub(super) enum Act {
    Live(usize),
    Die(usize, ExitStatus),
    /// Its process ends; it is reaped later.
    Outcome(usize, ExitStatus),
    Reap,
    /// A probe is answered.
    Probed(PredecessorAdmin),
    FailToStart,
    Silent(usize),
    Back(usize),
    Vacant(usize),
    Desire,
    DesireAgain(u32),
    Judge(ValidationResult),
    Busy(u64, u64),
    Untold,
    Withdraw,
    Reopen,
    NextTimer,
    Pass(u64),
    Stranger(Event),
    Terminate,
    Quit,
}
