//! Refused messages, by reason.

use lavabus_protocol::Refusal;

use crate::counters::Counter;

/// A number for each reason of [`Refusal::REASONS`].
#[derive(Debug, Default)]
pub struct Refusals([Counter; Refusal::REASONS.len()]);

impl Refusals {
    /// One more message was refused.
    pub(crate) fn add(&self, refusal: &Refusal) {
        let reason = refusal.reason();
        let place = Refusal::REASONS.iter().position(|known| *known == reason);
        self.0[place.expect("every refusal has one of the reasons")].add(1);
    }

    /// All of them.
    pub fn get(&self) -> u64 {
        self.0.iter().map(Counter::get).sum()
    }

    /// Each reason with its number.
    pub fn by_reason(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Refusal::REASONS.into_iter().zip(self.0.iter().map(Counter::get))
    }
}
