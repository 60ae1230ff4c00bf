//! Positions: invalid ones, and saved states.

use faultin::ReadView;
use faultin::iov::{IovDest, IovRangeError, IovSource, ReadSegment, WriteSegment};

type Segments<'a> = [ReadSegment<'a, ReadView<'a>>; 4];

fn segments<'a>() -> Segments<'a> {
    [&b"abc"[..], b"", b"defgh", b"ij"].map(ReadSegment::Plain)
}

#[test]
fn a_revert_beyond_the_start_is_an_error_and_changes_nothing() {
    let segments = segments();
    let mut iov = IovSource::new(&segments);
    assert_eq!(iov.revert(1), Err(IovRangeError));
    iov.advance(4);
    assert_eq!(iov.revert(5), Err(IovRangeError));
    assert_eq!(iov.revert(usize::MAX), Err(IovRangeError));
    assert_eq!((iov.moved(), iov.count()), (4, 6));
    assert_eq!(iov.revert(4), Ok(()));
    assert_eq!((iov.moved(), iov.count(), iov.single_seg_count()), (0, 10, 3));
    let error: std::io::Error = IovRangeError.into();
    assert_eq!(faultin::errno(&error), Some(libc::EINVAL));
}

#[test]
fn truncate_then_revert_goes_by_the_bytes_and_not_by_the_cut_segments() {
    let segments = segments();
    let mut iov = IovSource::new(&segments);
    iov.truncate(5);
    iov.advance(100);
    assert_eq!((iov.moved(), iov.count()), (5, 0));
    iov.revert(3).unwrap();
    let mut next = [0; 3];
    assert_eq!(iov.copy_from_iter(&mut next), Ok(3));
    assert_eq!(&next, b"cde");
    assert_eq!(iov.reexpand(6), Err(IovRangeError), "there are 5 behind the position");
    assert_eq!(iov.reexpand(5), Ok(()));
    let mut rest = [0; 9];
    assert_eq!(iov.copy_from_iter(&mut rest), Ok(5));
    assert_eq!(&rest[..5], b"fghij");
}

#[test]
fn a_state_of_another_list_is_refused() {
    let (ours, others) = (segments(), [&b"abcdefgh"[..], b"ij"].map(ReadSegment::<ReadView<'_>>::Plain));
    let (mut iov, mut other) = (IovSource::new(&ours), IovSource::new(&others));
    let start = iov.save();
    iov.advance(6);
    let middle = iov.save();
    other.advance(6);
    assert_eq!(iov.restore(other.save()), Err(IovRangeError), "another place for the same bytes");
    assert_eq!(other.restore(middle), Err(IovRangeError));
    assert_eq!((iov.restore(start), iov.moved(), iov.count()), (Ok(()), 0, 10));
    assert_eq!((iov.restore(middle), iov.moved(), iov.count()), (Ok(()), 6, 4), "forwards, too");
}

#[test]
fn what_is_left_comes_segment_by_segment() {
    let segments = segments();
    let mut iov = IovSource::new(&segments);
    iov.advance(1);
    iov.truncate(6);
    let left: Vec<usize> = iov
        .segments()
        .map(|segment| match segment {
            ReadSegment::Plain(bytes) => bytes.len(),
            ReadSegment::Memory(view) => view.len(),
        })
        .collect();
    assert_eq!(left, [2, 4]);

    let (mut a, mut b) = ([0; 3], [0; 4]);
    let mut segments = [WriteSegment::<faultin::WriteView<'_>>::Plain(&mut a), WriteSegment::Plain(&mut b)];
    let mut iov = IovDest::new(&mut segments);
    iov.advance(2);
    for (index, segment) in iov.segments().enumerate() {
        if let WriteSegment::Plain(bytes) = segment {
            bytes.fill(index as u8 + 1);
        }
    }
    assert_eq!((a, b), ([0, 0, 1], [2; 4]));
}

#[test]
fn a_position_never_rests_on_an_empty_segment() {
    let segments = [&b""[..], b"", b"x", b"", b"y", b""].map(ReadSegment::<ReadView<'_>>::Plain);
    let mut iov = IovSource::new(&segments);
    let mut seen = Vec::new();
    while iov.single_seg_count() > 0 {
        let mut byte = [0];
        let step = iov.single_seg_count();
        assert_eq!(iov.copy_from_iter(&mut byte[..step]), Ok(1));
        seen.push(byte[0]);
    }
    assert_eq!((seen.as_slice(), iov.count()), (&b"xy"[..], 0));
}
