//! [`Health`]: whether a store works, so that what needs it while it does not fails at once.
//!
//! Accesses of one mapping are served one after the other. If each waited for its own deadline, the tenth thread would wait
//! for ten. So an access that a store has not answered at all marks it as *down*. From then on accesses fail at once, except
//! one now and then, the *probe*: its success ends that, and those that come meanwhile wait for it, no longer than for their
//! own deadlines.
//!
//! A store that has not worked within 10 ms, or not at the first attempt, is down for accesses that would wait for 10 ms, or
//! would not try again, and not for one that has ten seconds and eight retries. So a store is down for deadlines of up to twice
//! the time that was waited without success, and for budgets of up to the number of retries that were made.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::error::Cause;

/// The pause before the first probe, and the longest one.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// Whether a store works.
#[derive(Debug, Default)]
pub(crate) struct Health(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// When it has answered last.
    answered: Option<Instant>,
    down: Option<Down>,
}

#[derive(Debug)]
struct Down {
    since: Instant,
    last: Cause,
    /// Accesses that have longer than twice this, and more retries than these, do not fail at once. `None` if the store was
    /// silent, so that nothing is known of retries.
    waited: Duration,
    retries: Option<u32>,
    /// No probe before.
    next: Instant,
    pause: Duration,
    /// When the probe that is under way has begun.
    probe: Option<Instant>,
}

/// Whether an access may send a request.
#[derive(Debug)]
pub(crate) enum Admission {
    Go,
    /// As the only one.
    Probe,
    /// A probe is under way.
    Wait,
    Fail(Cause),
}

impl Health {
    /// Returns whether an access that ends at `deadline`, or after its `retries`, may send a request now.
    pub(crate) fn admit(&self, now: Instant, deadline: Instant, retries: u32) -> Admission {
        let mut state = self.0.lock();
        let Some(down) = state.down.as_mut().filter(|down| down.concerns(now, deadline, retries)) else {
            return Admission::Go;
        };
        if down.probe.is_some() {
            return Admission::Wait;
        }
        if now >= down.next {
            down.probe = Some(now);
            return Admission::Probe;
        }
        Admission::Fail(down.cause(now))
    }

    /// Returns the reason to fail for a request that ends at `deadline`, or after its `retries`, and has waited for its turn
    /// since before the store went down.
    pub(crate) fn is_down(&self, now: Instant, deadline: Instant, retries: u32) -> Option<Cause> {
        let state = self.0.lock();
        state.down.as_ref().filter(|down| down.concerns(now, deadline, retries)).map(|down| down.cause(now))
    }

    /// Returns how long the store has not worked.
    pub(crate) fn down_for(&self, now: Instant) -> Option<Duration> {
        self.0.lock().down.as_ref().map(|down| now.saturating_duration_since(down.since))
    }

    /// Notes that the store has answered, whatever it was, unless it was that it cannot. Returns whether it was down.
    pub(crate) fn answered(&self, now: Instant) -> bool {
        let mut state = self.0.lock();
        state.answered = Some(now);
        state.down.take().is_some()
    }

    /// Notes that an access that began at `begun` has failed for `cause`, which is the store's, after a number of attempts. If
    /// the store has answered another one since, it works. Returns whether it is down from now on.
    pub(crate) fn failed(&self, begun: Instant, now: Instant, attempts: u32, cause: &Cause) -> bool {
        let mut state = self.0.lock();
        if state.answered.is_some_and(|answered| answered >= begun) {
            return false;
        }
        // What the store has asked for counts as what was waited.
        let waited = now.saturating_duration_since(begun).max(cause.wants_pause());
        let is_silence = matches!(cause, Cause::Deadline { .. }) && cause.is_silence();
        let retries = attempts.checked_sub(1).filter(|_| !is_silence);
        match &mut state.down {
            Some(down) => {
                down.last = cause.clone();
                down.waited = down.waited.max(waited);
                down.retries = down.retries.max(retries);
                if let Some(probed) = down.probe.filter(|&probed| begun >= probed) {
                    // No more than half of the time is spent on waiting for probes.
                    down.pause = (2 * down.pause).min(PAUSE.1).max(now.saturating_duration_since(probed));
                    down.next = now + down.pause;
                    down.probe = None;
                }
                false
            }
            None => {
                let (last, pause) = (cause.clone(), PAUSE.0);
                state.down = Some(Down { since: begun, last, waited, retries, next: now + pause, pause, probe: None });
                true
            }
        }
    }

    /// Notes that the probe was given up, without a result.
    pub(crate) fn gave_up(&self, begun: Instant) {
        if let Some(down) = &mut self.0.lock().down {
            down.probe = down.probe.filter(|&probed| begun < probed);
        }
    }
}

