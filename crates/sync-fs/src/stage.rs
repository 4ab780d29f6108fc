//! The private folder at a root: where new content waits, and old content is judged.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{AtFlags, Mode, OFlags, fchmod, mkdirat, openat, unlinkat};
use rustix::io::Errno;
use rustix::rand::{GetRandomFlags, getrandom};
use towline_sync_core::path::{MAX_DEPTH, STAGE_DIR};

use crate::disk::{Root, list, open_folder, stat_at, stat_of};

const PRIVATE_FOLDER: Mode = Mode::RWXU;
const PRIVATE_FILE: Mode = Mode::RUSR.union(Mode::WUSR);
const IGNORE: &str = ".gitignore";
const INCOMING: &str = "incoming";
const DISPLACED: &str = "displaced";
/// How often the private folder may go while it is opened.
const MOST_LEAVERS: usize = 100;
/// The name of the folder for what was displaced for good.
pub(crate) const TRASH: &str = "trash";

/// An open staging folder.
#[derive(Debug)]
pub(crate) struct Stage {
    folder: OwnedFd,
    /// Its name in the private folder; `None`: it is the private folder itself.
    name: Option<String>,
    /// New content, incomplete or not yet in its place: worthless after a crash.
    incoming: Arc<OwnedFd>,
    /// Old content, moved away and not yet judged: precious after a crash.
    displaced: OwnedFd,
}

impl Stage {
    /// Makes the staging folder of `root`, or opens it: nobody else may be able to reach into it. It is that of a session
    /// which has the root for itself, or of the `name`d one beside others; either is locked.
    pub(crate) fn open(root: &Root, name: Option<&str>) -> io::Result<Self> {
        let folder = match name {
            None => open_private(root.fd(), STAGE_DIR)?,
            Some(name) => open_beside_others(root, name)?,
        };
        match create(folder.as_fd(), IGNORE) {
            Ok(mut file) => file.write_all(b"*\n")?,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
        let incoming = open_private(folder.as_fd(), INCOMING)?;
        let displaced = open_private(folder.as_fd(), DISPLACED)?;
        for name in list(incoming.as_fd())? {
            // Names of ours are; whatever else there is can only be an empty folder or a file.
            match std::str::from_utf8(&name) {
                Ok(name) => remove_tree(incoming.as_fd(), name)?,
                Err(_) => remove(incoming.as_fd(), name.as_slice())?,
            }
        }
        let name = name.map(str::to_owned);
        Ok(Self { folder, name, incoming: Arc::new(incoming), displaced })
    }

    pub(crate) fn folder(&self) -> BorrowedFd<'_> {
        self.folder.as_fd()
    }

    pub(crate) fn incoming(&self) -> BorrowedFd<'_> {
        self.incoming.as_fd()
    }

    /// Returns the folder for new content, to be held by what is on its way.
    pub(crate) fn share_incoming(&self) -> Arc<OwnedFd> {
        Arc::clone(&self.incoming)
    }

    pub(crate) fn displaced(&self) -> BorrowedFd<'_> {
        self.displaced.as_fd()
    }

    /// Tells whether two names that differ only in case are two files here.
    pub(crate) fn is_case_sensitive(&self) -> io::Result<bool> {
        let name = "Case-Probe";
        drop(create(self.incoming(), name)?);
        let blind = stat_at(self.incoming(), "case-probe").is_ok();
        remove(self.incoming(), name)?;
        Ok(!blind)
    }

    /// Tells whether there is nothing on its way in or out.
    pub(crate) fn is_idle(&self) -> bool {
        [self.incoming(), self.displaced()]
            .into_iter()
            .all(|folder| list(folder).is_ok_and(|names| names.is_empty()))
    }

    /// Leaves nothing behind at the root, unless something in here is worth keeping.
    pub(crate) fn remove(self, root: &Root) {
        let others = list(self.folder()).is_ok_and(|names| {
            names.iter().any(|name| ![INCOMING, DISPLACED, IGNORE].map(str::as_bytes).contains(&&**name))
        });
        if !others && self.is_idle() {
            // What fails here is swept by the next session.
            let _left = unlinkat(&self.folder, INCOMING, AtFlags::REMOVEDIR)
                .and_then(|()| unlinkat(&self.folder, DISPLACED, AtFlags::REMOVEDIR))
                .and_then(|()| unlinkat(&self.folder, IGNORE, AtFlags::empty()))
                .map_err(io::Error::from)
                .and_then(|()| self.remove_itself(root));
        }
    }

    fn remove_itself(&self, root: &Root) -> io::Result<()> {
        if let Some(name) = &self.name {
            unlinkat(open_folder(root.fd(), STAGE_DIR)?, name, AtFlags::REMOVEDIR)?;
        }
        // With something of another session in it, it stays.
        Ok(unlinkat(root.fd(), STAGE_DIR, AtFlags::REMOVEDIR)?)
    }
}

