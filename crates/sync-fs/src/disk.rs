//! The only file that resolves paths: everything below a root is reached from a held descriptor.

use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, FileType, FlockOperation, Mode, OFlags, RawDir, ResolveFlags, Statx, StatxAttributes,
    StatxFlags, flock, fstat, open, openat, openat2, readlinkat, stat, statat, statx,
};
use rustix::io::Errno;
use towline_sync_core::path::RelPath;

/// Which file this is, whatever its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Identity {
    pub(crate) device: u64,
    pub(crate) inode: u64,
}

/// What kind of file this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    Directory,
    Symlink,
    Special,
}

/// Seconds and nanoseconds since 1970, by the file system's clock.
pub(crate) type Timestamp = (i64, u32);

/// One version of a file as far as the kernel tells without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stat {
    pub(crate) identity: Identity,
    pub(crate) kind: Kind,
    /// The twelve permission bits.
    pub(crate) mode: u32,
    pub(crate) size: u64,
    pub(crate) modified: Timestamp,
    pub(crate) changed: Timestamp,
    /// Tells a file from an earlier one whose inode it was given; 0 where the file system does not say.
    pub(crate) born: Timestamp,
    pub(crate) owner: u32,
    pub(crate) mount_root: bool,
}

impl Stat {
    /// Of something that can't be asked about.
    pub(crate) const UNKNOWN: Self = Self {
        identity: Identity { device: 0, inode: 0 },
        kind: Kind::Special,
        mode: 0,
        size: 0,
        modified: (0, 0),
        changed: (0, 0),
        born: (0, 0),
        owner: 0,
        mount_root: false,
    };

    /// Tells whether `self` is the same version as `earlier` under another name: a rename touches only the change
    /// time.
    pub(crate) fn is_moved(&self, earlier: &Self) -> bool {
        Self { changed: earlier.changed, ..*self } == *earlier
    }

    pub(crate) fn is_executable(&self) -> bool {
        self.mode & 0o100 != 0
    }
}

/// How a path of several components becomes a descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Resolver {
    /// By one `openat2` that refuses links and mounts.
    Kernel,
    /// Component by component, where `openat2` is not to be had (old kernels, some seccomp profiles).
    Components,
    /// By the kernel's ordinary walk, through links: shows that the tests for the others can fail.
    #[cfg(test)]
    Unguarded,
}

/// An open root folder.
#[derive(Debug)]
pub(crate) struct Root {
    fd: OwnedFd,
    path: PathBuf,
    identity: Identity,
    resolver: Resolver,
}

const DIRECTORY: OFlags = OFlags::DIRECTORY.union(OFlags::CLOEXEC).union(OFlags::NOFOLLOW);
const BENEATH: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_MAGICLINKS)
    .union(ResolveFlags::NO_XDEV);

const WANTED: StatxFlags = StatxFlags::BASIC_STATS.union(StatxFlags::BTIME);

