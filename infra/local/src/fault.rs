//! How the stand-ins misbehave when a test asks for it.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// What becomes of a request.
#[derive(Debug, Clone, Copy)]
pub enum Fault {
    /// 429, with this `Retry-After` in seconds.
    RateLimited(u64),
    /// 500.
    Broken,
    /// It is understood and refused, for this reason.
    Refused(&'static str),
    /// It gets its usual answer, but only after this time.
    Late(Duration),
}

/// The faults still to come: for requests that contain a text, so many times. Tests that run at the same time do not
/// disturb each other that way.
#[derive(Debug, Default)]
pub struct Faults(Mutex<Vec<(String, Fault, usize)>>);

impl Faults {
    /// Lets the next `times` requests that contain `text` end in a fault.
    pub fn add(&self, text: &str, fault: Fault, times: usize) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push((text.to_owned(), fault, times));
    }

    /// Ends the faults of requests that contain `text`.
    pub fn end(&self, text: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|(about, ..)| about != text);
    }

    /// The fault that this request ends in. One that is only late has waited, and has none.
    pub async fn meet(&self, request: &str) -> Option<Fault> {
        let fault = self.take(request);
        if let Some(Fault::Late(time)) = fault {
            tokio::time::sleep(time).await;
            return None;
        }
        fault
    }

    fn take(&self, request: &str) -> Option<Fault> {
        let mut faults = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let meets = |(text, _, times): &&mut (String, Fault, usize)| *times > 0 && request.contains(text.as_str());
        let (_, fault, times) = faults.iter_mut().find(meets)?;
        *times -= 1;
        Some(*fault)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_meets_the_requests_that_it_is_for_so_many_times() {
        let faults = Faults::default();
        faults.add("jetty", Fault::Broken, 2);
        let met = ["ferry", "the jetty", "jetty", "jetty"].map(|request| faults.take(request).is_some());
        assert_eq!(met, [false, true, true, false]);
        faults.add("jetty", Fault::Broken, 2);
        faults.add("ferry", Fault::Broken, 2);
        faults.end("jetty");
        assert_eq!(["ferry", "jetty"].map(|request| faults.take(request).is_some()), [true, false]);
    }
}
