//! What has become of the file of a [`FileMap`]: another state, or another file of its name.

use std::sync::Arc;

use super::error::{Change, MapError, OperationError, Reason, SIZE_UNKNOWN};
use super::file::FileMap;
use super::mapped::Rights;
#[cfg(doc)]
use super::options::{Backend, MapOptions, Watch};
use super::size;
use super::stamp::{Freshness, Observation};

impl FileMap {
    /// Accepts the current state of the file, and returns what changed since it was mapped or last refreshed, `None` if
    /// nothing did. From now on operations compare with this state, and reach to its end. On a network file system this
    /// queries the server.
    ///
    /// The file stays the same: its name is not looked up. [`reopen`](Self::reopen) follows the name. Operations of other
    /// threads that are under way continue unchanged. Nothing is unmapped.
    ///
    /// On overlayfs the mapping may show another file by then: a file of a lower layer is copied when it is opened for
    /// writing. So a file that has changed is opened and mapped again there. After the eighth time the map continues over
    /// [pread](Backend::Pread), which always reads the file's bytes; so it does where the file cannot be opened.
    ///
    /// A map of [`Backend::Automatic`] also makes sure that its faults are still recovered, as when it was opened. It
    /// continues over pread where they are not, and where there are no addresses for the file's new size.
    ///
    /// # Errors
    /// [`Io`](Reason::Io) if the file cannot be queried, or there are no addresses for its new size; the map is unchanged.
    /// [`Changed`](Reason::Changed) with [`Replaced`](Change::Replaced) where another mapping is needed and not available,
    /// and [`Backend::Mapped`] was requested: until it is available, the map reads the file.
    /// [`Unsupported`](Reason::Unsupported) if [its size is not known](super::has_known_size) any more.
    pub fn refresh(&self) -> Result<Option<Change>, MapError> {
        let lock = self.record().lock();
        let before = self.record().base().stamp;
        let fresh = || -> Result<Observation, OperationError> {
            let io = |error| OperationError::io(0, error);
            let now = self.watch().observe(|| self.now_as(Freshness::Server)).map_err(io)?;
            if now.stamp.size == 0 && !size::has_size(self.file(), 0).map_err(io)? {
                return Err(OperationError::new(0, Reason::Unsupported(SIZE_UNKNOWN)));
            }
            if let Some(space) = self.space() {
                space.renew(self.engine(), self.options(), self.path(), self.may_move(), &before, &now.stamp)?;
            }
            Ok(now)
        };
        let now = fresh().map_err(|stop| self.error(0, stop))?;
        // The mapping was published first: a thread that sees the size sees addresses for it.
        self.record().set(&lock, &now);
        Ok(now.stamp.change_since(&before))
    }

    /// Returns `Ok` if the file is the one that was mapped or last [`refresh`](Self::refresh)ed, has not changed since, and
    /// its name still leads to it: by the rules of [`Watch::Contents`], whatever the map watches. On a network file system
    /// this queries the server. The name is looked up in the directory that contained it when the map was opened.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("log");
    /// # std::fs::write(&path, "old\n")?;
    /// use faultin::{FileMap, map::Change};
    ///
    /// let map = FileMap::open(&path)?;
    /// map.verify()?;
    /// // The log is rotated.
    /// std::fs::rename(&path, path.with_extension("1"))?;
    /// std::fs::write(&path, "new\n")?;
    /// assert_eq!(map.verify().unwrap_err().change(), Some(Change::Replaced));
    /// assert_eq!(map.find(b"old", ..)?, Some(0)); // the map keeps the file that it has
    /// assert_eq!(map.reopen()?.find(b"new", ..)?, Some(0));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// A change that operations have accepted meanwhile is still a change. If a file was changed within a tick of the clock
    /// before it was mapped, a further change within that tick is not detected (see [`watches`](Self::watches)), unless the
    /// map is of [`Watch::Contents`], which has waited.
    ///
    /// # Errors
    /// [`Changed`](Reason::Changed): a size or a time of modification that moved comes first, then a name that leads to
    /// another file ([`Replaced`](Change::Replaced)) or to none ([`Deleted`](Change::Deleted)), then a change time that
    /// moved ([`Touched`](Change::Touched)). [`Io`](Reason::Io) if the file cannot be queried.
    pub fn verify(&self) -> Result<(), MapError> {
        let base = self.record().base();
        let now = self.now_as(Freshness::Server).map_err(|error| self.error(0, OperationError::io(0, error)))?;
        let change = match now.change_since(&base.stamp) {
            None | Some(Change::Touched) => {
                let name = self.name().and_then(|name| name.change_from(&now));
                name.or_else(|| now.change_since(&base.stamp))
            }
            change => change,
        };
        match change {
            None => Ok(()),
            Some(change) => Err(self.error(0, OperationError::new(0, Reason::Changed(change)))),
        }
    }

    /// Opens the file that the name leads to now, in the directory that contained it when this map was opened, and maps it
    /// with the same [options](MapOptions), to read: for a log that was rotated.
    ///
    /// # Errors
    /// As [`MapOptions::open`]; [`Unsupported`](Reason::Unsupported) if this map was made of a file without a name.
    pub fn reopen(&self) -> Result<FileMap, MapError> {
        let Some(name) = self.name() else {
            return Err(
                self.error(0, OperationError::new(0, Reason::Unsupported("opening it by a name that is not known")))
            );
        };
        let file = name.open().map_err(|error| self.error(0, OperationError::io(0, error)))?;
        self.options().map(file, Some(Arc::clone(name)), Rights::Read)
    }
}
