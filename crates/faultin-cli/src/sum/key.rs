//! The mode of BLAKE3: plain, with a key, or deriving keys from a context.

use std::io::{self, Read};

use blake3::hazmat::{self, ContextKey, HasherExt, Mode};
use blake3::{Hasher, KEY_LEN};

/// The initial state of a hasher.
pub enum Key {
    /// Nothing: BLAKE3 of the data.
    None,
    /// The key of a keyed hash.
    Keyed([u8; KEY_LEN]),
    /// The key of the context from which keys are derived.
    Context(ContextKey),
}

impl Key {
    /// Makes the key that derives keys in `context`.
    pub fn of_context(context: &str) -> Key {
        Key::Context(hazmat::hash_derive_key_context(context))
    }

    /// Reads a key: 32 bytes, no more and no fewer.
    ///
    /// # Errors
    /// Those of `from`; `InvalidData` if it has another number of bytes.
    pub fn read(from: impl Read) -> io::Result<Key> {
        let mut bytes = Vec::with_capacity(KEY_LEN + 1);
        from.take(KEY_LEN as u64 + 1).read_to_end(&mut bytes)?;
        let wrong = |bytes: Vec<u8>| match bytes.len() {
            len @ ..KEY_LEN => format!("a key has {KEY_LEN} bytes, and there are {len} key bytes"),
            _ => format!("a key has {KEY_LEN} bytes, and there are more key bytes"),
        };
        let key = bytes.try_into().map_err(|bytes| io::Error::new(io::ErrorKind::InvalidData, wrong(bytes)))?;
        Ok(Key::Keyed(key))
    }

    /// Makes a hasher.
    pub fn hasher(&self) -> Hasher {
        match self {
            Key::None => Hasher::new(),
            Key::Keyed(key) => Hasher::new_keyed(key),
            Key::Context(key) => Hasher::new_from_context_key(key),
        }
    }

    /// Returns the mode that merges subtrees of such hashers.
    pub fn mode(&self) -> Mode<'_> {
        match self {
            Key::None => Mode::Hash,
            Key::Keyed(key) => Mode::KeyedHash(key),
            Key::Context(key) => Mode::DeriveKeyMaterial(key),
        }
    }
}
