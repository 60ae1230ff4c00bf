//! URLs in messages: without what may be a secret. A log of messages is read by more people than a command line.

use std::borrow::Cow;

/// Returns whether the value of a parameter of a path (`;sig=…`) is secret.
#[cfg(feature = "store")]
use faultin_store::is_secret_part;

/// Without stores, no object has a name that would have to be told as a whole.
#[cfg(not(feature = "store"))]
fn is_secret_part(_: &str) -> bool {
    true
}

/// Returns whether a text is a URL, or seems to be meant as one. `./s3://NAME` is a file.
fn is_url(text: &str) -> bool {
    let Some((scheme, rest)) = text.split_once(':') else { return false };
    let is_scheme = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    is_scheme && (rest.starts_with("//") || super::sum::is_scheme(&scheme.to_ascii_lowercase()))
}

/// Returns what may be told of a text: of a URL neither user, password, query nor fragment. Where an `@` is in such a part, or after
/// it, it is not certain what is a secret: then only the scheme.
pub fn told(text: &str) -> Cow<'_, str> {
    if !is_url(text) {
        return Cow::Borrowed(text);
    }
    let mut parameters = text.match_indices(';').map(|(at, _)| at);
    let parameter = parameters.find(|at| is_secret_part(text[at + 1..].split('=').next().unwrap_or_default()));
    let end = parameter.into_iter().chain(text.find(['?', '#'])).min().unwrap_or(text.len());
    let scheme = text.split_once(':').map_or("", |(scheme, _)| scheme);
    match text.rfind('@') {
        Some(at) if at > end => Cow::Owned(format!("{scheme}://***")),
        Some(at) => Cow::Owned(format!("{scheme}://{}", &text[at + 1..end])),
        None => Cow::Borrowed(&text[..end]),
    }
}

/// Returns a message in which the arguments of the command line, and the values of their options, are as they may be [`told`].
pub fn told_in(message: &str, arguments: impl Iterator<Item = String>) -> String {
    arguments.fold(message.to_owned(), |message, argument| {
        let value =
            argument.split_once('=').filter(|_| argument.starts_with('-')).map_or(&*argument, |(_, value)| value);
        match told(value) {
            told if told == value => message,
            told => message.replace(value, &told),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neither_users_nor_queries_are_told() {
        for (text, wanted) in [
            ("https://host/x?X-Amz-Signature=hunter22", "https://host/x"),
            ("HTTPS://host/x?sig=hunter22", "HTTPS://host/x"),
            ("http:host/x?sig=hunter22", "http:host/x"),
            ("ftp://me:hunter22@host/x", "ftp://host/x"),
            ("http://me:hun/ter22@host/x", "http://host/x"),
            ("http://me:hun?ter22@host/x", "http://***"),
            ("https://host/o?GoogleAccessId=me@iam.example&Signature=hunter22", "https://***"),
            ("https://host/x#hunter22", "https://host/x"),
            #[cfg(feature = "store")]
            ("https://host/a;v=1;X-Amz-Signature=hunter22/b", "https://host/a;v=1"),
            #[cfg(not(feature = "store"))]
            ("https://host/a;v=1;X-Amz-Signature=hunter22/b", "https://host/a"),
            ("s3://bucket/key", "s3://bucket/key"),
            #[cfg(feature = "store")]
            ("http://host/a;v=1", "http://host/a;v=1"),
            ("./s3://bucket/key?x", "./s3://bucket/key?x"),
            ("what? me@home: no", "what? me@home: no"),
            ("C:file?", "C:file?"),
        ] {
            assert_eq!(told(text), wanted);
        }
    }

    #[test]
    fn a_message_has_no_argument_with_a_secret() {
        let arguments = ["--length=https://h/x?sig=hunter22", "s3://b/k?sig=hunter23", "plain"].map(str::to_owned);
        let message = "invalid value 'https://h/x?sig=hunter22' or 's3://b/k?sig=hunter23' or plain";
        let told = told_in(message, arguments.into_iter());
        assert_eq!(told, "invalid value 'https://h/x' or 's3://b/k' or plain");
    }
}
