//! Links over an in-memory stream, in paused time.

mod channels;
mod ends;
mod messages;
mod pair;
