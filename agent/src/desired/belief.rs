//! Whether what was read is believed. Pure: readings come in with their time.
//!
//! A file that is away for a moment is being replaced. And if the kernel does not tell who is writing, two looks
//! must see the same.

use std::time::Instant;

use super::Reading;
use super::patience::Pace;
use crate::config::sources::Sources;

/// Whether the kernel tells of every change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sense {
    /// It does.
    Seeing,
    /// Of some, or of none.
    Blind,
}

/// What to do with a reading.
#[derive(Debug)]
pub(super) enum Verdict {
    /// Things are like that.
    Believe(Reading),
    /// Not yet; look again when it is due.
    Doubt,
    /// Nothing new, and nothing in doubt.
    Nothing,
}

/// A reading that is not believed yet, if there is one.
#[derive(Debug, Default)]
pub(super) struct Belief {
    held: Option<Held>,
}

#[derive(Debug)]
struct Held {
    reading: Reading,
    why: Why,
    /// Of this doubt.
    since: Instant,
    until: Instant,
}

/// Why a reading is in doubt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    /// A file that was there is not.
    Absence,
    /// Somebody may be writing.
    Blindness,
}

// === impl Belief ===

impl Belief {
    /// Weighs what a look gave, `None` if it saw the same as the look before, against what was last believed.
    pub(super) fn weigh(
        &mut self,
        seen: Option<Reading>,
        believed: &Sources,
        (sense, pace): (Sense, &Pace),
        now: Instant,
    ) -> Verdict {
        let held = self.held.take();
        let held = match seen {
            None => held,
            Some(reading) => {
                let (why, since) = (why(&reading.sources, believed, sense), held.map(|h| (h.why, h.since)));
                let Some(why) = why else { return Verdict::Believe(reading) };
                let since = since.filter(|(before, _)| *before == why).map_or(now, |(_, since)| since);
                let until = match why {
                    Why::Absence => since + pace.absence,
                    Why::Blindness => (now + pace.settle).min(since + pace.at_most),
                };
                Some(Held { reading, why, since, until })
            }
        };
        match held {
            None => Verdict::Nothing,
            Some(held) if now >= held.until => Verdict::Believe(held.reading),
            Some(held) => {
                self.held = Some(held);
                Verdict::Doubt
            }
        }
    }

    /// When to look again.
    pub(super) fn due(&self) -> Option<Instant> {
        self.held.as_ref().map(|held| held.until)
    }
}

fn why(seen: &Sources, believed: &Sources, sense: Sense) -> Option<Why> {
    match sense {
        _ if seen.lost_any(believed) => Some(Why::Absence),
        Sense::Blind => Some(Why::Blindness),
        Sense::Seeing => None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::fault::Faults;
    use crate::config::sources::{Digest, Question, Sight};

    /// One file: `None` is away. The outcome plays no part.
    fn reading(text: Option<&str>) -> Reading {
        let mut sources = Sources::default();
        let sight = text.map_or(Sight::Absent, |text| Sight::Content(Digest::of(text.as_bytes())));
        sources.note("mesh".into(), Question::Content, sight);
        Reading { sources, outcome: Err(Faults::default()) }
    }

    /// What a look saw.
    #[derive(Clone, Copy, Debug)]
    enum Saw<'a> {
        Nothing,
        Absence,
        Text(&'a str),
    }

    /// Looks at milliseconds, and what comes of each: the text believed in, or until when it is doubted.
    #[derive(Debug, PartialEq, Eq)]
    enum Told<'a> {
        Believed(Option<&'a str>),
        Doubted(u64),
        Nothing,
    }

    fn check(sense: Sense, looks: &[(u64, Saw<'_>, Told<'_>)]) {
        let start = Instant::now();
        let (mut belief, mut believed) = (Belief::default(), reading(Some("a")).sources);
        for (millis, seen, expected) in looks {
            let now = start + Duration::from_millis(*millis);
            let seen = match seen {
                Saw::Nothing => None,
                Saw::Absence => Some(reading(None)),
                Saw::Text(text) => Some(reading(Some(text))),
            };
            match (belief.weigh(seen, &believed, (sense, &Pace::USUAL), now), expected) {
                (Verdict::Nothing, Told::Nothing) => {}
                (Verdict::Doubt, Told::Doubted(until)) => {
                    assert_eq!(belief.due(), Some(start + Duration::from_millis(*until)), "at {millis}");
                    continue;
                }
                (Verdict::Believe(seen), Told::Believed(text)) => {
                    assert_eq!(seen.sources, reading(*text).sources, "at {millis}");
                    believed = seen.sources;
                }
                (verdict, _) => panic!("at {millis}: {verdict:?}, not {expected:?}"),
            }
            assert_eq!(belief.due(), None, "at {millis}");
        }
    }

    #[test]
    fn what_is_seen_is_believed_and_what_is_away_only_after_a_while() {
        use Told::{Believed, Doubted, Nothing};
        check(Sense::Seeing, &[(0, Saw::Nothing, Nothing), (10, Saw::Text("b"), Believed(Some("b")))]);
        // Replaced in two steps.
        let away = (0, Saw::Absence, Doubted(1000));
        check(
            Sense::Seeing,
            &[away, (100, Saw::Text("b"), Believed(Some("b"))), (2000, Saw::Nothing, Nothing)],
        );
        // Gone.
        check(
            Sense::Seeing,
            &[
                (0, Saw::Absence, Doubted(1000)),
                (900, Saw::Nothing, Doubted(1000)),
                (1000, Saw::Nothing, Believed(None)),
            ],
        );
        // Away, while something else changes.
        check(
            Sense::Seeing,
            &[
                (0, Saw::Absence, Doubted(1000)),
                (900, Saw::Absence, Doubted(1000)),
                (1100, Saw::Absence, Believed(None)),
            ],
        );
        // It was not there before either.
        check(
            Sense::Seeing,
            &[
                (0, Saw::Absence, Doubted(1000)),
                (1000, Saw::Nothing, Believed(None)),
                (1100, Saw::Absence, Believed(None)),
            ],
        );
    }

    #[test]
    fn who_does_not_see_the_writer_looks_twice() {
        use Told::{Believed, Doubted};
        check(Sense::Blind, &[(0, Saw::Text("b"), Doubted(100)), (100, Saw::Nothing, Believed(Some("b")))]);
        check(
            Sense::Blind,
            &[
                (0, Saw::Text("b"), Doubted(100)),
                (100, Saw::Text("bc"), Doubted(200)),
                (950, Saw::Text("bcd"), Doubted(1000)),
                (1000, Saw::Text("bcde"), Believed(Some("bcde"))),
            ],
        );
    }
}
