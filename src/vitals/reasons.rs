//! The most common reasons why requests were not valid HTTP, in bounded memory.

use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

/// Number of reasons counted at a time.
const REASONS_MAX: usize = 8;

/// Maximum length of a stored reason, in bytes.
pub(super) const REASON_BYTES_MAX: usize = 200;

/// A reason and its count.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Reason {
    /// The text that clients got.
    pub text: String,
    /// How often, at the most.
    pub count: u64,
    /// The last client with this reason; `None` over a Unix socket.
    pub client: Option<IpAddr>,
}

/// The most common reasons since they were last logged.
///
/// The space-saving algorithm (Metwally and others, 2005): a new reason takes the place of the
/// rarest, with its count. So a reason above an eighth of all has a place, whatever else an
/// attacker invents. A thread that finds another one here counts nothing, and does not wait.
#[derive(Debug, Default)]
pub struct Reasons(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    reasons: Vec<Reason>,
    last_reported: Option<Reason>,
}

impl Reasons {
    /// Counts a reason that `client` caused.
    pub fn note(&self, text: &str, client: Option<IpAddr>) {
        let Ok(mut kept) = self.0.try_lock() else {
            return;
        };
        let text = cut(text, REASON_BYTES_MAX);
        let reasons = &mut kept.reasons;
        let place = match reasons.iter().position(|reason| reason.text == text) {
            Some(place) => place,
            None => {
                if reasons.len() < REASONS_MAX {
                    reasons.push(Reason::default());
                }
                // Rarest first; a new one counts 0 so far.
                let rarest = reasons
                    .iter()
                    .enumerate()
                    .min_by_key(|(_, reason)| reason.count);
                let place = rarest.map_or(0, |(place, _)| place);
                reasons[place].text.clear();
                reasons[place].text.push_str(text);
                place
            }
        };
        reasons[place].count += 1;
        reasons[place].client = client;
    }

    /// Returns the most common reason since the last call, and starts again.
    pub fn take(&self) -> Option<Reason> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let commonest = commonest(&kept.reasons);
        kept.reasons.clear();
        if commonest.is_some() {
            kept.last_reported.clone_from(&commonest);
        }
        commonest
    }

    /// Returns the most common recent reason: since the last [`take`](Self::take), or before it.
    /// `None` if there is none, or if another thread is counting.
    pub fn latest(&self) -> Option<Reason> {
        let kept = self.0.try_lock().ok()?;
        commonest(&kept.reasons).or_else(|| kept.last_reported.clone())
    }
}

fn commonest(reasons: &[Reason]) -> Option<Reason> {
    reasons.iter().max_by_key(|reason| reason.count).cloned()
}

/// The beginning of a text, at most so many bytes.
pub(super) fn cut(text: &str, bytes_max: usize) -> &str {
    let mut end = text.len().min(bytes_max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(last: u8) -> Option<IpAddr> {
        Some(IpAddr::from([10, 0, 0, last]))
    }

    #[test]
    fn the_commonest_reason_is_reported_with_its_last_client() {
        let reasons = Reasons::default();
        assert_eq!((reasons.take(), reasons.latest()), (None, None));
        reasons.note("no Host", client(1));
        reasons.note("a bare LF", client(2));
        reasons.note("no Host", client(3));
        let expected = Reason {
            text: "no Host".to_owned(),
            count: 2,
            client: client(3),
        };
        assert_eq!(reasons.latest().as_ref(), Some(&expected));
        assert_eq!(reasons.take().as_ref(), Some(&expected));
        assert_eq!(reasons.take(), None, "told once");
        assert_eq!(
            reasons.latest(),
            Some(expected),
            "and still to be looked up"
        );
        reasons.note("a bare LF", None);
        assert_eq!(reasons.latest().unwrap().text, "a bare LF");
    }

    #[test]
    fn a_flood_of_reasons_takes_no_more_memory_and_hides_no_common_one() {
        let reasons = Reasons::default();
        let long = "ü".repeat(500);
        for index in 0..10_000 {
            reasons.note(&format!("{index}{long}"), client(1));
            if index % 4 == 0 {
                reasons.note("no Host", client(2));
            }
        }
        let kept = reasons.0.lock().unwrap();
        assert_eq!(kept.reasons.len(), REASONS_MAX);
        assert!(
            kept.reasons
                .iter()
                .all(|reason| reason.text.capacity() <= 2 * REASON_BYTES_MAX)
        );
        drop(kept);
        let commonest = reasons.take().unwrap();
        assert_eq!(
            (commonest.text.as_str(), commonest.client),
            ("no Host", client(2))
        );
        assert!(commonest.count >= 2500);
    }
}
