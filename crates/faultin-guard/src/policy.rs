//! What the guard does about a fault, by its cause.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// What is done about each cause. [`Policies::default`] explains everything and changes nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Policies {
    /// Threads that need space are held until there is some.
    pub wait_space: Option<WaitSpace>,
    /// Input and output that fails is tried so many times again, with growing pauses.
    pub retry: Option<u32>,
    /// Loads from what is lost see zeros.
    pub zero: bool,
}

/// How long a thread waits for space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WaitSpace {
    /// No value: without a limit.
    pub limit: Option<Duration>,
}

impl WaitSpace {
    /// Waits up to `limit`, or without one.
    #[must_use]
    pub fn up_to(limit: Option<Duration>) -> WaitSpace {
        WaitSpace { limit }
    }
}

/// How often `retry` tries again where no number is given: about 15 seconds.
pub const RETRIES: u32 = 12;

/// How long `wait-space` waits where no limit is given, and no person is there to end it.
pub const LIMIT: Duration = Duration::from_secs(600);

impl Policies {
    /// Parses a list such as `wait-space=5m,retry,zero`; `explain` may be among it. A wait without a limit of its own gets
    /// `limit`.
    ///
    /// # Errors
    /// If a word is not one of these, or its value is not a duration or a number.
    pub fn parse(list: &str, limit: Option<Duration>) -> Result<Policies, PolicyError> {
        let mut policies = Policies::default();
        for word in list.split([',', ' ']).filter(|word| !word.is_empty()) {
            let (name, value) = word.split_once('=').map_or((word, None), |(name, value)| (name, Some(value)));
            let error = || PolicyError { word: word.to_owned() };
            match (name, value) {
                ("explain", None) => {}
                ("zero", None) => policies.zero = true,
                ("retry", None) => policies.retry = Some(RETRIES),
                ("retry", Some(value)) => policies.retry = Some(value.parse().map_err(|_| error())?),
                ("wait-space", None) => policies.wait_space = Some(WaitSpace { limit }),
                ("wait-space", Some(value)) => {
                    let Seconds(limit) = value.parse().map_err(|_| error())?;
                    policies.wait_space = Some(WaitSpace { limit: Some(limit) });
                }
                _ => return Err(error()),
            }
        }
        Ok(policies)
    }
}

/// A word that is not a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyError {
    word: String,
}

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = "explain, wait-space, wait-space=90s (or 10m, 2h), retry, retry=5, zero";
        write!(f, "{:?} is not a policy; these are, separated by commas: {words}", self.word)
    }
}

impl std::error::Error for PolicyError {}

/// A duration as people write it: `90`, `90s`, `10m`, `2h`, `500ms`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seconds(
    /// The duration.
    pub Duration,
);

impl FromStr for Seconds {
    type Err = String;

    fn from_str(text: &str) -> Result<Seconds, String> {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let error = || format!("{text:?} is not a duration such as 90s, 10m or 2h");
        let number: u64 = number.parse().map_err(|_| error())?;
        let milliseconds = match unit {
            "ms" => 1,
            "" | "s" => 1000,
            "m" | "min" => 60_000,
            "h" => 3_600_000,
            _ => return Err(error()),
        };
        Ok(Seconds(Duration::from_millis(number.checked_mul(milliseconds).ok_or_else(error)?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_parsed() {
        let limit = Some(LIMIT);
        let parse = |list| Policies::parse(list, limit);
        assert_eq!(parse(""), Ok(Policies::default()));
        assert_eq!(parse("explain"), Ok(Policies::default()));
        let all = Policies { wait_space: Some(WaitSpace { limit }), retry: Some(RETRIES), zero: true };
        assert_eq!(parse("wait-space,retry zero"), Ok(all));
        let limit = Some(Duration::from_secs(120));
        let some = Policies { wait_space: Some(WaitSpace { limit }), retry: Some(3), zero: false };
        assert_eq!(parse("wait-space=2m,retry=3"), Ok(some));
        for wrong in ["wait", "retry=x", "wait-space=", "wait-space=5d", "zero=1", "explain=yes"] {
            let error = parse(wrong).expect_err(wrong);
            assert!(error.to_string().contains(wrong), "{error}");
        }
    }

    #[test]
    fn durations_are_parsed() {
        let parse = |text: &str| text.parse::<Seconds>().map(|Seconds(duration)| duration.as_millis());
        assert_eq!(parse("90"), Ok(90_000));
        assert_eq!(parse("500ms"), Ok(500));
        assert_eq!(parse("2h"), Ok(7_200_000));
        for wrong in ["", "s", "-1", "1.5s", "18446744073709551615h", "1 s"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
