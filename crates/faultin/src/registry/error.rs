//! Errors of an installation.

/// The reason why the handler could not be installed or a table not be registered.
#[derive(Debug)]
#[non_exhaustive]
pub enum InstallError {
    /// `sigaction(2)` failed for this signal.
    Sigaction(i32, std::io::Error),
    /// Our handler was raised above too many other handlers, one after the other; there is no room for one more.
    TooManyHandlers,
    /// The host owns the handler: see [`host_owns_handler`](crate::signal::host_owns_handler).
    HostOwnsHandler,
    /// An object could not be pinned: its table could be unmapped while the handler reads it.
    Pin(String),
    /// This object's table was not found among the loaded objects: the ELF note was stripped.
    NotFound,
    /// This architecture, or this system, has no handler. On Linux there is [`signal_free`](crate::signal_free).
    Unsupported,
}

impl core::fmt::Display for InstallError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            InstallError::Sigaction(signal, error) => write!(f, "sigaction for signal {signal}: {error}"),
            InstallError::TooManyHandlers => f.write_str("too many other handlers to stand above"),
            InstallError::HostOwnsHandler => f.write_str("the host owns the handler; ours is not installed"),
            InstallError::Pin(what) => write!(f, "cannot keep {what} from being unloaded"),
            InstallError::NotFound => {
                f.write_str("this object's exception table is not registered; was the note `faultin` stripped from it?")
            }
            InstallError::Unsupported => {
                f.write_str("no fault handler for this architecture or system (Linux has the signal-free mode)")
            }
        }
    }
}

impl core::error::Error for InstallError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            InstallError::Sigaction(_, error) => Some(error),
            _ => None,
        }
    }
}

impl InstallError {
    /// Returns the kernel's error number, `None` if the error is not the kernel's.
    pub fn errno(&self) -> Option<i32> {
        match self {
            InstallError::Sigaction(_, error) => error.raw_os_error(),
            _ => None,
        }
    }
}

impl From<InstallError> for std::io::Error {
    fn from(error: InstallError) -> Self {
        match error {
            InstallError::Unsupported => std::io::Error::new(std::io::ErrorKind::Unsupported, error),
            other => crate::errno::whole(other.errno(), other),
        }
    }
}
