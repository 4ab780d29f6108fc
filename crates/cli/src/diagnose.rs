//! One place that turns every library's error into words, hints and an exit code.

use towline_cluster::ClusterError;
use towline_session::SessionError;
use towline_session::exec::ExecError;
use towline_sync::SyncError;

use crate::exit_code;

/// What the user is told when something can't be done.
#[derive(Debug)]
pub(crate) struct Failure {
    /// What went wrong: lower case, no final stop.
    pub(crate) message: String,
    /// What to do, a line each.
    pub(crate) hints: Vec<String>,
    /// More to read, as it is: a Role, an excerpt.
    pub(crate) detail: Option<String>,
    /// The process's exit code.
    pub(crate) code: u8,
}

impl Failure {
    /// The user's input or the cluster said no.
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hints: Vec::new(), detail: None, code: exit_code::REFUSED }
    }

    /// A session could not go on.
    pub(crate) fn of_session(message: String, code: i32) -> Self {
        let failure = Self::new(message).code(u8::try_from(code).unwrap_or(exit_code::REFUSED));
        if ["ImagePull", "ErrImage", "InvalidImageName"].iter().any(|reason| failure.message.contains(reason))
        {
            failure.hint("is the image's name right, and may the cluster pull it? see the manifest's image")
        } else if failure.code == exit_code::NOT_FOUND {
            failure.hint("correct the manifest's command, or name another: towline up -- CMD")
        } else {
            failure
        }
    }

    /// Adds what to do.
    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// Changes the exit code.
    #[must_use]
    pub(crate) fn code(mut self, code: u8) -> Self {
        self.code = code;
        self
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::new(error.to_string())
    }
}

impl From<ExecError> for Failure {
    fn from(error: ExecError) -> Self {
        let code = error.code;
        Self::new(error.message).code(code)
    }
}

impl From<ClusterError> for Failure {
    fn from(error: ClusterError) -> Self {
        let failure = Self::new(error.to_string());
        match error {
            ClusterError::Unauthorized { .. } => {
                failure.hint("log in again, or choose another context: --context NAME")
            }
            ClusterError::Unreachable { .. } => {
                failure.hint("is the cluster up, and this machine on its network? try: kubectl cluster-info")
            }
            ClusterError::Config { .. } => {
                failure.hint("see which contexts there are: kubectl config get-contexts")
            }
            ClusterError::Forbidden { message, .. } if message.contains("PodSecurity") => failure.hint(
                "the namespace enforces Pod Security: set what it asks for in the manifest's securityContext",
            ),
            ClusterError::Forbidden { message, .. } if message.contains("quota") => {
                failure.hint("lower the manifest's resources, or free some: kubectl describe resourcequota")
            }
            _ => failure,
        }
    }
}

impl From<SessionError> for Failure {
    fn from(error: SessionError) -> Self {
        let failure = Self::new(error.to_string());
        match error {
            SessionError::Cluster(error) => error.into(),
            SessionError::WorkloadMissing { nearest, namespace, .. } => match nearest.as_slice() {
                [] => failure
                    .hint(format!("there is nothing like it in namespace {namespace}: choose one with -n")),
                [first, ..] => failure
                    .hint(format!("did you mean {first}? there is: {}", nearest.join(", ")))
                    .hint("name it in the manifest: the key below dev, or its selector"),
            },
            SessionError::WorkloadAmbiguous { .. } => {
                failure.hint("name one with its kind in the manifest, as name: statefulset/db, or add labels")
            }
            SessionError::Refused { hint, .. } => failure.hint(hint),
            SessionError::Obstacles { obstacles } => {
                obstacles.into_iter().fold(failure, |failure, obstacle| failure.hint(obstacle.mend))
            }
            SessionError::StillPaused { .. } => failure
                .hint("everything else is as it was; with the right to patch it, or by someone who has it: towline down"),
            SessionError::RightsMissing { namespace, role, .. } => {
                let secrets = if role.contains("secrets") {
                    "its right on Secrets is for the manifest's secrets, and reads none"
                } else {
                    "it needs no right on Secrets"
                };
                let mut failure = failure
                    .hint(format!("ask for this Role and a RoleBinding to you; {secrets}"))
                    .hint(format!("see what you may: kubectl auth can-i --list -n {namespace}"));
                failure.detail = Some(role);
                failure
            }
            SessionError::Held { alive, .. } => {
                let failure =
                    if alive { failure } else { failure.hint("its holder has not been heard of lately") };
                failure
                    .hint("ask them, or take over: towline up --takeover")
                    .hint("or end their session: towline down --force")
            }
            SessionError::NotHeld { .. } => failure.hint("see who develops on what: towline status"),
            SessionError::Drifted { .. } => {
                failure.hint("a webhook or policy of the cluster changes pods: ask its administrators")
            }
            SessionError::PortInUse { port } => failure
                .hint(format!("find out by whom: ss -ltnp 'sport = :{port}'"))
                .hint("or choose another local port in the manifest's forward"),
            SessionError::FolderBusy { .. } => failure.hint("end that session first: towline status"),
            SessionError::Record { .. } => failure.hint("use the version of towline that wrote it"),
            SessionError::Plan(_)
            | SessionError::Listen { .. }
            | SessionError::Ignore { .. }
            | SessionError::Local { .. }
            | SessionError::Failed { .. } => failure,
        }
    }
}

impl From<SyncError> for Failure {
    fn from(error: SyncError) -> Self {
        let failure = Self::new(error.to_string());
        match error {
            SyncError::Busy { .. } => failure.hint("end that one first, or leave the pair to it"),
            SyncError::State { .. } | SyncError::Agent { .. } => failure,
        }
    }
}