impl Root {
    /// Opens the folder at `path`, which may itself be reached through links: it is the user's choice.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let fd = open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        let identity = stat_of(fd.as_fd())?.identity;
        let resolver = match openat2(&fd, ".", OFlags::PATH | DIRECTORY, Mode::empty(), BENEATH) {
            Ok(_) => Resolver::Kernel,
            Err(_) => Resolver::Components,
        };
        Ok(Self { fd, path: path.to_owned(), identity, resolver })
    }

    /// Keeps others from working on this folder as long as it is open here. Fails with `WouldBlock` when somebody does.
    /// Those that keep what is theirs elsewhere may work on it side by side: to each, the others are like any program
    /// that writes there.
    pub(crate) fn lock(&self, keep: Option<&OwnedFd>) -> io::Result<()> {
        let Some(keep) = keep else { return lock(&self.fd, FlockOperation::NonBlockingLockExclusive) };
        lock(&self.fd, FlockOperation::NonBlockingLockShared)?;
        lock(keep, FlockOperation::NonBlockingLockExclusive)
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn identity(&self) -> Identity {
        self.identity
    }

    #[cfg(test)]
    pub(crate) fn set_resolver(&mut self, resolver: Resolver) {
        self.resolver = resolver;
    }

    /// Checks that the root's path still leads to the folder that was opened.
    pub(crate) fn check(&self) -> io::Result<()> {
        if from_stat(&stat(&self.path)?).identity == self.identity {
            Ok(())
        } else {
            Err(io::Error::new(io::ErrorKind::NotFound, "another folder stands there now"))
        }
    }

    /// Opens a folder to be listed; `None` is the root.
    pub(crate) fn open_to_list(&self, path: Option<&RelPath>) -> io::Result<OwnedFd> {
        self.resolve(path, OFlags::RDONLY)
    }

    /// Opens the folder that holds `path`, to work on names in it.
    pub(crate) fn open_parent(&self, path: &RelPath) -> io::Result<OwnedFd> {
        self.resolve(path.parent().as_ref(), OFlags::PATH)
    }

    /// Opens a folder to work on names in it.
    pub(crate) fn open_folder(&self, path: &RelPath) -> io::Result<OwnedFd> {
        self.resolve(Some(path), OFlags::PATH)
    }

    fn resolve(&self, path: Option<&RelPath>, access: OFlags) -> io::Result<OwnedFd> {
        let Some(path) = path else {
            return Ok(openat(&self.fd, ".", access | DIRECTORY, Mode::empty())?);
        };
        match self.resolver {
            Resolver::Kernel => loop {
                match openat2(&self.fd, path.as_str(), access | DIRECTORY, Mode::empty(), BENEATH) {
                    Err(Errno::INTR | Errno::AGAIN) => {}
                    result => return Ok(result?),
                }
            },
            Resolver::Components => {
                let mut components = path.components().peekable();
                let mut parent: Option<OwnedFd> = None;
                while let Some(name) = components.next() {
                    let access = if components.peek().is_some() { OFlags::PATH } else { access };
                    let held = parent.as_ref().map_or(self.fd.as_fd(), AsFd::as_fd);
                    let next = openat(held, name, access | DIRECTORY, Mode::empty())?;
                    let stat = stat_of(next.as_fd())?;
                    if stat.mount_root || stat.identity.device != self.identity.device {
                        return Err(Errno::XDEV.into());
                    }
                    parent = Some(next);
                }
                parent.ok_or_else(|| Errno::INVAL.into())
            }
            #[cfg(test)]
            Resolver::Unguarded => {
                let flags = access | OFlags::DIRECTORY | OFlags::CLOEXEC;
                Ok(openat(&self.fd, path.as_str(), flags, Mode::empty())?)
            }
        }
    }
}

/// Opens the folder `name` in `folder` to be listed; a link is refused.
pub(crate) fn open_folder(folder: BorrowedFd<'_>, name: &str) -> io::Result<OwnedFd> {
    Ok(openat(folder, name, OFlags::RDONLY | DIRECTORY, Mode::empty())?)
}

/// Opens the folder `name` in `folder` to work on names in it; a link is refused.
pub(crate) fn enter_folder(folder: BorrowedFd<'_>, name: &str) -> io::Result<OwnedFd> {
    Ok(openat(folder, name, OFlags::PATH | DIRECTORY, Mode::empty())?)
}

/// Opens the regular file `name` in `folder` for reading and returns it with what the kernel says of it.
///
/// Anything else (a link, a pipe that took the file's place, a mounted file) is an error.
pub(crate) fn open_file(folder: BorrowedFd<'_>, name: &str) -> io::Result<(File, Stat)> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let fd = openat(folder, name, flags, Mode::empty())?;
    let stat = stat_of(fd.as_fd())?;
    if stat.kind != Kind::File {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    if stat.mount_root {
        return Err(Errno::XDEV.into());
    }
    Ok((File::from(fd), stat))
}

/// Returns what the kernel says of `name` in `folder`, of a link itself.
pub(crate) fn stat_at(folder: BorrowedFd<'_>, name: &str) -> io::Result<Stat> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    match statx(folder, name, flags, WANTED) {
        Ok(stat) => Ok(from_statx(&stat)),
        Err(Errno::NOSYS | Errno::PERM) => Ok(from_stat(&statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)?)),
        Err(error) => Err(error.into()),
    }
}

/// Takes a lock on an open folder, if it can be had now.
fn lock(folder: &OwnedFd, operation: FlockOperation) -> io::Result<()> {
    match flock(folder, operation) {
        Err(Errno::WOULDBLOCK) => {
            let message = "another sync session is using this folder";
            Err(io::Error::new(io::ErrorKind::WouldBlock, message))
        }
        // A file system without such locks (some NFS): nothing to be had, and no reason not to sync.
        Ok(())
        | Err(Errno::NOLCK | Errno::NOSYS | Errno::OPNOTSUPP | Errno::BADF | Errno::INVAL | Errno::PERM) => {
            Ok(())
        }
        Err(error) => Err(error.into()),
    }
}

/// Returns what the kernel says of an open file.
pub(crate) fn stat_of(fd: BorrowedFd<'_>) -> io::Result<Stat> {
    match statx(fd, "", AtFlags::EMPTY_PATH, WANTED) {
        Ok(stat) => Ok(from_statx(&stat)),
        Err(Errno::NOSYS | Errno::PERM) => Ok(from_stat(&fstat(fd)?)),
        Err(error) => Err(error.into()),
    }
}

