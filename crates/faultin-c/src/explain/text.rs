//! Lines of limited length, made of plain characters.

use core::fmt::{self, Write};

/// The room for a line with a file's name.
const LONG: usize = 2048;

/// A line.
pub(super) struct Text {
    bytes: [u8; LONG],
    len: usize,
}

impl Text {
    pub(super) const fn new() -> Text {
        Text { bytes: [0; LONG], len: 0 }
    }

    pub(super) fn clear(&mut self) {
        self.len = 0;
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl Write for Text {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        append(&mut self.bytes, &mut self.len, text);
        Ok(())
    }
}

/// A line without a file's name.
pub(super) struct Short {
    bytes: [u8; 192],
    len: usize,
}

impl Short {
    pub(super) fn new() -> Short {
        Short { bytes: [0; 192], len: 0 }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl Write for Short {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        append(&mut self.bytes, &mut self.len, text);
        Ok(())
    }
}

/// Appends what fits; the last byte is kept for the end of the line.
fn append(to: &mut [u8], len: &mut usize, text: &str) {
    for byte in text.bytes() {
        if *len + 1 < to.len() || (byte == b'\n' && *len < to.len()) {
            to[*len] = byte;
            *len += 1;
        }
    }
}

/// A name that other programs choose, for a terminal: what is not a printable ASCII character is escaped. (Names in other
/// scripts are rare in mappings, and telling their control characters apart takes tables.)
pub(super) struct Escaped<'a>(pub &'a [u8]);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for &byte in self.0 {
            match byte {
                b'\\' => f.write_str("\\\\")?,
                b' '..=b'~' => f.write_char(byte as char)?,
                _ => write!(f, "\\x{byte:02x}")?,
            }
        }
        Ok(())
    }
}

/// A number of bytes, as people write it.
pub(super) struct Bytes(pub u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(u64, &str); 4] = [(1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
        let number = self.0;
        match UNITS.iter().find(|(size, _)| number >= *size) {
            None => write!(f, "{number} bytes"),
            Some((size, unit)) if number.is_multiple_of(*size) => write!(f, "{} {unit}", number / size),
            // In tenths, rounded down: formatting of floating-point numbers takes a kilobyte of stack.
            Some((size, unit)) => {
                write!(f, "{}.{} {unit}", number / size, number % size / (size / 10 + 1))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_short() {
        let table = [
            (0, "0 bytes"),
            (1023, "1023 bytes"),
            (4096, "4 KiB"),
            (3 << 29, "1.4 GiB"),
            ((1 << 30) - 1, "1023.9 MiB"),
            (u64::MAX, "16777215.9 TiB"),
        ];
        for (number, expected) in table {
            assert_eq!(Bytes(number).to_string(), expected);
        }
    }

    #[test]
    fn nothing_reaches_a_terminal_that_it_obeys() {
        let text = Escaped(b"/a b\\\x1b[31m\n\x7f\xff").to_string();
        assert_eq!(text, "/a b\\\\\\x1b[31m\\x0a\\x7f\\xff");
    }

    #[test]
    fn a_line_that_is_too_long_keeps_its_end() {
        let mut text = Text::new();
        for _ in 0..LONG {
            text.write_str("ab").unwrap();
        }
        text.write_str("\n").unwrap();
        assert_eq!(text.bytes().len(), LONG);
        assert_eq!(text.bytes().last(), Some(&b'\n'));
    }
}
