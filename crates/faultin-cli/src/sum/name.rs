//! Names of files in lists of checksums, as b3sum writes them.
//!
//! A name with a backslash or the end of a line in it is escaped, and its line begins with a backslash. A name that is not
//! Unicode cannot be written losslessly; it is printed with replacement characters, which a check rejects.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

/// Returns the line's first character if its name is escaped, and the name.
pub fn printed(file: &Path) -> (&'static str, String) {
    let name = file.to_string_lossy();
    if name.contains(['\\', '\n', '\r']) {
        ("\\", name.replace('\\', "\\\\").replace('\n', "\\n").replace('\r', "\\r"))
    } else {
        ("", name.into_owned())
    }
}

/// Returns a name for a message.
pub fn shown(file: &Path) -> Cow<'_, str> {
    if super::is_stdin(file) { Cow::Borrowed("standard input") } else { file.to_string_lossy() }
}

/// Returns the name that was printed like this.
///
/// # Errors
/// The reason why it cannot be a name.
pub fn parsed(text: &str, escaped: bool) -> Result<PathBuf, &'static str> {
    if text.is_empty() {
        return Err("no name");
    }
    // The kernel would end the name there.
    if text.contains('\0') {
        return Err("the name has a NUL character");
    }
    if text.contains('\u{fffd}') {
        return Err("the name was not Unicode when it was printed");
    }
    if !escaped {
        return Ok(text.into());
    }
    let (mut name, mut characters) = (String::new(), text.chars());
    while let Some(character) = characters.next() {
        name.push(match (character, (character == '\\').then(|| characters.next())) {
            ('\\', Some(Some('\\'))) => '\\',
            ('\\', Some(Some('n'))) => '\n',
            ('\\', Some(Some('r'))) => '\r',
            ('\\', _) => return Err("the name has an escape that is none of \\\\, \\n and \\r"),
            (other, _) => other,
        });
    }
    Ok(name.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_is_parsed_back() {
        for name in ["a", "with  two spaces", "back\\slash", "two\nlines", "carriage\rreturn", "ümlaut", "\\", "\\n"] {
            let (escape, text) = printed(Path::new(name));
            assert!(!text.contains('\n'), "{text:?}");
            assert_eq!(parsed(&text, !escape.is_empty()), Ok(PathBuf::from(name)));
        }
    }

    #[test]
    fn what_nobody_prints_is_refused() {
        for (text, escaped) in [("", false), ("a\u{fffd}b", false), ("a\\", true), ("a\\x", true), ("a\0b", false)] {
            assert!(parsed(text, escaped).is_err(), "{text:?}");
        }
    }
}
