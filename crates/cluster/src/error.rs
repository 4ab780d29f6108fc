//! What a cluster answers when it does not do what was asked.

use crate::port::{Object, Resource};

/// Why a request to the cluster failed. The variants are what callers decide by; the words are the cluster's own.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ClusterError {
    /// 404: the object, or its kind, is not there.
    #[error("{object} not found")]
    NotFound {
        /// What was asked for.
        object: Object,
    },
    /// 409 on create: an object of that name is there.
    #[error("{object} already exists")]
    AlreadyExists {
        /// What was to be created.
        object: Object,
    },
    /// 409: the precondition (resourceVersion, uid) does not hold, after the object changed under us.
    #[error("{object} was changed by someone else: {message}")]
    Conflict {
        /// What was to be changed.
        object: Object,
        /// The server's words.
        message: String,
    },
    /// 403: a right is missing, or admission said no.
    #[error("not allowed to {verb} {object}: {message}")]
    Forbidden {
        /// As in a Role: get, list, create, patch, …
        verb: &'static str,
        /// On what.
        object: Object,
        /// The server's words: Pod Security, quota and webhooks explain themselves here.
        message: String,
    },
    /// 401: the cluster does not know who asks.
    #[error("the cluster {server} does not accept these credentials: {message}")]
    Unauthorized {
        /// The API server's address.
        server: String,
        /// The server's words.
        message: String,
    },
    /// 400 or 422: the object is refused as it is.
    #[error("{object} is not accepted: {message}")]
    Invalid {
        /// What was sent.
        object: Object,
        /// The server's words.
        message: String,
    },
    /// The API server can't be reached, or answered nothing that makes sense, after the retries.
    #[error("cannot reach the cluster {server}: {message}")]
    Unreachable {
        /// The API server's address.
        server: String,
        /// What went wrong.
        message: String,
    },
    /// A write was sent and no answer came: it may have taken place. Read before anything is decided.
    #[error("no answer to {verb} {object}: it may have taken place")]
    Ambiguous {
        /// As in a Role.
        verb: &'static str,
        /// On what.
        object: Object,
    },
    /// Any other answer, after the retries that 429 and 5xx get.
    #[error("{verb} {object} failed with {code}: {message}")]
    Server {
        /// As in a Role.
        verb: &'static str,
        /// On what.
        object: Object,
        /// The HTTP status.
        code: u16,
        /// The server's words.
        message: String,
    },
    /// The kubeconfig can't be used.
    #[error("kubeconfig: {message}")]
    Config {
        /// What is wrong with it, naming file and context.
        message: String,
    },
    /// A process in a pod could not be reached.
    #[error("cannot run {program} in pod {pod}: {message}")]
    Exec {
        /// The pod's name.
        pod: String,
        /// The program.
        program: String,
        /// The server's words.
        message: String,
    },
}

impl ClusterError {
    /// Tells whether the object is not there.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. })
    }

    /// Tells whether asking again later may help without anyone's doing.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Ambiguous { .. } | Self::Exec { .. } => true,
            Self::Server { code, .. } => *code == 429 || *code >= 500,
            Self::NotFound { .. }
            | Self::AlreadyExists { .. }
            | Self::Conflict { .. }
            | Self::Forbidden { .. }
            | Self::Unauthorized { .. }
            | Self::Invalid { .. }
            | Self::Config { .. } => false,
        }
    }

    /// Returns a name for an object that a whole kind stands for, as list and watch errors need.
    pub fn kind_of(resource: &'static Resource, namespace: &str) -> Object {
        Object { resource, namespace: namespace.to_owned(), name: String::new() }
    }
}
