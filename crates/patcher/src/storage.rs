//! What the manifest wants mounted beside the workload's own volumes.

/// Volumes of the dev container. The names of the claims and of the Secret are the caller's; nothing of a file's
/// content is in here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Storage {
    /// The claim that keeps files between sessions, by name; without one, what is kept lasts as long as the pod.
    pub claim: Option<String>,
    /// Folders of the container that are kept.
    pub kept: Vec<Kept>,
    /// Claims that exist already.
    pub external: Vec<External>,
    /// Files of the user's machine.
    pub secret: Option<SecretVolume>,
}

/// A folder of the container that is kept. It begins with what the image has there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Absolute.
    pub path: String,
    /// Its folder in the claim, relative.
    pub sub_path: String,
}

/// A claim that exists already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct External {
    /// The claim's name.
    pub claim: String,
    /// The folder inside it; all of it when absent.
    pub sub_path: Option<String>,
    /// Where it is mounted, absolute.
    pub path: String,
}

/// The Secret that carries the user's files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretVolume {
    /// The Secret's name.
    pub name: String,
    /// Stands for what the files hold: another content makes another pod, since a mounted file never changes.
    pub digest: String,
    /// Its files.
    pub files: Vec<SecretFile>,
}

/// One file of a Secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretFile {
    /// The key in the Secret.
    pub key: String,
    /// Where it is mounted, absolute.
    pub path: String,
    /// Its permission bits.
    pub mode: u32,
}

impl Storage {
    /// Tells whether a folder of the container is a kept one.
    pub fn keeps(&self, path: &str) -> bool {
        self.kept.iter().any(|kept| kept.path == path)
    }
}
