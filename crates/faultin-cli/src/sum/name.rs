//! Names of files in lists of checksums, as b3sum writes them.
//!
//! A name with a backslash or the end of a line in it is escaped, and its line begins with a backslash. A name that is not
//! Unicode cannot be written losslessly; it is printed with replacement characters, which a check rejects.

use std::borrow::Cow;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};

use faultin_guard::is_plain;

/// Returns the line's first character if its name is escaped, and the name.
pub fn printed(file: &Path) -> (&'static str, String) {
    let name = file.to_string_lossy();
    if name.contains(['\\', '\n', '\r']) {
        ("\\", name.replace('\\', "\\\\").replace('\n', "\\n").replace('\r', "\\r"))
    } else {
        ("", name.into_owned())
    }
}

/// Returns a name for a message: one line, and nothing that a terminal obeys. If it is a URL, that has no secret.
pub fn shown(file: &Path) -> String {
    if super::is_stdin(file) {
        return "standard input".to_owned();
    }
    plain(&crate::url::told(&file.to_string_lossy())).into_owned()
}

/// Returns a printed name for standard output. A name may have escape codes, and nobody has looked at the names in a list
/// that somebody sent: a terminal gets them escaped, a pipe or a file as they are.
pub fn for_output(name: &str) -> Cow<'_, str> {
    if io::stdout().is_terminal() { plain(name) } else { Cow::Borrowed(name) }
}

/// Escapes the characters that a terminal obeys.
pub fn plain(text: &str) -> Cow<'_, str> {
    if text.chars().all(is_plain) {
        return Cow::Borrowed(text);
    }
    let escape = |c: char| if is_plain(c) { String::from(c) } else { c.escape_default().collect() };
    Cow::Owned(text.chars().map(escape).collect())
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
    fn a_message_has_nothing_that_a_terminal_obeys() {
        let name = "miss\nfaultin sum: all fine\x1b]0;pwned\x07\u{9b}2K \u{202e}cod";
        assert_eq!(shown(Path::new(name)), "miss\\nfaultin sum: all fine\\u{1b}]0;pwned\\u{7}\\u{9b}2K \\u{202e}cod");
        assert_eq!(shown(Path::new("a name \\ é 日本")), "a name \\ é 日本");
    }

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