impl Down {
    /// Returns whether an access that ends at `deadline`, or after its `retries`, would probably fail.
    fn concerns(&self, now: Instant, deadline: Instant, retries: u32) -> bool {
        deadline.saturating_duration_since(now) <= self.waited.saturating_mul(2) || Some(retries) <= self.retries
    }

    fn cause(&self, now: Instant) -> Cause {
        Cause::Down { since: now.saturating_duration_since(self.since), last: Box::new(self.last.clone()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const RETRIES: u32 = 3;
    const ATTEMPTS: u32 = RETRIES + 1;

    fn admit(health: &Health, now: Instant) -> Admission {
        health.admit(now, now + SECOND, RETRIES)
    }

    fn cause() -> Cause {
        Cause::Connection("refused".into())
    }

    #[test]
    fn one_access_waits_and_the_others_fail_at_once_until_a_probe_succeeds() {
        let (health, start) = (Health::default(), Instant::now());
        assert!(matches!(admit(&health, start), Admission::Go));
        assert!(health.failed(start, start + SECOND, ATTEMPTS, &cause()));
        let now = start + SECOND;
        for _ in 0..3 {
            let Admission::Fail(Cause::Down { since, .. }) = admit(&health, now) else { panic!("not at once") };
            assert_eq!(since, SECOND);
        }
        let later = now + PAUSE.0;
        assert!(matches!(admit(&health, later), Admission::Probe));
        assert!(matches!(admit(&health, later), Admission::Wait));
        // It waited for three seconds: so the next one is not before as long again.
        let end = later + 3 * SECOND;
        assert!(!health.failed(later, end, ATTEMPTS, &cause()));
        assert!(matches!(admit(&health, end + 2 * SECOND), Admission::Fail(_)));
        assert!(matches!(admit(&health, end + 3 * SECOND), Admission::Probe));
        assert!(health.answered(end + 3 * SECOND));
        assert!(matches!(admit(&health, end + 3 * SECOND), Admission::Go));
    }

    #[test]
    fn a_store_that_answers_others_is_not_down() {
        let (health, start) = (Health::default(), Instant::now());
        health.answered(start + SECOND);
        assert!(!health.failed(start, start + 2 * SECOND, ATTEMPTS, &cause()));
        assert!(matches!(admit(&health, start + 2 * SECOND), Admission::Go));
    }

    #[test]
    fn a_probe_that_was_given_up_leaves_room_for_another_one() {
        let (health, start) = (Health::default(), Instant::now());
        health.failed(start, start, ATTEMPTS, &cause());
        let later = start + PAUSE.0;
        assert!(matches!(admit(&health, later), Admission::Probe));
        health.gave_up(later);
        assert!(matches!(admit(&health, later), Admission::Probe));
    }

    #[test]
    fn a_short_wait_in_vain_is_no_reason_to_fail_for_those_that_may_wait_longer() {
        let (health, start) = (Health::default(), Instant::now());
        let short = SECOND / 100;
        health.failed(start, start + short, 1, &Cause::Deadline { after: short, last: None });
        let now = start + short;
        assert!(matches!(health.admit(now, now + short, 0), Admission::Fail(_)));
        assert!(matches!(health.admit(now, now + SECOND, 0), Admission::Go));
        let is_down = |now, time, retries| health.is_down(now, now + time, retries).is_some();
        assert!(is_down(now, short, RETRIES) && !is_down(now, SECOND, 0));
        // The longer one waits in vain, too.
        health.failed(now, now + SECOND, 1, &Cause::Deadline { after: SECOND, last: None });
        assert!(is_down(now, SECOND, RETRIES) && !is_down(now, 1000 * SECOND, 0));
    }

    #[test]
    fn few_retries_are_no_reason_to_fail_for_those_that_have_more() {
        let (health, now) = (Health::default(), Instant::now());
        let is_down = |retries| health.is_down(now, now + 1000 * SECOND, retries).is_some();
        health.failed(now, now, 1, &cause());
        assert!(is_down(0) && !is_down(1));
        assert!(matches!(health.admit(now, now + SECOND, 1), Admission::Go));
        health.failed(now, now, ATTEMPTS, &cause());
        assert!(is_down(RETRIES) && !is_down(RETRIES + 1));
        // A probe has no retries, and knows no better.
        health.failed(now, now, 1, &cause());
        assert!(is_down(RETRIES));
    }

    #[test]
    fn a_store_that_asks_for_a_pause_is_down_for_those_that_end_before() {
        let (health, now) = (Health::default(), Instant::now());
        let busy = Cause::Status { status: 503, code: None, retry_after: Some(30 * SECOND) };
        health.failed(now, now, 1, &busy);
        let is_down = |time| health.is_down(now, now + time, 8).is_some();
        assert!(is_down(30 * SECOND) && !is_down(90 * SECOND));
    }
}
