//! Panics: each is a line of the log and a number, wherever it happens.

use std::any::Any;
use std::panic::{self, PanicHookInfo};
use std::thread;

use super::names;

/// From now on panics go to the log, and are counted. Called once, in the program's start; what a panic
/// ends is another's business.
pub fn note_panics() {
    let panics = metrics::counter!(names::PANICS);
    panic::set_hook(Box::new(move |info: &PanicHookInfo<'_>| {
        panics.increment(1);
        let place = info.location().map(ToString::to_string).unwrap_or_default();
        let thread = thread::current().name().unwrap_or("unnamed").to_owned();
        tracing::error!(event = "panic", thread, place, why = said(info.payload()));
    }));
}

/// What was said, where it is text.
fn said(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("no text")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_panic_said_is_told() {
        let texts: [Box<dyn Any + Send>; 3] = [Box::new("a"), Box::new("b".to_owned()), Box::new(5)];
        assert_eq!(texts.each_ref().map(|text| said(&**text)), ["a", "b", "no text"]);
    }
}
