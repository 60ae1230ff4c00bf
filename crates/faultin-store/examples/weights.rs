//! `weights URL` maps an object, and sums it in four threads. A server that dies in the middle is a short count and a reason.
use faultin::{ReadView, map::Rights};
use faultin_cache::{Cache, pager::Mode};
use faultin_store::{Error, Object};
use std::{env, num::NonZeroUsize, process::ExitCode, thread, time::Duration};

/// Adds the bytes from `done` on up to one that is inaccessible.
fn add(view: &ReadView<'_>, (done, sum): &mut (usize, u64)) {
    let mut part = [0; 64 << 10];
    while let Some(left) = NonZeroUsize::new(part.len().min(view.len() - *done)) {
        match view.read(&mut part[..left.get()], *done).map_or_else(|short| short.done, |()| left.get()) {
            0 if view.fault_in(*done, left).is_err() => return,
            got => (*done, *sum) = (*done + got, *sum + part[..got].iter().map(|&byte| u64::from(byte)).sum::<u64>()),
        }
    }
}

fn run() -> Result<(), Box<dyn std::error::Error>> {
    let object = Object::open(&env::args().nth(1).ok_or("usage: weights URL")?)?.with_deadline(Duration::from_secs(2));
    let map = Cache::new().open(object.clone())?.map(0..object.size(), Rights::Read, Mode::Mprotect)?;
    let (view, len, mut parts) = (&map.read_view()?, object.size() as usize, [(0, 0); 4]);
    loop {
        thread::scope(|scope| {
            for (at, part) in parts.iter_mut().enumerate() {
                scope.spawn(move || view.subslice(len * at / 4..len * (at + 1) / 4).map(|view| add(&view, part)));
            }
        });
        let (done, sum) = parts.iter().fold((0, 0), |all, part| (all.0 + part.0, all.1 + part.1));
        println!("{done} of {len} bytes of {}: sum {sum}", object.version());
        let Some(error) = map.last_error().filter(|_| done < len) else { return Ok(()) };
        let passing = Error::of(&error).filter(|of| of.cause().is_transient()).ok_or_else(|| error.to_string())?;
        println!("then: {passing}");
        thread::sleep(Duration::from_secs(1));
    }
}

fn main() -> ExitCode {
    run().inspect_err(|error| eprintln!("{error}")).map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS)
}
