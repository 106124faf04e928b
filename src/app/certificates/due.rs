//! When a certificate is to be ordered.

use super::trouble::{Trouble, WAIT_MAX};
use super::{Origin, Shown};
use crate::clock::Timestamp;

/// When a certificate for a name is to be ordered: at once where what is shown is a stand-in or from another authority,
/// with a third of its life left else; but not before trouble is over. A time further ahead than any wait was reckoned
/// by a clock that was wrong.
pub(super) fn due(shown: &Shown, trouble: Option<&Trouble>, directory: &str, now: Timestamp) -> Timestamp {
    let wanted = match &shown.origin {
        Origin::Acme { directory: by } if by == directory => shown.renew_at(),
        _ => None,
    };
    let wanted = wanted.unwrap_or(Timestamp::from_millis(0));
    let trouble = trouble.filter(|trouble| trouble.is_of(directory));
    let next = trouble.map(Trouble::next).filter(|next| next.since(now) <= WAIT_MAX);
    next.map_or(wanted, |next| next.max(wanted))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::{Described, Identity};
    use std::path::PathBuf;
    use std::time::Duration;

    const CA: &str = "https://ca.example/";
    const DAY: Duration = Duration::from_secs(86_400);
    const START: Timestamp = Timestamp::from_millis(1_000_000_000_000);

    fn shown(origin: Origin) -> Shown {
        let described = Described {
            names: Vec::new(),
            title: String::new(),
            not_before: START,
            not_after: START.after(90 * DAY),
            key_digest: String::new(),
        };
        let identity = Identity::unkept("mx.example.org").expect("is made");
        Shown { origin, file: PathBuf::new(), ordered: None, described, identity }
    }

    #[test]
    fn an_order_is_due_when_it_is_wanted_and_trouble_is_over() {
        let now = START.after(DAY);
        let ours = shown(Origin::Acme { directory: CA.into() });
        let trouble = |next| Trouble::until(next, CA);
        assert_eq!(due(&ours, None, CA, now), START.after(60 * DAY));
        assert!(due(&ours, None, "https://other.example/", now) <= now, "another authority");
        assert!(due(&shown(Origin::SelfSigned), None, CA, now) <= now);
        let later = now.after(Duration::from_secs(60));
        assert_eq!(due(&shown(Origin::SelfSigned), Some(&trouble(later)), CA, now), later);
        let others = Trouble::until(later, "https://other.example/");
        assert!(due(&shown(Origin::SelfSigned), Some(&others), CA, now) <= now, "another was asked");
        assert_eq!(due(&ours, Some(&trouble(later)), CA, now), START.after(60 * DAY));
        let absurd = trouble(now.after(365 * DAY));
        assert!(due(&shown(Origin::SelfSigned), Some(&absurd), CA, now) <= now, "the clock was wrong then");
    }
}