/// Opens the folder `name` in the private folder at a root, which whoever leaves last takes along at any time.
fn open_beside_others(root: &Root, name: &str) -> io::Result<OwnedFd> {
    for _ in 0..MOST_LEAVERS {
        let private = open_private(root.fd(), STAGE_DIR)?;
        match open_private(private.as_fd(), name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            opened => return opened,
        }
    }
    Err(io::Error::from_raw_os_error(Errno::BUSY.raw_os_error()))
}

/// Makes or opens the folder `name` in `folder`, reachable for nobody but us.
pub(crate) fn open_private(folder: BorrowedFd<'_>, name: &str) -> io::Result<OwnedFd> {
    match mkdirat(folder, name, PRIVATE_FOLDER) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(error) => return Err(error.into()),
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = openat(folder, name, flags, Mode::empty())?;
    let stat = stat_of(fd.as_fd())?;
    if stat.owner != rustix::process::geteuid().as_raw() {
        let message = format!("{name} belongs to another user");
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, message));
    }
    if stat.mode & 0o777 != 0o700 {
        fchmod(&fd, PRIVATE_FOLDER)?;
    }
    Ok(fd)
}

/// Makes the file `name`, which must not exist, readable for nobody but us.
pub(crate) fn create(folder: BorrowedFd<'_>, name: &str) -> io::Result<File> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(File::from(openat(folder, name, flags, PRIVATE_FILE)?))
}

/// Removes what has this name: a file, a link, or an empty folder.
pub(crate) fn remove<P: rustix::path::Arg + Copy>(folder: BorrowedFd<'_>, name: P) -> io::Result<()> {
    match unlinkat(folder, name, AtFlags::empty()) {
        Err(Errno::ISDIR | Errno::PERM) => Ok(unlinkat(folder, name, AtFlags::REMOVEDIR)?),
        Err(Errno::NOENT) => Ok(()),
        result => Ok(result?),
    }
}

/// Removes what has this name, with all that is in it.
pub(crate) fn remove_tree(folder: BorrowedFd<'_>, name: &str) -> io::Result<()> {
    match unlinkat(folder, name, AtFlags::empty()) {
        Err(Errno::ISDIR | Errno::PERM) => {
            remove_below(folder, name, MAX_DEPTH)?;
            Ok(unlinkat(folder, name, AtFlags::REMOVEDIR)?)
        }
        Err(Errno::NOENT) => Ok(()),
        result => Ok(result?),
    }
}

/// Removes everything in a folder, which has been judged to hold nothing worth keeping.
pub(crate) fn remove_below(parent: BorrowedFd<'_>, name: &str, depth: usize) -> io::Result<()> {
    let folder = open_folder(parent, name)?;
    for child in list(folder.as_fd())? {
        match unlinkat(&folder, child.as_slice(), AtFlags::empty()) {
            Err(Errno::ISDIR | Errno::PERM) if depth > 0 => {
                let Ok(child) = std::str::from_utf8(&child) else { continue };
                remove_below(folder.as_fd(), child, depth - 1)?;
                unlinkat(&folder, child, AtFlags::REMOVEDIR)?;
            }
            Err(Errno::NOENT) => {}
            result => result?,
        }
    }
    Ok(())
}

/// The token of a root, in its staging folder.
pub(crate) const EPOCH: &str = "epoch";

/// Reads the token of a root that nothing can be created in any more.
pub(crate) fn known_epoch(root: &Root) -> Option<[u8; 16]> {
    let folder = open_folder(root.fd(), STAGE_DIR).ok()?;
    read_epoch(folder.as_fd(), EPOCH).ok()
}

/// Reads the token in the file `name`.
pub(crate) fn read_epoch(folder: BorrowedFd<'_>, name: &str) -> io::Result<[u8; 16]> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut token = [0; 16];
    File::from(openat(folder, name, flags, Mode::empty())?).read_exact(&mut token)?;
    Ok(token)
}

/// Reads the token in the file `name`, or makes it.
pub(crate) fn epoch(folder: BorrowedFd<'_>, name: &str) -> io::Result<[u8; 16]> {
    match read_epoch(folder, name) {
        Ok(token) => return Ok(token),
        // Cut short by a crash before anybody was told of it.
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => remove(folder, name)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let mut token = [0; 16];
    let mut filled = 0;
    while filled < token.len() {
        filled += getrandom(&mut token[filled..], GetRandomFlags::empty())?;
    }
    let mut file = create(folder, name)?;
    file.write_all(&token)?;
    file.sync_data()?;
    Ok(token)
}
