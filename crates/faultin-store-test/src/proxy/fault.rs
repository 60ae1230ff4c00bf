//! [`Fault`]: what happens to a request, or to its answer.

use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use faultin_test::Random;

use super::Request;

/// What the proxy does with a request, and with its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// Passes both.
    None,
    /// Waits, then does something else.
    Delay {
        /// How long.
        by: Duration,
        /// What then.
        then: Box<Fault>,
    },
    /// Resets the client's connection after this many bytes of the body. 0: before the answer.
    Reset {
        /// Number of bytes.
        after: u64,
    },
    /// Closes the client's connection after this many bytes of the body.
    Close {
        /// Number of bytes.
        after: u64,
    },
    /// Sends this many bytes of the body, then nothing; the connection stays open.
    Stall {
        /// Number of bytes.
        after: u64,
    },
    /// Sends nothing; the connection stays open.
    Silence,
    /// Sends the body byte by byte.
    Trickle {
        /// The time between two bytes.
        every: Duration,
    },
    /// Answers with this status instead of the server.
    Status {
        /// The status.
        status: u16,
        /// The value of `Retry-After`, in seconds.
        retry_after: Option<u64>,
    },
    /// The body is one byte short, and its length says so.
    Short,
    /// The body is one byte long, and its length says so.
    Long,
    /// A page about an error, with status 200.
    ErrorPage,
    /// A page about an error, with status 206, and with the length and the `Content-Range` that were requested.
    PaddedErrorPage,
    /// `Content-Range` is of the next byte to the last one.
    ContentRange,
    /// The whole object, with status 200, in place of the range. Only with [`Access::Anonymous`](crate::Access::Anonymous).
    Whole,
    /// The answer's etag is another one.
    Etag,
    /// A redirect there.
    Redirect {
        /// The other server.
        to: SocketAddr,
    },
    /// The request loses its `If-…` fields, and the signature that covers them. Only with
    /// [`Access::Anonymous`](crate::Access::Anonymous).
    StripConditions,
    /// The answer is not HTTP.
    Garbage,
}

impl Fault {
    /// Returns a delay and nothing else.
    #[must_use]
    pub fn delay(by: Duration) -> Fault {
        Fault::Delay { by, then: Box::new(Fault::None) }
    }

    /// Returns 503 with the code `SlowDown`, as S3 limits rates.
    #[must_use]
    pub fn slow_down() -> Fault {
        Fault::Status { status: 503, retry_after: None }
    }
}

impl FromStr for Fault {
    type Err = String;

    /// Parses `none`, `delay:MS`, `reset:BYTES`, `close:BYTES`, `stall:BYTES`, `silence`, `trickle:MS`, `status:NUMBER`,
    /// `status:NUMBER:RETRY-AFTER`, `short`, `long`, `error-page`, `padded-error-page`, `content-range`, `whole`, `etag`,
    /// `redirect:ADDRESS`, `strip-conditions` or `garbage`.
    fn from_str(text: &str) -> Result<Fault, String> {
        let (name, value) = text.split_once(':').map_or((text, None), |(name, value)| (name, Some(value)));
        let number = |value: Option<&str>| -> Result<u64, String> {
            let value = value.ok_or_else(|| format!("{name} needs a number: {name}:NUMBER"))?;
            value.parse().map_err(|_| format!("{value} is no number"))
        };
        let milliseconds = |value| number(value).map(Duration::from_millis);
        let fault = match name {
            "delay" => return Ok(Fault::delay(milliseconds(value)?)),
            "reset" => return Ok(Fault::Reset { after: number(value)? }),
            "close" => return Ok(Fault::Close { after: number(value)? }),
            "stall" => return Ok(Fault::Stall { after: number(value)? }),
            "trickle" => return Ok(Fault::Trickle { every: milliseconds(value)? }),
            "status" => {
                let (status, after) = match value.and_then(|value| value.split_once(':')) {
                    Some((status, after)) => (Some(status), Some(after)),
                    None => (value, None),
                };
                let status = u16::try_from(number(status)?).map_err(|_| "no such status".to_owned())?;
                let retry_after = after.map(|after| number(Some(after))).transpose()?;
                return Ok(Fault::Status { status, retry_after });
            }
            "redirect" => {
                let to = value.and_then(|to| to.parse().ok());
                return Ok(Fault::Redirect { to: to.ok_or("redirect needs an address: redirect:IP:PORT")? });
            }
            "none" => Fault::None,
            "silence" => Fault::Silence,
            "short" => Fault::Short,
            "long" => Fault::Long,
            "error-page" => Fault::ErrorPage,
            "padded-error-page" => Fault::PaddedErrorPage,
            "content-range" => Fault::ContentRange,
            "whole" => Fault::Whole,
            "etag" => Fault::Etag,
            "strip-conditions" => Fault::StripConditions,
            "garbage" => Fault::Garbage,
            _ => return Err(format!("there is no fault {name}")),
        };
        match value {
            None => Ok(fault),
            Some(value) => Err(format!("{name} takes no value, and {value} is one")),
        }
    }
}

/// Returns a script that injects one of `faults` into one request of `once_in`, on average. The same request, by its number,
/// gets the same fault for the same seed.
pub fn mixture(seed: u64, once_in: u64, faults: Vec<Fault>) -> impl Fn(&Request) -> Fault + Send + Sync + 'static {
    move |request| {
        let random = Random::for_user(seed, request.number);
        if faults.is_empty() || !random.once_in(once_in.max(1)) {
            return Fault::None;
        }
        faults[random.below(faults.len())].clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_have_names() {
        let status = |status, retry_after| Fault::Status { status, retry_after };
        for (text, fault) in [
            ("delay:20", Fault::delay(Duration::from_millis(20))),
            ("reset:7", Fault::Reset { after: 7 }),
            ("status:503", status(503, None)),
            ("status:429:2", status(429, Some(2))),
            ("redirect:127.0.0.1:80", Fault::Redirect { to: ([127, 0, 0, 1], 80).into() }),
            ("short", Fault::Short),
        ] {
            assert_eq!(text.parse(), Ok(fault));
        }
        for text in ["", "shorter", "short:1", "reset", "reset:x", "status:70000", "redirect:here"] {
            text.parse::<Fault>().expect_err(text);
        }
    }
}
