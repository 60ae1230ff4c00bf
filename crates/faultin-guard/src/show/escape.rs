//! Names that others choose, for terminals and for JSON.

use std::ffi::OsStr;
use std::fmt::Write;
use std::os::unix::ffi::OsStrExt;

/// A name with nothing in it that a terminal obeys or a reader takes for something else: control characters, also of Unicode
/// (directions of text, separators of lines), bytes that are not UTF-8, and backslashes are escaped.
pub(super) fn escaped(name: &OsStr) -> String {
    let mut text = String::with_capacity(name.len());
    for chunk in name.as_bytes().utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '\n' => text.push_str("\\n"),
                '\\' => text.push_str("\\\\"),
                _ if is_plain(character) => text.push(character),
                _ => text.extend(character.escape_unicode()),
            }
        }
        for byte in chunk.invalid() {
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    text
}

/// Returns whether a character shows as itself, alone and between others: no control character of a terminal or of Unicode, such as
/// those for directions of text and the end of a line. (`char::escape_debug` leaves directions of text alone.) Text that others
/// choose is safe for a terminal if all of its other characters are escaped.
#[must_use]
pub fn is_plain(character: char) -> bool {
    let is_format = matches!(character,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}');
    !character.is_control() && !is_format
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_reaches_a_terminal_that_it_obeys() {
        let of = |bytes: &[u8]| escaped(OsStr::from_bytes(bytes));
        assert_eq!(of(b"/tmp/plain name"), "/tmp/plain name");
        assert_eq!(of("/tmp/größe".as_bytes()), "/tmp/größe");
        assert_eq!(of(b"a\nb\x1b[31mc\x07\x7f"), "a\\nb\\u{1b}[31mc\\u{7}\\u{7f}");
        assert_eq!(of(b"\xff\\n"), "\\xff\\\\n");
        assert_eq!(of("\u{9b}1m\u{202e}\u{2028}".as_bytes()), "\\u{9b}1m\\u{202e}\\u{2028}");
    }

    proptest::proptest! {
        #[test]
        fn any_name_is_a_line_of_plain_characters(name: Vec<u8>) {
            let text = escaped(OsStr::from_bytes(&name));
            proptest::prop_assert!(text.chars().all(is_plain), "{text:?}");
        }

        #[test]
        fn different_names_look_different(a: Vec<u8>, b: Vec<u8>) {
            let same = escaped(OsStr::from_bytes(&a)) == escaped(OsStr::from_bytes(&b));
            proptest::prop_assert_eq!(same, a == b);
        }
    }
}
