//! A hash tool: ten lines, and nothing that happens to the file kills it.
//!
//! `cargo run --example hash -- FILE…` hashes files; without one it hashes a file that is cut meanwhile.

use faultin::map::FileMap;

fn hash(path: &str) -> Result<blake3::Hash, faultin::map::MapError> {
    let map = FileMap::open(path)?;
    let mut hasher = blake3::Hasher::new();
    map.chunks(..).of(64 << 10).for_each(|bytes| {
        hasher.update(bytes);
    })?;
    Ok(hasher.finalize())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut paths: Vec<String> = std::env::args().skip(1).collect();
    let files = tempfile::tempdir()?;
    if paths.is_empty() {
        let path = files.path().join("somebody-elses");
        std::fs::write(&path, vec![7; 256 << 20])?;
        let file = std::fs::File::options().write(true).open(&path)?;
        std::thread::spawn(move || {
            std::thread::sleep(std::time::Duration::from_millis(10));
            file.set_len(5000)
        });
        paths.push(path.display().to_string());
    }
    for path in paths {
        match hash(&path) {
            Ok(hash) => println!("{hash}  {path}"),
            Err(error) => println!("{error}"),
        }
    }
    Ok(())
}
