//! A mapped file that is truncated while it is read: two short reads instead of a dead process.

use std::os::fd::AsRawFd;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (file, page) = (tempfile::tempfile()?, faultin::page_size());
    file.set_len(3 * page as u64)?;
    // SAFETY: a new mapping, which stays until the process ends.
    let map =
        unsafe { libc::mmap(std::ptr::null_mut(), 3 * page, libc::PROT_READ, libc::MAP_SHARED, file.as_raw_fd(), 0) };
    assert_ne!(map, libc::MAP_FAILED);
    // SAFETY: the addresses are ours, whatever happens to the file.
    let view = unsafe { faultin::ReadView::new(map.cast(), 3 * page)? };

    file.set_len(page as u64)?;

    let mut buffer = vec![0; 3 * page];
    let short = view.read(&mut buffer, 0).unwrap_err();
    println!("{} of {} bytes: {}", short.done, buffer.len(), short.fault);
    println!("because: {:?}", short.fault.diagnose(&file, short.done as u64)?);
    println!("one word: {:?}", view.load::<u32>(2 * page).map_err(|fault| fault.cause()));
    Ok(())
}
