//! Events as JSON, by the schema of `docs/guard.md`.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, SystemTime};

use serde_json::{Map, Value, json};

use crate::event::{Ending, Event, Outcome, Release, Tracing};
use crate::fault::{Cause, Fault, MappedFile};

/// The version of the schema.
const VERSION: u32 = 1;

pub(super) fn of(event: &Event) -> Value {
    let mut object = Map::new();
    object.insert("v".into(), VERSION.into());
    object.insert("time".into(), time(SystemTime::now()));
    let (kind, body) = body(event);
    object.insert("event".into(), kind.into());
    if let Value::Object(body) = body {
        object.extend(body);
    }
    Value::Object(object)
}

fn body(event: &Event) -> (&'static str, Value) {
    match event {
        Event::Fault { fault, outcome: what } => {
            let mut body = self::fault(fault);
            merge(&mut body, outcome(what));
            ("fault", body)
        }
        Event::Repeated { process, thread, address } => (
            "fault",
            json!({ "process": process, "thread": thread, "address": hex(*address), "cause": "repeated", "outcome": "delivered" }),
        ),
        Event::Released { fault, after, why } => {
            let mut body = self::fault(fault);
            let why = match why {
                Release::Ready => "ready",
                Release::Signal => "signal",
                Release::Limit => "limit",
                Release::GuardEnds => "guard-ends",
            };
            merge(&mut body, json!({ "held_seconds": seconds(*after), "why": why }));
            ("released", body)
        }
        Event::StoreToZeros { process, thread, address } => {
            ("store-to-zeros", json!({ "process": process, "thread": thread, "address": hex(*address) }))
        }
        Event::Writers { fault, writers } => {
            let list: Vec<Value> = writers
                .iter()
                .map(|writer| json!({ "process": writer.process, "program": text(&writer.program) }))
                .collect();
            ("writers", json!({ "file": fault.file.as_ref().map(file), "writers": list }))
        }
        Event::Excepted { process, program } => ("excepted", json!({ "process": process, "program": text(program) })),
        Event::CannotTrace { process, program, tracing } => {
            let what = match tracing {
                Tracing::Debugger => "debugger",
                Tracing::LeakSanitizer => "leak-sanitizer",
            };
            ("cannot-trace", json!({ "process": process, "program": text(program), "what": what }))
        }
        Event::Unguarded { why } => ("unguarded", json!({ "why": why })),
        Event::Ended { process, how } => {
            let how = match how {
                Ending::Exit(status) => json!({ "status": status }),
                Ending::Signal(signal) => json!({ "signal": signal }),
            };
            let mut body = json!({ "process": process });
            merge(&mut body, how);
            ("ended", body)
        }
    }
}

fn merge(body: &mut Value, more: Value) {
    if let (Value::Object(body), Value::Object(more)) = (body, more) {
        body.extend(more);
    }
}

fn fault(fault: &Fault) -> Value {
    let mut body = json!({
        "process": fault.process,
        "thread": fault.thread,
        "program": text(&fault.program),
        "thread_name": text(&fault.thread_name),
        "code": fault.code,
        "address": hex(fault.address),
        "access": fault.access.name(),
        "has_handler": fault.has_handler,
        "file": fault.file.as_ref().map(file),
        "cause": fault.cause.name(),
    });
    merge(&mut body, cause(&fault.cause));
    body
}

fn cause(cause: &Cause) -> Value {
    match cause {
        Cause::PastEnd { size, mapped_to, changed } => {
            json!({ "size": size, "mapped_to": mapped_to, "changed": time(*changed) })
        }
        Cause::NoSpace { errno, space } => json!({ "errno": errno, "total": space.total, "free": space.free }),
        Cause::Accessible { space } => json!({ "total": space.total, "free": space.free }),
        Cause::HugePages { page, total, free } => json!({ "page": page, "total": total, "free": free }),
        Cause::Io { errno } => json!({ "errno": errno }),
        Cause::Poison { bytes } => json!({ "bytes": bytes }),
        Cause::NotInspectable { why } => json!({ "why": why }),
        Cause::Unknown { facts } => json!({ "facts": facts }),
        Cause::Misaligned | Cause::Userfaultfd | Cause::Sent => json!({}),
    }
}

fn outcome(outcome: &Outcome) -> Value {
    match outcome {
        Outcome::Delivered { instead } if instead.is_empty() => json!({ "outcome": "delivered" }),
        Outcome::Delivered { instead } => json!({ "outcome": "delivered", "instead": instead }),
        Outcome::Waits { limit } => json!({ "outcome": "waits", "limit_seconds": limit.map(seconds) }),
        Outcome::Retries { left } => json!({ "outcome": "retries", "left": left }),
        Outcome::Repeats => json!({ "outcome": "repeats" }),
        Outcome::Zeros { range } => json!({ "outcome": "zeros", "from": hex(range.start), "to": hex(range.end) }),
    }
}

fn file(file: &MappedFile) -> Value {
    let mount = file
        .mount
        .as_ref()
        .map(|mount| json!({ "point": text(&mount.point), "type": mount.kind, "source": text(&mount.source) }));
    json!({
        "path": text(&file.path),
        "deleted": file.is_deleted,
        "device": file.device,
        "inode": file.inode,
        "offset": file.offset,
        "size": file.size,
        "shared": file.is_shared,
        "executable": file.is_executable,
        "mount": mount,
    })
}

/// A string if it is UTF-8, and otherwise the bytes in hexadecimal.
fn text(name: &OsStr) -> Value {
    match name.to_str() {
        Some(name) => name.into(),
        None => json!({ "hex": name.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect::<String>() }),
    }
}

/// JSON has no numbers of 64 bits that all readers keep.
fn hex(address: u64) -> Value {
    format!("{address:#x}").into()
}

fn seconds(duration: Duration) -> f64 {
    duration.as_secs_f64()
}

fn time(time: SystemTime) -> Value {
    time.duration_since(SystemTime::UNIX_EPOCH).map_or(Value::Null, |since| seconds(since).into())
}
