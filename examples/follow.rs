//! Follows a log as `tail -F` does, over a mapping: appended bytes are printed, a truncated file is read from its start, a
//! rotated one is opened again. No change of the file kills it.
//!
//! `cargo run --example follow -- FILE` follows a file until it is interrupted; without one it shows a demonstration.

use std::io::{BufRead, Seek, SeekFrom, Write};
use std::path::Path;
use std::time::Duration;

use faultin::{
    FileMap, MapError, MapOptions,
    map::{Change, Watch},
};

/// Prints the bytes from `*position` on, and advances it.
fn print_new(map: &FileMap, position: &mut u64, out: &mut impl Write) -> Result<(), Box<dyn std::error::Error>> {
    if map.valid_up_to()? > *position {
        map.refresh()?;
        let mut reader = map.reader();
        reader.seek(SeekFrom::Start(*position))?;
        loop {
            // The bytes before an error are the file's.
            let new = reader.fill_buf()?;
            if new.is_empty() {
                break;
            }
            out.write_all(new)?;
            let len = new.len();
            reader.consume(len);
            *position += len as u64;
        }
    }
    Ok(())
}

/// Returns the change that an error reports.
fn change(error: &(dyn std::error::Error + 'static)) -> Option<Change> {
    let inner = |error: &std::io::Error| error.get_ref().and_then(|error| error.downcast_ref::<MapError>()?.change());
    error.downcast_ref::<MapError>().map_or_else(|| error.downcast_ref().and_then(inner), MapError::change)
}

/// Checks the file `looks` times, a `pause` apart.
fn follow(path: &Path, looks: usize, pause: Duration) -> Result<(), Box<dyn std::error::Error>> {
    let (mut map, mut position) = (MapOptions::new().watch(Watch::Appending).open(path)?, 0);
    for _ in 0..looks {
        if let Err(error) = print_new(&map, &mut position, &mut std::io::stdout().lock()) {
            match change(&*error) {
                Some(change) => println!("-- {change}"),
                None => return Err(error),
            }
            position = 0;
            map.refresh()?;
        }
        // Cheap, and only now: the rest of the old file was printed before the new one is opened.
        if map.verify().is_err_and(|error| error.change() == Some(Change::Replaced)) {
            println!("-- {}: another file took its place", path.display());
            (map, position) = (map.reopen()?, 0);
            continue;
        }
        std::thread::sleep(pause);
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    if let Some(path) = std::env::args_os().nth(1) {
        return follow(path.as_ref(), usize::MAX, Duration::from_millis(200));
    }
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("log");
    std::fs::write(&path, "first\n")?;
    std::thread::scope(|scope| {
        scope.spawn(|| -> std::io::Result<()> {
            let pause = || std::thread::sleep(Duration::from_millis(50));
            pause();
            std::fs::File::options().append(true).open(&path)?.write_all(b"second\n")?;
            pause();
            std::fs::write(&path, "new\n")?; // truncated, and begun again
            pause();
            std::fs::rename(&path, folder.path().join("log.1"))?;
            std::fs::write(&path, "rotated\n")
        });
        follow(&path, 30, Duration::from_millis(10))
    })
}