/// Tells whether an open file is still the version it was.
pub(crate) fn is_still(fd: BorrowedFd<'_>, before: &Stat) -> io::Result<bool> {
    let stat = from_stat(&fstat(fd)?);
    Ok((stat.size, stat.modified, stat.changed) == (before.size, before.modified, before.changed))
}

/// Returns the text of the link `name`, or `None` when it is not UTF-8.
pub(crate) fn read_link(folder: BorrowedFd<'_>, name: &str) -> io::Result<Option<String>> {
    Ok(readlinkat(folder, name, Vec::new())?.into_string().ok())
}

/// Returns every name in an open folder but `.` and `..`, in the disk's order.
pub(crate) fn list(folder: BorrowedFd<'_>) -> io::Result<Vec<Vec<u8>>> {
    let mut buffer = Vec::with_capacity(32 * 1024);
    let mut entries = RawDir::new(folder, buffer.spare_capacity_mut());
    let mut names = Vec::new();
    while let Some(entry) = entries.next() {
        match entry {
            Ok(entry) => match entry.file_name().to_bytes() {
                b"." | b".." => {}
                name => names.push(name.to_vec()),
            },
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(names)
}

/// The names in a folder, in order, each with its kind as far as the listing tells.
#[derive(Debug, Default)]
pub(crate) struct Names {
    bytes: Vec<u8>,
    /// Where each begins and ends.
    index: Vec<(usize, usize, FileType)>,
}

impl Names {
    /// Lists an open folder, but for `.` and `..`. `buffer` is what is asked for at once.
    pub(crate) fn read(&mut self, folder: BorrowedFd<'_>, buffer: &mut [MaybeUninit<u8>]) -> io::Result<()> {
        self.bytes.clear();
        self.index.clear();
        let mut entries = RawDir::new(folder, buffer);
        while let Some(entry) = entries.next() {
            match entry {
                Ok(entry) => match entry.file_name().to_bytes() {
                    b"." | b".." => {}
                    name => {
                        let start = self.bytes.len();
                        self.bytes.extend_from_slice(name);
                        self.index.push((start, self.bytes.len(), entry.file_type()));
                    }
                },
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let bytes = &self.bytes;
        self.index.sort_unstable_by(|one, other| bytes[one.0..one.1].cmp(&bytes[other.0..other.1]));
        Ok(())
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&[u8], FileType)> {
        self.index.iter().map(|(start, end, kind)| (&self.bytes[*start..*end], *kind))
    }
}

fn from_statx(stat: &Statx) -> Stat {
    Stat {
        identity: Identity {
            device: u64::from(stat.stx_dev_major) << 32 | u64::from(stat.stx_dev_minor),
            inode: stat.stx_ino,
        },
        kind: kind(FileType::from_raw_mode(u32::from(stat.stx_mode))),
        mode: u32::from(stat.stx_mode) & 0o7777,
        size: stat.stx_size,
        modified: (stat.stx_mtime.tv_sec, stat.stx_mtime.tv_nsec),
        changed: (stat.stx_ctime.tv_sec, stat.stx_ctime.tv_nsec),
        born: (stat.stx_btime.tv_sec, stat.stx_btime.tv_nsec),
        owner: stat.stx_uid,
        mount_root: stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT),
    }
}

#[expect(clippy::useless_conversion, reason = "the widths differ between architectures and C libraries")]
fn from_stat(stat: &rustix::fs::Stat) -> Stat {
    let nanoseconds = |value| u32::try_from(value).unwrap_or(0);
    let device = u64::from(stat.st_dev);
    Stat {
        identity: Identity {
            device: u64::from(rustix::fs::major(device)) << 32 | u64::from(rustix::fs::minor(device)),
            inode: u64::from(stat.st_ino),
        },
        kind: kind(FileType::from_raw_mode(stat.st_mode)),
        mode: stat.st_mode & 0o7777,
        size: u64::try_from(stat.st_size).unwrap_or(0),
        modified: (i64::from(stat.st_mtime), nanoseconds(stat.st_mtime_nsec)),
        changed: (i64::from(stat.st_ctime), nanoseconds(stat.st_ctime_nsec)),
        born: (0, 0),
        owner: stat.st_uid,
        mount_root: false,
    }
}

fn kind(file_type: FileType) -> Kind {
    match file_type {
        FileType::RegularFile => Kind::File,
        FileType::Directory => Kind::Directory,
        FileType::Symlink => Kind::Symlink,
        _ => Kind::Special,
    }
}
