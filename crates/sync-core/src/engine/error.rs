//! What a replica must not do.

use crate::delta::DeltaError;
use crate::engine::Side;
use crate::message::RequestId;
use crate::outline::SameError;
use crate::path::RelPath;

/// A replica broke the rules: nothing of the message was believed, and its connection must be closed
/// ([`Engine::handle_disconnected`](crate::engine::Engine::handle_disconnected)).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    /// It answered what was not asked.
    #[error("{} side answered a request {id} that was not made", side.name())]
    UnknownRequest {
        /// Who.
        side: Side,
        /// The id it named.
        id: RequestId,
    },
    /// It gave an answer of a kind that its question does not have.
    #[error("{} side sent {what} out of turn", side.name())]
    OutOfTurn {
        /// Who.
        side: Side,
        /// What came.
        what: &'static str,
    },
    /// The content it sent is not what was announced.
    #[error("{} side sent wrong content for {path}", side.name())]
    Content {
        /// Who.
        side: Side,
        /// Whose content.
        path: RelPath,
        /// What is wrong.
        source: DeltaError,
    },
    /// Its block sums do not fit the file.
    #[error("{} side sent a signature that does not fit {path}", side.name())]
    Signature {
        /// Who.
        side: Side,
        /// Whose.
        path: RelPath,
    },
    /// It spoke of our private folder.
    #[error("{} side named the private path {path}", side.name())]
    PrivatePath {
        /// Who.
        side: Side,
        /// Which.
        path: RelPath,
    },
    /// It spoke of other pieces than it was told of.
    #[error("{} side: {source}", side.name())]
    Same {
        /// Who.
        side: Side,
        /// What is wrong.
        source: SameError,
    },
    /// It has more entries than are allowed.
    #[error("{} side has more than {limit} entries", side.name())]
    TooManyEntries {
        /// Who.
        side: Side,
        /// How many are allowed.
        limit: usize,
    },
}
